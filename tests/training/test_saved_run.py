"""A run opened for use: which checkpoint, on which devices, and what translating with it promises."""

import shutil

import jax
import numpy as np
import pytest
import tiny_run
from etils import epath

import transformer
from transformer import config as config_module
from transformer import sharding
from transformer.config import ConfigError, MeshConfig
from transformer.training import manifest
from transformer.training.checkpoint import CheckpointError, CheckpointReader
from transformer.training.saved_run import choose, open_translator, to_average, write_average
from transformer.training.workdir import Workdir, WorkdirError

SENTENCES = [
    "anna is very kind",
    "ben is not tall",
    "",
    "clara is quite young",
    "finn is always happy",
    "ben is not tall",
]


@pytest.fixture(scope="module")
def run():
    return Workdir(tiny_run.trained())


@pytest.fixture
def copy(run, tmp_path):
    """The run, to be changed."""
    shutil.copytree(run.root, tmp_path / "copy")
    return Workdir(tmp_path / "copy")


@pytest.fixture(scope="module")
def translator(run):
    with tiny_run.on_devices(1):
        return open_translator([run])


@pytest.fixture(scope="module")
def trained_on_eight(tmp_path_factory):
    """Two steps on 2 x 2 x 2 devices."""
    folder = tmp_path_factory.mktemp("eight")
    config = tiny_run.config(folder)
    config.training.steps, config.evaluation.bleu_sentences = 2, 0
    config.mesh.data = config.mesh.fsdp = config.mesh.tensor = 2
    tiny_run.train_steps(config, folder / "workdir", devices=8)
    return Workdir(folder / "workdir")


def one_device() -> jax.sharding.Mesh:
    return sharding.make_mesh(MeshConfig(), jax.devices()[:1])


# --- which checkpoint ---


def best_step(workdir: Workdir) -> int:
    reader = CheckpointReader(workdir.checkpoints)
    return max(reader.steps(), key=lambda step: reader.read_metadata(step).metrics.get("bleu", -1))


def test_choices(run):
    best = best_step(run)
    assert choose(run, "last").name == "step 72"
    assert choose(run, "60").name == "step 60"
    assert choose(run, "best").name == choose(run, "auto").name == f"step {best}, the best by bleu"
    assert {saved.subtree for saved in (choose(run, "last"), choose(run, "best"))} == {"params"}


@pytest.mark.parametrize(
    ("which", "message"),
    [
        ("26", r"has no step 26. It has \[48, 60, 72\]"),
        ("worst", "--checkpoint=worst is none of auto, best, last, average or a step"),
        ("average", "holds no average. Make one: transformer average --workdir="),
    ],
)
def test_what_is_not_there(run, which, message):
    with pytest.raises(WorkdirError, match=message):
        choose(run, which)


def test_empty_work_directory(tmp_path):
    with pytest.raises(WorkdirError, match="holds no checkpoint. Train first"):
        transformer.load(tmp_path)


def test_average_is_used_until_training_goes_on(copy):
    assert write_average(copy, [60, 72], one_device()).name == "average up to step 72"
    assert choose(copy).name == choose(copy, "average").name == "average up to step 72"
    reader, average = CheckpointReader(copy.checkpoints), CheckpointReader(copy.average)
    expected = jax.tree.map(lambda a, b: (a + b) / 2, *(reader.restore_params(step) for step in (60, 72)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-7), average.restore_params(), expected)

    write_average(copy, [48, 60, 72], one_device())  # replaces it
    assert average.steps() == [72]
    shutil.copytree(copy.checkpoints / "72", copy.checkpoints / "99")
    manifest = copy.checkpoints / "99" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"step": 72', '"step": 99'))
    assert choose(copy).name.startswith("step ")


def damage(workdir: Workdir, step: int) -> None:
    victim = max((workdir.checkpoints / str(step) / "state").rglob("*"), key=lambda path: path.stat().st_size)
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)


def test_damaged_last_gives_way_to_the_one_before(copy, caplog):
    damage(copy, 72)
    assert choose(copy, "last").name == "step 60"
    assert "differs from its checksum. Using step 60 instead" in caplog.text
    with pytest.raises(CheckpointError, match="differs from its checksum"):
        choose(copy, "72")


def test_damaged_checkpoints_are_left_out_of_an_average(copy, caplog):
    assert to_average(copy, 4) == [48, 60, 72]
    damage(copy, 60)
    assert to_average(copy, 3) == [48, 72]
    assert "checkpoints/60 cannot be used: " in caplog.text
    for step in (48, 72):
        damage(copy, step)
    with pytest.raises(WorkdirError, match="holds no sound checkpoint"):
        to_average(copy, 3)


def test_damaged_best_gives_way_to_the_last(copy, caplog, monkeypatch):
    monkeypatch.setattr(CheckpointReader, "best", lambda self, metric: 48)
    damage(copy, 48)
    with pytest.raises(CheckpointError, match="48 cannot be used"):
        choose(copy, "best")
    assert choose(copy).name == "step 72"
    assert "Using step 72, the last, instead of the best" in caplog.text


def test_damaged_average_gives_way_to_the_run(copy, caplog):
    write_average(copy, [60, 72], one_device())
    content = next(file for file in (copy.average / "72" / "state").rglob("*") if file.is_file())
    content.write_bytes(content.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="no usable checkpoint in .*average"):
        choose(copy, "average")
    assert choose(copy).name == f"step {best_step(copy)}, the best by bleu"
    assert "Using the run's own checkpoints instead of the average" in caplog.text


# --- translating ---


def test_order_is_kept_and_empty_lines_stay_empty(translator):
    outputs = translator.translate(SENTENCES)
    assert len(outputs) == len(SENTENCES)
    assert [not output for output in outputs] == [not source for source in SENTENCES]
    assert outputs[1] == outputs[5]
    assert translator.translate(SENTENCES[::-1]) == outputs[::-1]
    assert translator.translate([]) == []


def test_one_at_a_time_is_the_same(translator):
    together = translator.hypotheses(SENTENCES, 2)
    for source, expected in zip(SENTENCES, together, strict=True):
        [alone] = translator.hypotheses([source], 2)
        assert [h.text for h in alone] == [h.text for h in expected]
        assert [h.score for h in alone] == pytest.approx([h.score for h in expected], abs=1e-5)


def test_single_string_is_refused(translator):
    with pytest.raises(TypeError, match="Give a list of sentences, such as"):
        translator.translate("anna is very kind")


def test_n_best_is_sorted_and_its_scores_are_consistent(translator):
    best = translator.translate(SENTENCES)
    for source, output, hypotheses in zip(SENTENCES, best, translator.hypotheses(SENTENCES, 2), strict=True):
        scores = [h.score for h in hypotheses]
        assert hypotheses[0].text == output
        assert scores == sorted(scores, reverse=True)
        assert len({h.text for h in hypotheses}) == len(hypotheses) == (2 if source else 1)
        for h in hypotheses:
            # score = log-probability / ((5 + length) / 6)^0.6, with a length of at least EOS alone.
            assert h.log_probability <= h.score <= 0


def test_more_than_the_beam_holds_is_refused(translator):
    with pytest.raises(ConfigError, match="cannot give 3 translations"):
        translator.hypotheses(SENTENCES, 3)


# --- other devices ---


def test_translates_the_same_on_eight_devices(run, translator):
    on_eight = transformer.load(run.root)
    assert on_eight.translate(SENTENCES) == translator.translate(SENTENCES)


def test_trained_on_eight_and_opened_on_one(trained_on_eight):
    """All arrays are the same; so are the translations."""
    on_eight = open_translator([trained_on_eight], ["last"])
    with tiny_run.on_devices(1):
        on_one = open_translator([trained_on_eight], ["last"])
    jax.tree.map(np.testing.assert_array_equal, on_one._params[0], on_eight._params[0])
    assert all(len(leaf.sharding.device_set) == 1 for leaf in jax.tree.leaves(on_one._params[0]))
    assert on_one.translate(SENTENCES, beam_size=1) == on_eight.translate(SENTENCES, beam_size=1)


def test_training_goes_on_with_fewer_devices(trained_on_eight, tmp_path):
    """And comes to what it comes to on the eight, but for rounding."""
    losses = []
    for devices in (8, 1):
        workdir = tmp_path / str(devices)
        shutil.copytree(trained_on_eight.root, workdir)
        config = config_module.from_json((workdir / "config.json").read_text())
        config.training.steps = 4
        if devices == 1:
            config.mesh.data = config.mesh.fsdp = config.mesh.tensor = 1
        tiny_run.train_steps(config, workdir, devices=devices)
        losses.append(CheckpointReader(workdir / "checkpoints").read_metadata(4).metrics["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


# --- ensembles ---


def test_ensemble_of_a_run_with_itself_is_that_run(run, translator):
    with tiny_run.on_devices(1):
        twice = open_translator([run, run])
    for pair, single in zip(twice.hypotheses(SENTENCES, 2), translator.hypotheses(SENTENCES, 2), strict=True):
        assert [h.text for h in pair] == [h.text for h in single]
        assert [h.score for h in pair] == pytest.approx([h.score for h in single], abs=1e-4)


def test_an_ensemble_is_none_of_its_members(run, copy):
    """That probabilities are averaged is tested where they are: tests/decoding."""
    shutil.rmtree(copy.checkpoints / "72")
    shutil.rmtree(copy.checkpoints / "60")
    with tiny_run.on_devices(1):
        members = [open_translator([run], ["last"]), open_translator([copy], ["last"])]
        both = open_translator([run, copy], ["last"])
    assert both.translate(SENTENCES)[2] == ""
    scores = [[h[0].log_probability for h in t.hypotheses(SENTENCES, 1)] for t in (*members, both)]
    assert not np.allclose(scores[0], scores[1], atol=1e-3)
    assert not np.allclose(scores[2], scores[0], atol=1e-3)
    assert not np.allclose(scores[2], scores[1], atol=1e-3)


def test_ensemble_of_a_runs_checkpoints(run, copy):
    with tiny_run.on_devices(1):
        of_one, of_two = open_translator([run], ["48", "last"]), open_translator([run, copy], ["48", "last"])
        last = open_translator([run], ["last"])
    scores = [[h[0].score for h in t.hypotheses(SENTENCES, 1)] for t in (of_one, of_two, last)]
    assert scores[0] == scores[1] != scores[2]


def test_members_of_an_ensemble_may_differ_in_shape(run, tmp_path):
    """With one vocabulary. The small one is of random parameters, and drags the other's probabilities down."""
    config = tiny_run.trained_config()
    config.model.num_decoder_layers, config.model.d_ff = 2, 8
    config.training.steps, config.evaluation.bleu_sentences = 1, 0
    tiny_run.train_steps(config, tmp_path / "other")
    with tiny_run.on_devices(1):
        alone, both = open_translator([run]), open_translator([run, Workdir(tmp_path / "other")])
    scores = [[h[0].log_probability for h in t.hypotheses(SENTENCES[:2], 1)] for t in (alone, both)]
    assert all(together < single for single, together in zip(*scores, strict=True))


def test_members_of_an_ensemble_share_a_vocabulary(run, copy):
    for step in CheckpointReader(copy.checkpoints).steps():
        for file in (copy.checkpoints / str(step) / "tokenizer").iterdir():
            file.write_bytes(file.read_bytes() + b"\0")
        (copy.checkpoints / str(step) / manifest.NAME).unlink()
        manifest.write(epath.Path(copy.checkpoints / str(step)), step)
    with pytest.raises(WorkdirError, match="has another vocabulary than"):
        open_translator([run, copy])


def test_number_of_checkpoints_and_runs(run, copy):
    with pytest.raises(WorkdirError, match="names 3 checkpoints for 2 runs. Give one for all of them, or one for each"):
        open_translator([run, copy], ["48", "60", "last"])


# --- trust ---


def replace(workdir: Workdir, step: int, config_json: str) -> None:
    """Another config for a checkpoint, with a manifest that agrees to it."""
    from etils import epath

    from transformer.training import manifest

    folder = workdir.checkpoints / str(step)
    (folder / "config.json").write_text(config_json)
    (folder / "manifest.json").unlink()
    manifest.write(epath.Path(folder), step)


@pytest.fixture
def outside(copy, tmp_path, monkeypatch):
    """A run whose attention is in a module outside the package, which notes that it was imported."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "outside_attention.py").write_text(
        "from pathlib import Path\n"
        "from transformer.model.attention import MultiHeadAttention as Local\n"
        f"Path({str(tmp_path / 'imported')!r}).touch()\n"
    )
    monkeypatch.syspath_prepend(tmp_path / "modules")
    for step in CheckpointReader(copy.checkpoints).steps():
        config = config_module.from_json((copy.checkpoints / str(step) / "config.json").read_text())
        config.model.attention = "outside_attention:Local"
        replace(copy, step, config_module.to_json(config))
    return copy


def test_code_outside_the_package_runs_only_with_leave(outside, tmp_path):
    with pytest.raises(ConfigError, match="--allow_code=outside_attention"):
        transformer.load(outside.root)
    assert not (tmp_path / "imported").exists()
    transformer.load(outside.root, allow_code=["outside_attention"])
    assert (tmp_path / "imported").exists()

"""The loop as a whole: what a run writes and when, what it does about non-finite steps, how it is started again."""

import dataclasses
import functools
import json
import shutil
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_run

from transformer import config as config_module
from transformer.config import ConfigError
from transformer.data.batches import Batches
from transformer.training import metrics_log
from transformer.training.checkpoint import CheckpointReader
from transformer.training.loop import AHEAD, Due, NonFiniteError
from transformer.training.run import Run
from transformer.training.step import Trainer
from transformer.training.workdir import Workdir, WorkdirError

BAD_STEP = 7
MARK = 77  # a source of nothing else does not occur


@pytest.fixture
def config(tmp_path):
    return tiny_run.config(tmp_path)


@pytest.fixture
def workdir(tmp_path):
    return tmp_path / "workdir"


def records(workdir: Path) -> list[dict]:
    return metrics_log.read(workdir / "metrics.jsonl")


def state(workdir: Path, step: int | None = None) -> dict[str, np.ndarray]:
    """Every array of a checkpoint, by name."""
    tree = CheckpointReader(workdir / "checkpoints").restore_params(step, subtree="")
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


# --- a run from beginning to end ---


@pytest.fixture(scope="module")
def run():
    return tiny_run.trained()


def test_logs_every_line_once_and_in_order(run):
    assert [record["step"] for record in records(run)] == list(range(4, 73, 4))
    assert [record["step"] for record in records(run) if "val/loss" in record] == [24, 48, 72]


@dataclasses.dataclass
class SingleSteps:
    """Eight steps, all of them logged. `logged[s]` is the last one in the log when step s was saved."""

    workdir: Path
    logged: dict[int, int]


@pytest.fixture(scope="module")
def single_steps(tmp_path_factory):
    folder = tmp_path_factory.mktemp("single")
    config = tiny_run.config(folder)
    config.training.steps, config.training.log_every, config.checkpoint.every = 8, 1, 4
    config.evaluation.bleu_sentences = 0
    save, logged = Run.save, {}

    def save_and_look(run, checkpoints, step, *rest):
        logged[step] = records(folder / "workdir")[-1]["step"]
        save(run, checkpoints, step, *rest)

    with mock.patch.object(Run, "save", save_and_look):
        tiny_run.train_steps(config, folder / "workdir")
    return SingleSteps(folder / "workdir", logged)


def test_record_is_written_before_its_checkpoint(single_steps):
    """Else a run resumed from that checkpoint would lack it."""
    assert single_steps.logged == {4: 4, 8: 8}


def test_record_holds_the_means_since_the_one_before(run, single_steps):
    single = records(single_steps.workdir)
    for record, part in zip(records(run), (single[:4], single[4:8]), strict=False):
        tokens = np.array([one["train/target_tokens"] for one in part])
        assert record["train/target_tokens"] == tokens.sum()
        assert record["train/source_tokens"] == sum(one["train/source_tokens"] for one in part)
        for field in ("train/loss", "train/nll", "train/accuracy"):
            assert record[field] == pytest.approx(np.average([one[field] for one in part], weights=tokens), rel=1e-5)
        mean_norm = np.mean([one["train/gradient_norm"] for one in part])
        assert record["train/gradient_norm"] == pytest.approx(mean_norm, rel=1e-5)
        assert record["train/learning_rate"] == part[-1]["train/learning_rate"]


def test_learning_rate_is_that_of_the_step(run):
    # Ten steps of warm-up to 0.01.
    assert [r["train/learning_rate"] for r in records(run)] == pytest.approx([0.004, 0.008, *[0.01] * 16])


def test_learns(run):
    losses = [record["train/loss"] for record in records(run)]
    assert losses[-1] < 0.4 * losses[0]


def test_leaves_everything_in_the_work_directory(run):
    names = {path.name for path in run.iterdir()}
    assert names == {
        *("attention.png", "checkpoints", "config.json", "curves.png", "metrics.jsonl", "profile", "summary.json"),
        "tensorboard",
    }
    assert config_module.from_json((run / "config.json").read_text()) == tiny_run.trained_config()
    assert CheckpointReader(run / "checkpoints").steps() == [48, 60, 72]


def test_traces_the_steps_asked_for(run):
    assert list((run / "profile").rglob("*.xplane.pb"))


def test_summary(run):
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["steps"], summary["reason"]) == (72, "all steps done")
    assert (Path(summary["checkpoint"]) / "manifest.json").is_file()
    assert summary["chosen"].startswith(f"step {Path(summary['checkpoint']).name}")
    assert summary["seconds"] == records(run)[-1]["time/elapsed_s"]
    assert [score["name"].partition(" of ")[2] for score in summary["scores"]] == [
        f"lines:{run.parent}/test.en:{run.parent}/test.de"
    ] * 4


def test_checkpoint_knows_where_it_stands(run):
    found = CheckpointReader(run / "checkpoints").read_metadata()
    assert found.data_position["next_index"] == 72
    validation = {name.removeprefix("val/"): v for name, v in records(run)[-1].items() if name.startswith("val/")}
    assert found.metrics == validation
    assert config_module.from_json(found.config_json) == tiny_run.trained_config()


# --- started again ---


def test_finished_run_started_again_reports_again(run, tmp_path):
    again = tmp_path / "again"
    shutil.copytree(run, again)
    for name in ("summary.json", "curves.png", "attention.png"):
        (again / name).unlink()
    summary = tiny_run.train(tiny_run.trained_config(), again)
    before, after = (json.loads((folder / "summary.json").read_text()) for folder in (run, again))
    assert after["scores"] == before["scores"]
    assert (summary.steps, summary.reason, after["seconds"]) == (72, "all steps done", before["seconds"])
    assert records(again) == records(run)
    assert (again / "curves.png").exists()
    assert (again / "attention.png").exists()


def test_run_that_has_more_steps_than_asked_for_is_finished(run, tmp_path):
    again = tmp_path / "again"
    shutil.copytree(run, again)
    config = tiny_run.trained_config()
    config.training.steps, config.data.test = 10, ()
    assert tiny_run.train(config, again).steps == 72
    assert records(again) == records(run)


def test_goes_on_with_more_steps(run, config, workdir):
    """Thirty and then forty-two more are seventy-two."""
    config.training.steps = 30
    tiny_run.train_steps(config, workdir)
    config.training.steps = 72
    tiny_run.train_steps(config, workdir)
    mine, whole = state(workdir), state(run)
    assert all(np.array_equal(mine[name], whole[name]) for name in whole)


def test_model_that_does_not_fit_is_refused_before_the_config_is_replaced(run, tmp_path):
    again = tmp_path / "again"
    shutil.copytree(run, again)
    config = tiny_run.trained_config()
    config.model.d_ff = 48
    with pytest.raises(ConfigError, match="config.model.d_ff = 48: it was 32"):
        tiny_run.train(config, again)
    assert (again / "config.json").read_bytes() == (run / "config.json").read_bytes()


def test_work_directory_that_cannot_be_is_told_before_anything_is_done(config, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkdirError, match="is a file. Choose another"):
        tiny_run.train(config, tmp_path / "file" / "workdir")
    assert not (tmp_path / "cache").exists()


def test_faulty_config_leaves_no_work_directory(config, workdir):
    config.model.num_heads = 3
    with pytest.raises(ConfigError, match="num_heads"):
        tiny_run.train(config, workdir)
    assert not workdir.exists()


def test_relative_work_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = Workdir(Path("runs/mine"))
    monkeypatch.chdir("/")
    assert found.checkpoints == tmp_path / "runs/mine/checkpoints"


# --- the device is not made to wait ---


def test_reports_are_read_late(config, workdir, monkeypatch):
    """A step's report is read when AHEAD more have been started, or before something is written; never sooner."""
    started, read = [], {}

    class Spy:
        def __init__(self, report):
            self.report, self.step = report, len(started)

        @property
        def bad_step(self):
            read[self.step] = len(started)
            return self.report.bad_step

        def __getattr__(self, name):
            return getattr(self.report, name)

    step_of = Trainer.__dict__["train_step"].func

    def spied(trainer):
        step = step_of(trainer)

        def start(state, batch):
            started.append(None)
            state, report = step(state, batch)
            return state, Spy(report)

        return start

    spying = functools.cached_property(spied)
    spying.__set_name__(Trainer, "train_step")
    monkeypatch.setattr(Trainer, "train_step", spying)
    config.training.steps, config.evaluation.every, config.checkpoint.every = 14, 1000, 1000
    config.evaluation.bleu_sentences = 0
    tiny_run.train_steps(config, workdir)
    assert read == {step: min(step + AHEAD, -(-step // 4) * 4, 14) for step in range(1, 15)}


@pytest.mark.parametrize(
    ("step", "stopping", "expected"),
    [
        (1, False, Due(log=False, validation=False, save=False, stop=False)),
        (4, False, Due(log=True, validation=False, save=False, stop=False)),
        (5, False, Due(log=False, validation=False, save=True, stop=False)),
        (5, True, Due(log=False, validation=False, save=True, stop=True)),
        (7, True, Due(log=False, validation=False, save=True, stop=True)),
        (8, False, Due(log=True, validation=True, save=True, stop=False)),
        (23, False, Due(log=True, validation=True, save=True, stop=False)),
    ],
)
def test_what_is_due(config, step, stopping, expected):
    config.training.steps, config.evaluation.every, config.checkpoint.every = 23, 8, 5
    assert Due.after(step, config, stopping=stopping) == expected


def test_other_text_under_the_same_name_is_noticed(config, workdir, caplog):
    config.training.steps, config.evaluation.bleu_sentences = 2, 0
    tiny_run.train_steps(config, workdir)
    config.training.steps = 3
    tiny_run.train_steps(config, workdir)
    assert "no exact continuation" not in caplog.text
    for side in ("en", "de"):
        path = workdir.parent / f"train.{side}"
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    config.training.steps = 4
    tiny_run.train_steps(config, workdir)
    assert "The training examples are not those of step 3: this is no exact continuation" in caplog.text


# --- a loss that is not finite ---


@pytest.fixture
def target_tokens(monkeypatch):
    """Batch BAD_STEP - 1 has a loss of NaN. Returns the number of target tokens of the batches read so far."""
    rows, loss_sums, tokens = Batches.rows, Trainer._loss_sums, {}

    def with_a_marked_one(self, i, *process):
        batch = rows(self, i, *process)
        tokens[i] = int((batch["target_segments"] > 0).sum())
        return batch | {"source": np.full_like(batch["source"], MARK)} if i == BAD_STEP - 1 else batch

    def bad_for_the_marked_one(self, params, batch, key):
        sums = loss_sums(self, params, batch, key)
        bad = jnp.all(batch["source"] == MARK)
        return dataclasses.replace(sums, loss=sums.loss * jnp.where(bad, jnp.nan, 1.0))

    monkeypatch.setattr(Batches, "rows", with_a_marked_one)
    monkeypatch.setattr(Trainer, "_loss_sums", bad_for_the_marked_one)
    return tokens


def test_stop_and_then_skip(config, workdir, target_tokens, capsys):
    config.training.steps, config.evaluation.bleu_sentences, config.checkpoint.every = 16, 0, 5
    with pytest.raises(NonFiniteError, match=f"Step {BAD_STEP}: .* batch is number {BAD_STEP - 1}: .*non_finite=skip"):
        tiny_run.train_steps(config, workdir)
    assert CheckpointReader(workdir / "checkpoints").steps() == [5, BAD_STEP - 1]
    saved = state(workdir)
    assert all(np.isfinite(array).all() for array in saved.values())
    assert counters(saved) == Counters(step=BAD_STEP - 1, bad_step=0, skipped=0)
    assert [record["step"] for record in records(workdir)] == [4]

    # Again: it stops at the same step, and what is saved stays as it is.
    with pytest.raises(NonFiniteError, match=f"Step {BAD_STEP}: .* Step {BAD_STEP - 1} is saved in"):
        tiny_run.train_steps(config, workdir)
    assert all(np.array_equal(array, saved[name]) for name, array in state(workdir).items())

    config.training.non_finite = "skip"
    capsys.readouterr()
    tiny_run.train_steps(config, workdir)
    assert f"step {BAD_STEP}: the loss or the gradient is not finite; it is skipped" in capsys.readouterr().err
    lines = records(workdir)
    assert [line["step"] for line in lines] == [4, 8, 12, 16]
    assert [line["train/skipped"] for line in lines] == [0, 1, 1, 1]
    assert lines[1]["train/target_tokens"] == target_tokens[4] + target_tokens[5] + target_tokens[7]
    assert lines[1]["train/learning_rate"] == pytest.approx(0.007)  # of the seventh update
    assert all(line["train/loss"] < 6 for line in lines)
    after = state(workdir)
    assert all(np.isfinite(array).all() for array in after.values())
    assert counters(after) == Counters(step=16, bad_step=BAD_STEP, skipped=1)

    # A batch that was skipped once is no reason to stop later.
    config.training.non_finite, config.training.steps = "stop", 20
    tiny_run.train_steps(config, workdir)
    assert counters(state(workdir)) == Counters(step=20, bad_step=0, skipped=1)


def test_skipping_gives_up(config, workdir, monkeypatch):
    """Nothing is lost and nothing is learnt: the parameters are those before the first skipped step."""
    monkeypatch.setattr("transformer.training.non_finite.GIVE_UP_AFTER", 5)
    loss_sums = Trainer._loss_sums

    def always_bad(self, params, batch, key):
        sums = loss_sums(self, params, batch, key)
        return dataclasses.replace(sums, loss=sums.loss * jnp.nan)

    config.training.steps, config.evaluation.bleu_sentences = 3, 0
    tiny_run.train_steps(config, workdir)
    before = state(workdir)
    config.training.steps, config.training.non_finite = 40, "skip"
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_loss_sums", always_bad)
        with pytest.raises(NonFiniteError, match="not finite in 5 steps one after the other, the last of them step 8"):
            tiny_run.train_steps(config, workdir)
    after = state(workdir)
    assert counters(after).skipped == counters(after).step - 3 >= 5
    for name, array in before.items():
        if name.startswith("['params']"):
            assert np.array_equal(array, after[name]), name


@dataclasses.dataclass
class Counters:
    step: int
    bad_step: int
    skipped: int


def counters(arrays: dict[str, np.ndarray]) -> Counters:
    return Counters(*(int(arrays[f"['{field.name}']"]) for field in dataclasses.fields(Counters)))


def test_absurd_learning_rate_never_puts_anything_that_is_not_finite_on_disk(config, workdir):
    config.optimizer.learning_rate, config.optimizer.warmup_steps = 1e38, 1
    config.checkpoint.every, config.checkpoint.keep_last, config.evaluation.bleu_sentences = 1, 8, 0
    with pytest.raises(NonFiniteError):
        tiny_run.train_steps(config, workdir)
    for step in CheckpointReader(workdir / "checkpoints").steps():
        assert all(np.isfinite(array).all() for array in state(workdir, step).values())

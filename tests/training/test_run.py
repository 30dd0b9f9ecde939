"""What a run refuses or says before its first step."""

import pytest
import tiny_run

from transformer import config as config_module
from transformer.config import ConfigError
from transformer.training import resume
from transformer.training import run as run_module
from transformer.training.checkpoint import CheckpointReader
from transformer.training.run import Run
from transformer.training.workdir import Workdir


@pytest.fixture
def opened(caplog):
    """Opens the tiny run again with one field changed; gives the warnings."""

    def opened(name, value):
        config = tiny_run.trained_config()
        section, _, field = name.rpartition(".")
        setattr(getattr(config, section) if section else config, field, value)
        workdir = Workdir(tiny_run.trained())
        caplog.clear()
        with tiny_run.on_devices(1), caplog.at_level("INFO"):
            Run.open(config, workdir)
        return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]

    return opened


def test_an_unchanged_run_goes_on_without_a_word(opened):
    assert opened("training.log_every", 5) == []


@pytest.mark.parametrize(
    ("name", "value"), [("vocab_size", 100), ("algorithm", "unigram"), ("shared", False), ("byte_fallback", True)]
)
def test_another_tokenizer_is_refused_on_resume(opened, monkeypatch, name, value):
    monkeypatch.setattr(config_module, "validate", lambda config: config)
    with pytest.raises(ConfigError, match=rf"tokenizer.{name} = .*when step 72 was saved.*another --workdir"):
        opened(f"tokenizer.{name}", value)


@pytest.mark.parametrize(("name", "value"), [("seed", 1), ("data.batch_tokens", 256), ("data.batching", "packing")])
def test_other_batches_are_no_exact_continuation(opened, name, value):
    [warning] = opened(name, value)
    assert f"config.{name}" in warning
    assert "no exact continuation" in warning


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model.d_ff": 64}, "model.d_ff = 64"),
        ({"model.norm": "pre"}, "model.norm = 'pre'"),
        ({"training.ema_decay": 0.9}, "training.ema_decay = 0.9"),
        ({"transfer.train_only": ("encoder",)}, r"transfer.train_only = \('encoder',\)"),
        ({"transfer.lora_targets": ("key",), "transfer.lora_rank": 2}, "transfer.lora_rank = 2"),
        ({"model.dropout": 0.5, "model.d_model": 24, "model.num_heads": 3}, "model.d_model = 24"),
    ],
)
def test_another_model_is_refused_on_resume_by_field(changes, named):
    config = tiny_run.trained_config()
    for name, value in changes.items():
        config = config_module.put(config, name, value)
    message = f"config.{named}: it was .* when step 72 was saved, .* another --workdir"
    with tiny_run.on_devices(1), pytest.raises(ConfigError, match=message):
        Run.open(config, Workdir(tiny_run.trained()))


def test_the_optimizer_may_change_on_resume(tmp_path):
    """What a run that met a NaN is told to do, it can do."""
    config = tiny_run.config(tmp_path)
    config.training.steps, config.evaluation.bleu_sentences = 2, 0
    tiny_run.train_steps(config, tmp_path / "workdir")
    config.training.steps, config.optimizer.clip_norm = 3, 0.5
    config.optimizer.name, config.optimizer.weight_decay = "adamw", 0.01
    tiny_run.train_steps(config, tmp_path / "workdir")
    resumed = CheckpointReader(tmp_path / "workdir/checkpoints").read_metadata()
    assert resumed.step == 3
    assert config_module.from_json(resumed.config_json).optimizer == config.optimizer


def test_small_batches_for_the_papers_schedule(tmp_path, caplog):
    config = tiny_run.config(tmp_path)
    with tiny_run.on_devices(1):
        Run.open(config, Workdir(tmp_path / "workdir"))
        assert "25,000 tokens" not in caplog.text
        config.optimizer.schedule = "paper"
        Run.open(config, Workdir(tmp_path / "workdir"))
    assert "batches of 25,000 tokens a side; config.data.batch_tokens is 192" in caplog.text


def test_a_lost_manifest_is_told(tmp_path, caplog):
    config = tiny_run.config(tmp_path)
    config.training.steps, config.evaluation.bleu_sentences = 1, 0
    tiny_run.train_steps(config, tmp_path / "workdir")
    (tmp_path / "workdir/checkpoints/1/manifest.json").unlink()
    with tiny_run.on_devices(1):
        assert Run.open(config, Workdir(tmp_path / "workdir")).resume_step == 0
    assert "checkpoints/1 has no manifest: its save was cut short. It is not used, and removed." in caplog.text


def test_every_field_of_the_plan_exists():
    assert set(resume._PLAN) <= {info.name for info in config_module.fields()}


@pytest.mark.parametrize(
    ("section", "field", "value", "message"),
    [
        ("model", "attention", "no_such_module:Mine", "no_such_module"),
        ("mesh", "fsdp", 3, "mesh"),
        ("tokenizer", "vocab_size", 151, "vocabulary of 151 pieces"),
    ],
)
def test_what_cannot_be_is_told_before_the_data_is_touched(tmp_path, monkeypatch, section, field, value, message):
    def prepare(*given, **settings):
        raise AssertionError("the data was prepared")

    monkeypatch.setattr(run_module, "prepare", prepare)
    config = tiny_run.config(tmp_path)
    config.mesh.tensor = 2
    setattr(getattr(config, section), field, value)
    with tiny_run.on_devices(8), pytest.raises(ConfigError, match=message):
        Run.open(config, Workdir(tmp_path / "workdir"))

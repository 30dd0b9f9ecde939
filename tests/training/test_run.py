"""What a run refuses or says before its first step."""

import pytest
import tiny_run

from transformer import config as config_module
from transformer.config import ConfigError
from transformer.training import run as run_module
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


def test_every_field_of_the_plan_exists():
    assert set(run_module._PLAN) <= {info.name for info in config_module.fields()}


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

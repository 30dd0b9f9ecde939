import pytest
from absl import flags

from transformer import config as config_module
from transformer.cli import arguments
from transformer.cli.usage import UsageError
from transformer.cli.verb import EVERY_FIELD, Verb
from transformer.config import Config, ConfigError


def define_flags(values):
    arguments.define_config(values)
    arguments.define_workdir(values, "The folder of the run.")
    flags.DEFINE_integer("count", 3, "How many.", flag_values=values)


def verb(overridable=EVERY_FIELD):
    return Verb("probe", "Try.", "Tries things.", define_flags, lambda given: None, overridable)


def test_flags_and_overrides():
    given = arguments.parse(verb(), ["--workdir", "w", "--config.seed=3", "--config=a.py:b", "--count=4"])
    assert (given.flags.workdir, given.flags.config, given.flags.count) == ("w", "a.py:b", 4)
    assert arguments.effective_config(given, Config()).seed == 3


def test_flags_are_not_shared_with_anything_else():
    assert arguments.parse(verb(), []).flags.count == 3
    assert "count" not in flags.FLAGS


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--wrkdir=x"], "Unknown command line flag 'wrkdir'. Did you mean: workdir"),
        (["--count=x"], "flag --count=x"),
        (["here"], "Unexpected 'here'"),
    ],
)
def test_wrong_words(words, message):
    with pytest.raises(UsageError, match=message):
        arguments.parse(verb(), words)


def test_a_verb_changes_only_its_own_sections():
    given = arguments.parse(verb(("decoding.",)), ["--config.decoding.beam_size=8"])
    assert arguments.effective_config(given, Config()).decoding.beam_size == 8
    with pytest.raises(
        ConfigError, match=r"seed = '1': cannot be changed by `transformer probe`. It takes --config.decod"
    ):
        arguments.parse(verb(("decoding.",)), ["--config.seed=1"])
    with pytest.raises(ConfigError, match="Leave it out"):
        arguments.parse(verb(()), ["--config.seed=1"])


def test_the_effective_config_is_validated():
    with pytest.raises(ConfigError, match="model.num_heads"):
        arguments.effective_config(arguments.parse(verb(), ["--config.model.num_heads=7"]), Config())


def test_workdir_is_required_and_must_hold_a_run(tmp_path):
    with pytest.raises(UsageError, match="--workdir is missing"):
        arguments.require_workdir(arguments.parse(verb(), []))
    with pytest.raises(UsageError, match="there is no config.json in it"):
        arguments.saved_config(str(tmp_path))
    config = Config(seed=5)
    (tmp_path / "config.json").write_text(config_module.to_json(config))
    assert arguments.saved_config(str(tmp_path)) == config


def test_a_damaged_config_is_told_with_its_file_and_the_way_out(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UsageError, match=r"config.json is damaged.*\n.*checkpoints"):
        arguments.saved_config(str(tmp_path))


def test_a_single_field_may_be_changed():
    given = arguments.parse(verb(("decoding.", "data.data_dir")), ["--config.data.data_dir=x"])
    assert arguments.effective_config(given, Config()).data.data_dir == "x"
    with pytest.raises(ConfigError, match=r"It takes --config.decoding.\*, --config.data.data_dir\."):
        arguments.parse(verb(("decoding.", "data.data_dir")), ["--config.data.train=x"])


def test_help_has_description_flags_and_the_fields_that_can_be_set():
    text = arguments.help_text(verb(("decoding.",)))
    assert "Tries things." in text
    assert "--count=INT\n      How many. Default: 3." in text
    assert "--traceback\n" in text
    assert "--config.decoding.beam_size=4" in text
    assert "--config.seed" not in text

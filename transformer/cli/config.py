"""`transformer config`: what can be set, and what a config or a run has set."""

from absl import flags

from transformer import config as config_module
from transformer.cli import arguments, config_files
from transformer.cli.listing import field_list, wrap
from transformer.cli.usage import UsageError
from transformer.cli.verb import EVERY_FIELD, Arguments, Verb
from transformer.config import Config

_DESCRIPTION = """
    transformer config [--config=CONFIG | --workdir=DIR] [--json] [--config.FIELD=VALUE ...]

    Lists every field of a config with its type, default, choices and meaning. With --config or
    --workdir it shows the values there, checked, and the default where it differs. Nothing is
    trained or written.

    Examples:
      transformer config
      transformer config --config=wmt14_en_de_big --config.mesh.fsdp=8
      transformer config --workdir=runs/phrasebook --json
"""


def _define_flags(values: flags.FlagValues) -> None:
    arguments.define_config(values)
    arguments.define_workdir(values, "Show the config saved in this run.")
    flags.DEFINE_boolean("json", False, "Print the values as JSON, as a run saves them.", flag_values=values)


def _run(given: Arguments) -> None:
    config = arguments.effective_config(given, _base_config(given.flags))
    if given.flags.json:
        print(config_module.to_json(config))
        return
    print(field_list(config=config))
    print("\nThe project's own configs:")
    for name, summary in config_files.summaries().items():
        print(f"  {name}\n" + wrap(summary, indent=6))


def _base_config(values: flags.FlagValues) -> Config:
    if values.config and values.workdir:
        raise UsageError("--config and --workdir are two configs: give one.")
    if values.config:
        return config_files.load(values.config)
    return arguments.saved_config(values.workdir) if values.workdir else Config()


CONFIG = Verb(
    name="config",
    summary="List every setting, or show those of a config or a run.",
    description=_DESCRIPTION,
    define_flags=_define_flags,
    run=_run,
    overridable=EVERY_FIELD,
)

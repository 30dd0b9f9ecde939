"""What the verbs that use a trained run share: which run, which checkpoint, which devices."""

from typing import TYPE_CHECKING

from absl import flags

from transformer.cli import arguments, overrides, process
from transformer.cli.usage import UsageError
from transformer.cli.verb import Arguments
from transformer.training import storage
from transformer.training.workdir import Workdir

if TYPE_CHECKING:
    from transformer.evaluation.translator import Translator

OVERRIDABLE = ("decoding.", "mesh.")


def define_flags(values: flags.FlagValues) -> None:
    arguments.define_workdir(values, "Where a trained run lies; several with commas between are an ensemble.")
    flags.DEFINE_string(
        "checkpoint",
        "auto",
        "auto (the average when there is one, else the best, else the last), best, last, average, or a step. Several "
        "with commas between: one for each folder, or an ensemble of one folder's.",
        flag_values=values,
    )
    arguments.define_allow_code(values)
    process.define_flags(values)


def open_translator(given: Arguments) -> "Translator":
    """The translator the flags describe.

    Raises:
      UsageError, WorkdirError, CheckpointError, ConfigError: when it cannot be opened.
    """
    workdirs = [Workdir(name) for name in arguments.require_workdir(given).split(",") if name]
    for workdir in workdirs:
        if not storage.exists(workdir.root):
            raise UsageError(f"--workdir={workdir.root}: there is no such folder.")
    process.start(given)
    from transformer.config import Config, validate
    from transformer.training.saved_run import open_translator

    # A mesh that was right for training seldom is for translating: only what is typed here counts.
    mesh = overrides.apply(Config(), [override for override in given.overrides if override.name.startswith("mesh.")])
    return open_translator(
        workdirs,
        given.flags.checkpoint.split(","),
        mesh=validate(mesh).mesh,
        allow_code=given.flags.allow_code,
        change=lambda config: validate(overrides.apply(config, given.overrides)),
    )

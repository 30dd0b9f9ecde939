"""`transformer merge`: a run's parameters as one ordinary checkpoint."""

from absl import flags

from transformer.cli import arguments, process
from transformer.cli.usage import UsageError
from transformer.cli.verb import Arguments, Verb

_DESCRIPTION = """
    transformer merge --workdir=DIR --output=NEW_DIR [--checkpoint=WHICH]

    Writes the parameters of a run to a new work directory, as its model computes with them: adapters
    (config.transfer.lora_rank) added to the matrices they belong to, averages in the place of what they
    are averages of. Nothing about adapters or frozen parameters is left in it. translate, evaluate and
    config.transfer.init_from use it like any other; it holds no optimizer state, so that training
    cannot be resumed there.

    Example:
      transformer merge --workdir=runs/adapted --output=runs/merged
"""


def _define_flags(values: flags.FlagValues) -> None:
    arguments.define_workdir(values, "The folder of a trained run.")
    flags.DEFINE_string("output", None, "The folder to write to; there may be no run in it.", flag_values=values)
    arguments.define_checkpoint(values)
    process.define_flags(values)


def _run(given: Arguments) -> None:
    workdir = arguments.require_workdir(given)
    if not given.flags.output:
        raise UsageError("--output is missing: say which folder to write to, for example --output=runs/merged.")
    process.start(given)
    from transformer import sharding
    from transformer.config import MeshConfig
    from transformer.training.saved_run import choose, write_merged
    from transformer.training.workdir import Workdir

    saved = choose(Workdir(workdir), given.flags.checkpoint)
    write_merged(saved, Workdir(given.flags.output), sharding.make_mesh(MeshConfig()))
    print(f"{given.flags.output}: {saved.name} of {workdir}")


MERGE = Verb(
    name="merge",
    summary="Write a run's parameters, adapters added, as one checkpoint.",
    description=_DESCRIPTION,
    define_flags=_define_flags,
    run=_run,
)

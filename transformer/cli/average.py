"""`transformer average`: the mean of a run's last checkpoints."""

from absl import flags

from transformer.cli import arguments, process
from transformer.cli.usage import UsageError
from transformer.cli.verb import Arguments, Verb

_DESCRIPTION = """
    transformer average --workdir=DIR --last=N

    Averages the parameters of the last N checkpoints (the paper: 5 for base, 20 for big) into DIR/average, which
    translate and evaluate then use by default. The checkpoints themselves stay.

    Example:
      transformer average --workdir=runs/mine --last=3 && transformer evaluate --workdir=runs/mine
"""


def _define_flags(values: flags.FlagValues) -> None:
    arguments.define_workdir(values, "Where a trained run lies.")
    flags.DEFINE_integer(
        "last",
        3,
        "How many checkpoints; config.checkpoint.keep_last of them are there.",
        lower_bound=1,
        flag_values=values,
    )
    process.define_flags(values)


def _run(given: Arguments) -> None:
    workdir = arguments.require_workdir(given)
    process.start(given)
    from transformer import sharding
    from transformer.config import MeshConfig
    from transformer.training.saved_run import to_average, write_average
    from transformer.training.workdir import Workdir

    run, count = Workdir(workdir), given.flags.last
    steps = to_average(run, count)
    if len(steps) < count:
        raise UsageError(
            f"{run.checkpoints} holds {len(steps)} sound checkpoints to average (multiples of config.checkpoint.every, "
            f"and the newest), not {count}. Average fewer with --last={len(steps)}; the next run can keep more with "
            "config.checkpoint.keep_last."
        )
    average = write_average(run, steps, sharding.make_mesh(MeshConfig()))
    print(f"{workdir}: {average.name}")


AVERAGE = Verb(
    name="average",
    summary="Average the last checkpoints of a run.",
    description=_DESCRIPTION,
    define_flags=_define_flags,
    run=_run,
)

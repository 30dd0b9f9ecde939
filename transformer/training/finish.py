"""The end of a run: the final score, pictures, and a summary."""

import shlex
import statistics
from collections.abc import Callable
from typing import Any

from absl import logging

from transformer.config import code_flag
from transformer.training import curves, metrics_log, processes, saved_run, summary
from transformer.training.checkpoint import Checkpoints
from transformer.training.compilations import Compilations
from transformer.training.journal import last_elapsed
from transformer.training.run import Run
from transformer.training.sizes import Sizes
from transformer.training.summary import Summary
from transformer.training.task import Task

_SEEN_LATE = "A network share may show new files late. All is saved: start the same command again to score it."


def finish(
    run: Run,
    checkpoints: Checkpoints,
    task: Task,
    compilations: Compilations,
    reason: str,
    between: Callable[[], None],
) -> Summary:
    """Scores the run's test sets with the checkpoint that other commands will use, and reports.

    Args:
      between: called between parts of the scoring; what it raises ends it.
    """
    if run.config.checkpoint.average > 1:
        averaged = saved_run.to_average(run.workdir, run.config.checkpoint.average)
        processes.check_same("The checkpoints to average", str(averaged), _SEEN_LATE)
        if len(averaged) > 1:
            saved_run.write_average(run.workdir, averaged, run.mesh)
    chosen = saved_run.choose(run.workdir)
    processes.check_same("The checkpoint to score", str(chosen.path), _SEEN_LATE)
    scores = task.score(chosen, between)
    records = metrics_log.read(run.workdir.metrics)
    opened = f"--workdir={shlex.quote(str(run.workdir.root))}{code_flag(run.config)}"
    result = Summary(
        workdir=str(run.workdir.root),
        steps=checkpoints.latest(),
        reason=reason,
        checkpoint=str(chosen.path),
        chosen=chosen.name,
        scores=tuple(scores),
        seconds=last_elapsed(records),
        tokens_per_s=_median(records, "time/tokens_per_s"),
        mfu=_median(records, "time/mfu"),
        data_wait_share=_median(records, "time/data_wait_share"),
        compilations=compilations.count,
        compile_seconds=compilations.seconds,
        recompilations=compilations.after_warm_up,
        sizes=Sizes.of(run.trainer),
        command=task.command(opened),
    )
    if processes.speaks():
        # The result first: it must not be lost to a picture that cannot be drawn.
        summary.write(result, run.workdir.summary)
        logging.info("%s", summary.as_text(result))
        curves.draw(records, run.workdir.curves, f"{run.workdir.root.name}: {reason}")
    task.draw()
    return result


def _median(records: list[dict[str, Any]], name: str) -> float:
    """Of the lines of the log that have this field: those in which programs were compiled do not move it."""
    return statistics.median([record[name] for record in records if name in record] or [0.0])

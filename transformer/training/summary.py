"""What a run came to: scores, where the checkpoint lies, how to use it, what it cost."""

import dataclasses
import json

from transformer.evaluation.measure import Score
from transformer.training import storage
from transformer.training.sizes import Sizes
from transformer.training.storage import Place


@dataclasses.dataclass(frozen=True)
class Summary:
    """Of one run, as WORKDIR/summary.json holds it.

    Attributes:
      reason: why the run ended, e.g. "all steps done", "no better val/bleu in 5 validations".
      checkpoint: the directory that was scored and that other commands use.
      chosen: why that one, e.g. "step 1000, the best by bleu".
      seconds: since the run began, validations and earlier parts of a resumed run included.
      tokens_per_s: target tokens a second while training, padding not counted; the median of the log's lines.
      mfu, data_wait_share: of the training time, 0..1; medians too.
      compile_seconds: how long compiling (or reading the compilation cache) took.
      recompilations: programs compiled after warm-up; above 0 is a defect.
      sizes: how many parameters there are and train, and what the optimizer keeps.
      command: for the shell: an example of what to do with the model.
    """

    workdir: str
    steps: int
    reason: str
    checkpoint: str
    chosen: str
    scores: tuple[Score, ...]
    seconds: float
    tokens_per_s: float
    mfu: float
    data_wait_share: float
    compilations: int
    compile_seconds: float
    recompilations: int
    sizes: Sizes
    command: str


def as_text(summary: Summary) -> str:
    """The summary for a person to read."""
    recompiled = f", {summary.recompilations} of them after warm-up (a defect)" if summary.recompilations else ""
    lines = [
        f"Done: {summary.steps:,} steps in {duration(summary.seconds)} ({summary.reason}).",
        *(_score(score) for score in summary.scores),
        f"  Training speed: {summary.tokens_per_s:,.0f} target tokens/s, MFU {summary.mfu:.0%}, "
        f"{summary.data_wait_share:.1%} of the time waiting for data.",
        f"  Compilations: {summary.compilations}{recompiled}, {duration(summary.compile_seconds)}.",
        f"  Size: {summary.sizes}.",
        f"  Checkpoint: {summary.checkpoint} ({summary.chosen})",
        f"  Curves:     {summary.workdir}/curves.png",
        "Use it:",
        f"  {summary.command}",
    ]
    return "\n".join(lines)


def _score(score: Score) -> str:
    interval = "  (95% interval {:.1f} to {:.1f})".format(*score.interval) if score.interval else ""
    return f"  {score.name}: {score.value:.2f}{interval}\n      {score.signature}"


def write(summary: Summary, path: Place) -> None:
    """Writes the summary as JSON; a reader sees the old file or the new one, never a part."""
    text = json.dumps(dataclasses.asdict(summary), indent=2, ensure_ascii=False) + "\n"
    storage.write(path, text.encode())


def duration(seconds: float) -> str:
    """1 h 12 min, 3 min 20 s, 4.2 s."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"

"""Everything a run tells of itself while it trains: metrics.jsonl, TensorBoard, the console."""

import math
from collections.abc import Mapping
from typing import Any, Self

from transformer.training import metrics_log, processes
from transformer.training.metrics_log import MetricsLog
from transformer.training.progress import Progress
from transformer.training.samples import Sample, as_markdown, as_text
from transformer.training.step import Report, Window
from transformer.training.tensorboard_log import TensorBoardLog
from transformer.training.workdir import Workdir


class Journal:
    """One record a step goes to all three. Goes on after `resume_step`: what was told of later steps is dropped.

    Attributes:
      records: all lines of metrics.jsonl, those from before a resume included.
    """

    def __init__(self, workdir: Workdir, resume_step: int, steps: int):
        self._log = MetricsLog(workdir.metrics, resume_step)
        self.records = metrics_log.read(workdir.metrics)
        self._board = TensorBoardLog(workdir.tensorboard, resume_step)
        self._progress = Progress(steps, resume_step)

    @property
    def elapsed(self) -> float:
        """Seconds the run has taken up to the last record that says so."""
        return last_elapsed(self.records)

    def advance(self) -> None:
        """One step was started."""
        self._progress.advance()

    def say(self, text: str) -> None:
        """For the console alone."""
        self._progress.say(text)

    def show(self, step: int, samples: list[Sample]) -> None:
        """Translations to look at."""
        if samples:
            self._progress.say(as_text(samples))
            self._board.text("samples", as_markdown(samples), step)

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """What was measured at a step; at most once a step."""
        record = self._log.append(step, values)
        self.records.append(record)
        self._board.scalars(record)
        self._progress.report(record)

    def settle(self) -> None:
        """Returns when a kill can lose none of the records written so far.

        Raises:
          StorageError: the object store does not take them.
        """
        self._log.settle()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.close()
        self._board.close()
        self._log.close()


class SilentJournal(Journal):
    """Keeps the records and tells nobody: for the processes that do not speak, so that all decide alike."""

    def __init__(self, workdir: Workdir, resume_step: int):
        self.records = [record for record in metrics_log.read(workdir.metrics) if record["step"] <= resume_step]

    def advance(self) -> None:
        pass

    def say(self, text: str) -> None:
        pass

    def show(self, step: int, samples: list[Sample]) -> None:
        pass

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        self.records.append(metrics_log.record(step, values))

    def settle(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        pass


def open_journal(workdir: Workdir, resume_step: int, steps: int) -> Journal:
    """That of this process. All processes have the same records."""
    if not processes.speaks():
        processes.wait_for_all("the log")
        return SilentJournal(workdir, resume_step)
    journal = Journal(workdir, resume_step, steps)
    processes.wait_for_all("the log")
    return journal


def training_fields(report: Report) -> dict[str, float]:
    """The fields of a record that a step's report holds: means since the record before. Waits for that step."""
    now = {"train/learning_rate": float(report.learning_rate), "train/skipped": int(report.skipped)}
    return _means(report.window) | now


def last_elapsed(records: list[dict[str, Any]]) -> float:
    """Seconds up to the last record that has them; 0 when none has."""
    return next((record["time/elapsed_s"] for record in reversed(records) if "time/elapsed_s" in record), 0.0)


def _means(window: Window) -> dict[str, float]:
    tokens = int(window.sums.tokens)
    # Where every step was skipped there is no mean: the log says null.
    a_token, a_step = (1 / tokens, 1 / int(window.steps)) if tokens else (math.nan, math.nan)
    return {
        "train/loss": float(window.sums.loss) * a_token,
        "train/nll": float(window.sums.nll) * a_token,
        "train/accuracy": int(window.sums.correct) * a_token,
        "train/gradient_norm": float(window.gradient_norms) * a_step,
        "train/target_tokens": tokens,
        "train/source_tokens": int(window.source_tokens),
    }

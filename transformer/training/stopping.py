"""When a run ends before its last step: a signal, or no progress."""

import signal
from collections.abc import Iterable, Mapping
from types import FrameType
from typing import Any, Self

from transformer.config import EvaluationConfig


class StopSignal:
    """While open, SIGTERM and Ctrl-C ask for a stop at the next step, so that the run can save and exit 0.

    A second Ctrl-C interrupts at once, as usual. Outside the main thread signals are left as they are.
    """

    def __init__(self):
        self.received: str | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGTERM, signal.SIGINT):
            try:
                self._before[number] = signal.signal(number, self._receive)
            except ValueError:  # not the main thread
                break
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name


def metric_field(config: EvaluationConfig) -> str:
    """The field of the metrics log that decides which checkpoint is the best."""
    return "val/bleu" if config.metric == "bleu" and config.bleu_sentences else "val/loss"


def out_of_patience(records: Iterable[Mapping[str, Any]], config: EvaluationConfig) -> bool:
    """Whether the last `patience` validations of the log did not better the best before them.

    The log is all it looks at, so a resumed run stops where an uninterrupted one does.
    """
    if not config.patience:
        return False
    field = metric_field(config)
    sign = 1 if field == "val/bleu" else -1
    values = [sign * record[field] for record in records if record.get(field) is not None]
    if len(values) <= config.patience:
        return False
    return max(values[-config.patience :]) <= max(values[: -config.patience])

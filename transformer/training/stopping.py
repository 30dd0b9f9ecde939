"""When a run ends: after its last step, without progress, or by a signal."""

import contextlib
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import FrameType
from typing import Any, Self

from transformer.config import Config, EvaluationConfig
from transformer.training.processes import StopVote


class _LeftOffError(KeyboardInterrupt):
    """Ends work that may be left off."""


class StopSignal:
    """While open, SIGTERM and Ctrl-C ask for a stop after the current step, so that the run can save and exit 0.

    A second Ctrl-C interrupts at once, as usual. Outside the main thread signals are left as they are.

    Attributes:
      received: the name of the signal that came; None: none did.
    """

    def __init__(self):
        self.received: str | None = None
        self._interrupts = False
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

    @contextlib.contextmanager
    def leaving_off(self, vote: StopVote) -> Iterator[Callable[[], None]]:
        """Around work that may be left off: a signal ends the block, and only the block.

        Gives what to call between parts of the work. One process leaves off wherever it is; several do so there, all of
        them together: else the others would wait for the one that left.
        """

        def between() -> None:
            if vote.now(self.received is not None):
                raise _LeftOffError

        self._interrupts = vote.alone
        try:
            with contextlib.suppress(_LeftOffError):
                yield between
        finally:
            self._interrupts = False

    def _receive(self, number: int, frame: FrameType | None) -> None:
        again = self.received is not None and number == signal.SIGINT
        self.received = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        if self._interrupts:
            raise _LeftOffError
        if again:
            raise KeyboardInterrupt


def reason_to_end(step: int, records: Iterable[Mapping[str, Any]], config: Config) -> str | None:
    """Why a run is over after `step`; None while it is not.

    Nothing but the step and the log decides, so a resumed run ends where an uninterrupted one does.
    """
    if out_of_patience(records, config.evaluation):
        return f"no better {metric_field(config.evaluation)} in {config.evaluation.patience} validations"
    return "all steps done" if step >= config.training.steps else None


def metric_field(config: EvaluationConfig) -> str:
    """The field of the metrics log that decides which checkpoint is the best."""
    return "val/bleu" if config.metric == "bleu" and config.bleu_sentences else "val/loss"


def checkpoint_metric(config: EvaluationConfig) -> str:
    """That field as checkpoints call it."""
    return metric_field(config).removeprefix("val/")


def out_of_patience(records: Iterable[Mapping[str, Any]], config: EvaluationConfig) -> bool:
    """Whether the last `patience` validations of the log did not better the best before them."""
    if not config.patience:
        return False
    field = metric_field(config)
    sign = 1 if field == "val/bleu" else -1
    values = [sign * record[field] for record in records if record.get(field) is not None]
    if len(values) <= config.patience:
        return False
    return max(values[-config.patience :]) <= max(values[: -config.patience])

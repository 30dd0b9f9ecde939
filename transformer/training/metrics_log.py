"""metrics.jsonl (in an object store metrics/*.jsonl): what was measured, one JSON object a line, one line a step.

    {"step": 200, "train/loss": 4.81, "train/accuracy": 0.31, ..., "time/step_s": 0.42}
    {"step": 400, "train/loss": 3.95, ..., "val/loss": 3.7, "val/bleu": 12.9, "time/step_s": 0.41}

Fields under `time/` come from clocks and differ from run to run; all others are a function of the config and the data.

Numbers keep every bit (JSON holds the shortest decimal that gives the same float64). JSON knows neither NaN nor
infinity: they are written as null and read as None.

How lines are kept, and what a kill can do to the last ones: `line_log`.
"""

import json
import math
from collections.abc import Mapping
from typing import Any, Self

from transformer.training import line_log
from transformer.training.storage import Place

CLOCK_PREFIX = "time/"


class MetricsLog:
    """Appends to the log at `path`, after the step the run is resumed from (0: a fresh run, an empty log)."""

    def __init__(self, path: Place, resumed_step: int = 0):
        self.path = path
        truncate_after(self.path, resumed_step)
        self._last_step = resumed_step
        self._lines = line_log.append_to(path)

    def append(self, step: int, values: Mapping[str, Any]) -> dict[str, Any]:
        """Logs one step and returns the line as `read` would give it.

        Raises:
          ValueError: when `step` is not later than all before it: a log with a step twice draws wrong curves.
        """
        if step <= self._last_step:
            raise ValueError(f"{self.path}: step {step} cannot follow step {self._last_step}; log each step once.")
        logged = record(step, values)
        self._lines.append(json.dumps(logged, allow_nan=False, ensure_ascii=False) + "\n")
        self._last_step = step
        return logged

    def settle(self) -> None:
        """Returns when a kill can lose no line.

        Raises:
          StorageError: the object store does not take them; they are kept, and can be settled later.
        """
        self._lines.settle()

    def close(self) -> None:
        self._lines.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def record(step: int, values: Mapping[str, Any]) -> dict[str, Any]:
    """A line as `read` gives it."""
    return {"step": step} | {name: _finite_or_none(value) for name, value in values.items()}


def read(path: Place) -> list[dict[str, Any]]:
    """The log's lines in order; a torn last line is left out, a missing log has none.

    Raises:
      ValueError: for a line before the last that is no JSON object with a step.
    """
    lines = (line_log.read(path) or b"").splitlines()
    records = []
    for number, line in enumerate(lines, start=1):
        parsed = _parse(line)
        if parsed is not None:
            records.append(parsed)
        elif number < len(lines):
            raise ValueError(f"{path}, line {number}, is no JSON object with a step: {line[:80]!r}. Delete that line.")
    return records


def truncate_after(path: Place, step: int) -> None:
    """Drops the lines after `step` and a torn last one, all at once or not at all (in a store: from the end)."""
    kept = [line for line in read(path) if line["step"] <= step]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept)
    line_log.replace(path, text.encode())


def _parse(line: bytes) -> dict[str, Any] | None:
    # A proper prefix of a JSON object is never JSON: a line that parses is whole.
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and isinstance(record.get("step"), int) else None


def _finite_or_none(value: Any) -> Any:
    """A Python number of what may be a numpy scalar; None for NaN and infinity. Strings stay."""
    if isinstance(value, str):
        return value
    number = value.item() if hasattr(value, "item") else value
    return None if isinstance(number, float) and not math.isfinite(number) else number

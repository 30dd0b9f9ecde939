"""One command of `transformer`, with its time to the first result told apart by phase: a child of startup.py.

    STARTUP_BEGAN=$(date +%s.%N) STARTUP_RESULT=phases.json python benchmarks/startup_phases.py translate --workdir=DIR

Writes {phase: seconds} to STARTUP_RESULT. A phase within another counts for itself only. What the command would import
one by one is imported in a fixed order, so that each library's time is its own.
"""

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

REST = "the rest"
# Public monitoring events of JAX, each of which tells how long something took that has just ended.
EVENTS = {
    "/jax/core/compile/jaxpr_trace_duration": "tracing",
    "/jax/core/compile/jaxpr_to_mlir_module_duration": "lowering",
    "/jax/core/compile/backend_compile_duration": "compiling, or reading from the cache",
}
LIBRARIES = {"import flax": "from flax import nnx", "import orbax": "from orbax.checkpoint import v1"}
# By verb: the module it loads once JAX is there, and which functions are phases.
VERBS = {
    "translate": (
        "transformer.training.saved_run",
        {
            "transformer.training.saved_run:choose": "choosing and verifying a checkpoint",
            "transformer.model.blueprint:Blueprint.of": "the model's shapes",
            "transformer.training.saved_params:SavedParams.restore": "reading parameters",
            "transformer.evaluation.translator:Translator.hypotheses": "tokens, running, text",
        },
    ),
    "train": (
        "transformer.training.loop",
        {
            "transformer.training.run:Run.open": "checks",
            "transformer.training.run:prepare": "preparing the data",
            "transformer.model.blueprint:Blueprint.of": "the model's shapes",
            "transformer.training.run:Run.start": "the first state",
            "transformer.training.loop:task_of": "validation and scoring made ready",
            "transformer.training.peak:measure": "measuring a matrix product",
        },
    ),
}


class Recorder:
    """Intervals by name, of which later ones may lie within earlier ones."""

    def __init__(self, began: float):
        self._began = began
        self._intervals: list[tuple[float, float, str]] = []

    def add(self, name: str, begin: float, end: float) -> None:
        self._intervals.append((begin, end, name))

    def call(self, name: str, function: Callable, *values: object, **named: object) -> object:
        begin = time.time()
        try:
            return function(*values, **named)
        finally:
            self.add(name, begin, time.time())

    def phases(self, end: float) -> dict[str, float]:
        """Seconds of each name up to `end`, without those of the intervals within; their sum is all of the time."""
        found = {name: 0.0 for _, _, name in self._intervals}
        # Between two borders the interval that began last is the one that counts.
        borders = sorted(
            {self._began, end, *(border for begin, stop, _ in self._intervals for border in (begin, stop))}
        )
        found[REST] = 0.0
        for begin, stop in zip(borders, borders[1:], strict=False):
            if stop > end:
                break
            around = [interval for interval in self._intervals if interval[0] <= begin and interval[1] >= stop]
            innermost = max(around, key=lambda interval: (interval[0], -interval[1]), default=(0, 0, REST))
            found[innermost[2]] += stop - begin
        return {name: seconds for name, seconds in found.items() if seconds}


def main() -> None:
    """Runs the command and writes its phases."""
    verb, end = sys.argv[1], []
    recorder = Recorder(float(os.environ["STARTUP_BEGAN"]))
    # Unlike the clock of a process, that of the machine goes on through a restart.
    own_process = importlib.import_module("transformer.cli.own_process")
    own_process.restart_with_huge_pages()
    recorder.add("Python, and the restart for huge pages", float(os.environ["STARTUP_BEGAN"]), time.time())
    recorder.call("import the command line", importlib.import_module, "transformer.cli.verbs")
    process = importlib.import_module("transformer.cli.process")
    start = process.start

    def started(given: object) -> None:
        recorder.call("import jax, and devices", _start, start, given)
        _watch(recorder, verb)
        if verb == "train":
            _end_by_first_record(end)

    process.start = started
    try:
        importlib.import_module("transformer.cli.main").main()
    finally:
        phases = recorder.phases(end[0] if end else time.time())
        Path(os.environ["STARTUP_RESULT"]).write_text(json.dumps(phases))


def _start(start: Callable, given: object) -> None:
    start(given)
    importlib.import_module("jax").devices()


def _watch(recorder: Recorder, verb: str) -> None:
    monitoring = importlib.import_module("jax.monitoring")

    def listen(event: str, seconds: float, **details: object) -> None:
        if event in EVENTS:
            now = time.time()
            recorder.add(EVENTS[event], now - seconds, now)

    monitoring.register_event_duration_secs_listener(listen)
    for name, statement in LIBRARIES.items():
        recorder.call(name, exec, statement, {})
    module, functions = VERBS[verb]
    recorder.call("import the rest", importlib.import_module, module)
    for place, name in functions.items():
        _replace(place, lambda function, name=name: lambda *a, **k: recorder.call(name, function, *a, **k))


def _end_by_first_record(end: list[float]) -> None:
    """The first record of the log comes when the first step's report was read."""

    def watched(function: Callable) -> Callable:
        def training_fields(*values: object) -> object:
            end.append(time.time())
            return function(*values)

        return training_fields

    _replace("transformer.training.loop:training_fields", watched)


def _replace(place: str, wrap: Callable[[Callable], Callable]) -> None:
    """Wraps a function or method, given as module:name or module:Class.name."""
    module, _, name = place.partition(":")
    holder = importlib.import_module(module)
    *classes, name = name.split(".")
    for one in classes:
        holder = getattr(holder, one)
    function = vars(holder)[name]
    if isinstance(function, classmethod):
        wrapped = wrap(function.__func__)
        setattr(holder, name, classmethod(lambda *a, **k: wrapped(*a, **k)))
    else:
        # A plain function, so that as a method it is bound.
        setattr(holder, name, wrap(function))


if __name__ == "__main__":
    main()

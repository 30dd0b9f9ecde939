"""How many programs were compiled, and a warning when one is compiled that should have been there already.

A shape or type that changes from step to step makes JAX compile again and again: the run is slow and nothing says why.
JAX announces every program it builds (compiled, or read from the persistent cache) by a monitoring event that names it.
"""

import contextlib
from collections.abc import Callable, Collection, Hashable, Iterator
from typing import Self

from jax import monitoring

from transformer.training import heap

EVENT = "/jax/core/compile/backend_compile_duration"
# A program that took so many seconds to compile left hundreds of megabytes behind.
LONG = 1.0


class Compilations:
    """Counts while it is open.

    What a run does (a step on one shape of batch, a validation) is warm-up the first time, and must compile nothing the
    second, but for the programs named in `late`, which wait for the first text that needs them:

        with Compilations(progress.say) as compilations:
            with compilations.watch(step, "training step", batch["source"].shape):
                ...

    What compiling a program of more than `LONG` seconds leaves in memory is given back before it runs.
    """

    def __init__(self, warn: Callable[[str], None], late: Collection[str] = ()):
        self._warn = warn
        self._late = late
        self._names: list[str] = []
        self._warm: set[Hashable] = set()
        self.seconds = 0.0
        self.after_warm_up = 0

    @property
    def count(self) -> int:
        return len(self._names)

    @contextlib.contextmanager
    def watch(self, step: int, what: str, *kind: Hashable) -> Iterator[bool]:
        """Around work that should compile only the first time it is done for this `what` and `kind`.

        Gives whether it was done before.
        """
        before, warm = self.count, (what, kind) in self._warm
        yield warm
        compiled = [name for name in self._names[before:] if name not in self._late]
        if compiled and warm:
            self.after_warm_up += len(compiled)
            self._warn(
                f"warning: step {step}: {what} compiled {', '.join(compiled)} after warm-up. "
                "A shape, type or sharding changed; JAX_EXPLAIN_CACHE_MISSES=1 says which."
            )
        self._warm.add((what, kind))

    def __enter__(self) -> Self:
        monitoring.register_event_duration_secs_listener(self._listen)
        return self

    def __exit__(self, *error: object) -> None:
        monitoring.unregister_event_duration_listener(self._listen)

    def _listen(self, event: str, duration_secs: float, **details: str | int) -> None:
        if event == EVENT:
            self._names.append(str(details.get("fun_name", "a program")))
            self.seconds += duration_secs
            if duration_secs > LONG:
                heap.trim()

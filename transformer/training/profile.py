"""A profiler trace of a few steps, for TensorBoard's or Perfetto's trace viewer."""

from pathlib import Path
from typing import Any, Self

import jax
from absl import logging

from transformer.training import processes

# Steps left out first: they compile, and fill caches.
WARM_UP = 10


class Profile:
    """Traces `steps` steps after the first ones; 0 traces nothing. A run that ends earlier leaves a shorter trace."""

    def __init__(self, directory: Path, start: int, steps: int):
        self._directory = directory
        self._first = start + WARM_UP
        self._last = self._first + (steps if processes.speaks() else 0)
        self._newest = start
        self._tracing = False

    def after(self, step: int, result: Any) -> None:
        """Tells that `step` was started and will give `result`."""
        self._newest = step
        if step == self._first < self._last:
            jax.block_until_ready(result)
            jax.profiler.start_trace(str(self._directory))
            self._tracing = True
        elif self._tracing and step == self._last:
            jax.block_until_ready(result)
            self._stop()

    def _stop(self) -> None:
        jax.profiler.stop_trace()
        self._tracing = False
        logging.info("Profiler trace of steps %d to %d in %s.", self._first + 1, self._newest, self._directory)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._tracing:
            self._stop()
        elif self._newest < self._first < self._last:
            logging.warning("No profiler trace: it begins after %d steps, and the run ended before.", WARM_UP)

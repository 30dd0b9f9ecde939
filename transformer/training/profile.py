"""A profiler trace of a few steps, for TensorBoard's or Perfetto's trace viewer."""

import contextlib
from typing import Any, Self

import jax
from absl import logging

from transformer.training import processes, storage
from transformer.training.storage import Place

# Steps left out first: they compile, and fill caches.
WARM_UP = 10


class Profile:
    """Traces `steps` steps after the first ones; 0 traces nothing. A run that ends earlier leaves a shorter trace."""

    def __init__(self, directory: Place, start: int, steps: int):
        self._directory = directory
        self._folder = contextlib.ExitStack()
        self._first = start + WARM_UP
        self._last = self._first + (steps if processes.speaks() else 0)
        self._newest = start
        self._tracing = False

    def after(self, step: int, result: Any) -> None:
        """Tells that `step` was started and will give `result`."""
        self._newest = step
        if step == self._first < self._last:
            jax.block_until_ready(result)
            jax.profiler.start_trace(str(self._folder.enter_context(storage.written_as_folder(self._directory))))
            self._tracing = True
        elif self._tracing and step == self._last:
            jax.block_until_ready(result)
            self._stop()

    def _stop(self) -> None:
        self._tracing = False
        jax.profiler.stop_trace()
        self._folder.close()
        logging.info("Profiler trace of steps %d to %d in %s.", self._first + 1, self._newest, self._directory)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._tracing:
            self._stop()
        elif self._newest < self._first < self._last:
            logging.warning("No profiler trace: it begins after %d steps, and the run ended before.", WARM_UP)

"""Speed between two lines of the log: tokens a second, step time, waiting for data, utilisation.

Everything here is read from a clock, so every field is under `time/` (see metrics_log). Devices run behind the host:
read the clock (`take`, `paused`) when the last step's metrics have arrived, else its time falls into the next window.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator

from transformer.training.flops import BatchCounts


@dataclasses.dataclass
class Window:
    """What happened in a stretch of training; seconds exclude pauses."""

    steps: int = 0
    seconds: float = 0.0
    data_wait: float = 0.0
    counts: BatchCounts = dataclasses.field(default_factory=BatchCounts)


class Rates:
    """Measures windows.

    Args:
      flops: model FLOPs of a batch, or of several together (`flops.training_flops` is linear in the counts).
      peak_flops: FLOP/s the devices could do at most, together.
      elapsed: seconds the run took before this process, when it was resumed.
    """

    def __init__(
        self,
        flops: Callable[[BatchCounts], float],
        peak_flops: float,
        elapsed: float = 0.0,
        clock: Callable[[], float] = time.perf_counter,
    ):
        self._flops = flops
        self._peak_flops = peak_flops
        self._clock = clock
        self._window_start = clock()
        self._run_start = self._window_start - elapsed
        self._window = Window()

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Around fetching the next batch: the time counts, and is reported as data wait."""
        start = self._clock()
        yield
        self._window.data_wait += self._clock() - start

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Around what is no training (validation, checkpoints): no rate contains that time."""
        start = self._clock()
        yield
        self._window_start += self._clock() - start

    def step(self, counts: BatchCounts) -> None:
        """One step over a batch was started."""
        self._window.steps += 1
        self._window.counts += counts

    def take(self) -> dict[str, float]:
        """The fields since the last call, and a new window.

        Raises:
          ValueError: when no step was taken since.
        """
        now = self._clock()
        self._window.seconds = now - self._window_start
        fields = self._fields(self._window) | {"time/elapsed_s": now - self._run_start}
        self._window = Window()
        self._window_start = now
        return fields

    def _fields(self, window: Window) -> dict[str, float]:
        """A window as fields of the log. Seconds are means a step; token rates are of the target unless named."""
        if not window.steps:
            raise ValueError("No step was taken in this window, so it has no rates.")
        counts, seconds = window.counts, window.seconds
        return {
            "time/step_s": seconds / window.steps,
            "time/data_wait_s": window.data_wait / window.steps,
            "time/data_wait_share": window.data_wait / seconds,
            "time/tokens_per_s": counts.target_tokens / seconds,
            "time/padded_tokens_per_s": counts.padded_target_tokens / seconds,
            "time/source_tokens_per_s": counts.source_tokens / seconds,
            "time/padded_source_tokens_per_s": counts.padded_source_tokens / seconds,
            "time/mfu": self._flops(counts) / seconds / self._peak_flops,
        }

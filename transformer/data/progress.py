"""How far the preparation is, for people."""

import sys
from collections.abc import Callable

from tqdm import tqdm

_LABEL = 48

Progress = Callable[[str, int, int | None], None]
"""Called with what is done now, how many of it are done, and how many there are where that is known."""


def silent(what: str, done: int, total: int | None) -> None:
    """The progress nobody watches."""


class ProgressBar:
    """A bar on stderr for each thing done; use it as a context manager."""

    def __init__(self):
        self._bar: tqdm | None = None
        self._what = ""

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(self, *exception) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, what: str, done: int, total: int | None) -> None:
        if what != self._what:
            self.__exit__()
            # Not on a terminal, such as in a log, a line every 10 s is enough.
            interval = 0.1 if sys.stderr.isatty() else 10
            # The end of a long corpus name says more than its beginning.
            label = what if len(what) <= _LABEL else f"{what[: _LABEL // 3]}...{what[-(_LABEL - _LABEL // 3 - 3) :]}"
            self._bar = tqdm(desc=label, total=total, unit=" pairs", unit_scale=True, mininterval=interval, leave=False)
            self._what = what
        self._bar.update(done - self._bar.n)

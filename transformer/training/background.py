"""Work beside the main thread that an interrupt does not stop."""

import threading
from collections.abc import Callable


class Background:
    """Runs `work` in a thread of its own and keeps the exception it ended with.

    `work` is given an event, which it sets when it can do without whoever started it.

    Ctrl-C raises in the main thread only, so waiting for the work may be interrupted, and tried again, but never the
    work itself. (`Thread.join` will not do: interrupted once, Python 3.11 takes the thread for ended.)
    """

    def __init__(self, name: str, work: Callable[[threading.Event], None]):
        self.error: Exception | None = None
        self._work = work
        self._released = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name)

    def start(self) -> None:
        """Returns when the work has set its event, or has ended."""
        self._thread.start()
        self._released.wait()

    def wait(self) -> None:
        """Returns when the work has ended; at once if an interrupt kept it from starting."""
        if self._thread.ident is not None:
            self._ended.wait()

    def _run(self) -> None:
        try:
            self._work(self._released)
        except Exception as error:
            self.error = error
        finally:
            self._ended.set()
            self._released.set()

"""Objects written in the background, so that training need not wait for the network."""

import threading

from absl import logging

from transformer.training import storage
from transformer.training.storage import Place, StorageError

# Stores take about one new content a second for the same object.
PAUSE = 1.0
# While a store fails the pause doubles, up to this.
LONGEST_PAUSE = 60.0


class Uploads:
    """Writes each object whole, with its newest content. What a store did not take is kept and tried again."""

    def __init__(self):
        self._newest: dict[Place, bytes] = {}
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._news = threading.Event()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def put(self, path: Place, content: bytes) -> None:
        """Returns at once. `content` takes the place of whatever is in `path`, or is still on its way there."""
        with self._lock:
            self._newest[path] = content
        self._news.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="uploads", daemon=True)
            self._thread.start()

    def wait(self) -> None:
        """Returns when all is in the store.

        Raises:
          StorageError: it is not, and trying again may help: nothing is forgotten.
        """
        with self._writing:
            self._write()

    def close(self) -> None:
        """Waits, and ends the thread. Raises StorageError as `wait`."""
        try:
            self.wait()
        finally:
            self._closed.set()
            self._news.set()

    def _run(self) -> None:
        failures = 0
        while not self._closed.is_set():
            self._news.wait()
            self._news.clear()
            pause = PAUSE
            try:
                with self._writing:
                    self._write()
                failures = 0
            except StorageError as error:
                pause = min(PAUSE * 2**failures, LONGEST_PAUSE)
                failures += 1
                logging.warning("%s It is tried again in %g s.", error, pause)
                self._news.set()
            self._closed.wait(pause)

    def _write(self) -> None:
        for path, content in list(self._newest.items()):
            storage.write(path, content)
            with self._lock:
                if self._newest[path] is content:  # nothing newer came meanwhile
                    del self._newest[path]

"""The metrics and sample translations of a run for TensorBoard, written by tensorboardX (no TensorFlow).

Seen with `tensorboard --logdir=WORKDIR/tensorboard`.
"""

from collections.abc import Mapping
from typing import Any, Self

from absl import logging
from tensorboardX import SummaryWriter
from tensorboardX.record_writer import register_writer_factory

from transformer.training import storage
from transformer.training.storage import Place, StorageError
from transformer.training.uploads import Uploads

# Events reach the disk this many seconds after they were logged at the latest; a killed process loses the rest.
FLUSH_SECONDS = 5
# In an object store the whole file goes there again every time.
FLUSH_SECONDS_IN_STORE = 30


class TensorBoardLog:
    """Adds an event file to `directory`. Steps after `resumed_step` in older files are voided: none shows twice."""

    def __init__(self, directory: Place, resumed_step: int = 0):
        in_store = storage.in_store(directory)
        if in_store:
            # tensorboardX's own writers ask for other packages, and end its thread at the first error.
            register_writer_factory(str(directory).partition(":")[0], _StoreFactory())
        self._writer = SummaryWriter(
            str(directory),
            purge_step=resumed_step + 1,
            flush_secs=FLUSH_SECONDS_IN_STORE if in_store else FLUSH_SECONDS,
            # File names hold whole seconds: a run resumed at once must not overwrite the file of the one before.
            filename_suffix=f".after-{resumed_step}",
        )

    def scalars(self, record: Mapping[str, Any]) -> None:
        """Every finite number of a line of the metrics log."""
        for name, value in record.items():
            if name != "step" and isinstance(value, (int, float)):
                self._writer.add_scalar(name, value, record["step"])

    def text(self, name: str, markdown: str, step: int) -> None:
        self._writer.add_text(name, markdown, step)

    def close(self) -> None:
        self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class _StoreFile:
    """An event file as tensorboardX writes it: every flush puts all of it into the store, in the background."""

    def __init__(self, path: Place):
        self._path = path
        self._content = bytearray()
        self._uploads = Uploads()

    def write(self, data: bytes) -> None:
        self._content += data

    def flush(self) -> None:
        self._uploads.put(self._path, bytes(self._content))

    def close(self) -> None:
        self.flush()
        try:
            self._uploads.close()
        except StorageError as error:
            # All that is in it is in metrics.jsonl too.
            logging.warning("TensorBoard's file %s lacks its end: %s", self._path, error)


class _StoreFactory:
    """What tensorboardX asks for files of a kind of URL."""

    def open(self, path: str) -> _StoreFile:
        return _StoreFile(storage.place(path))

    def directory_check(self, path: str) -> None:
        """Stores have no directories."""

"""The metrics and sample translations of a run for TensorBoard, written by tensorboardX (no TensorFlow).

Seen with `tensorboard --logdir=WORKDIR/tensorboard`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from tensorboardX import SummaryWriter

# Events reach the disk this many seconds after they were logged at the latest; a killed process loses the rest.
FLUSH_SECONDS = 5


class TensorBoardLog:
    """Adds an event file to `directory`. Steps after `resumed_step` in older files are voided: none shows twice."""

    def __init__(self, directory: Path, resumed_step: int = 0):
        self._writer = SummaryWriter(
            str(directory),
            purge_step=resumed_step + 1,
            flush_secs=FLUSH_SECONDS,
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

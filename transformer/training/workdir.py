"""Where everything of a run lies in its work directory."""

import dataclasses
import os
import uuid

from transformer import config as config_module
from transformer.config import Config
from transformer.training import storage
from transformer.training.storage import Place


class WorkdirError(Exception):
    """A work directory cannot be used: says which, why, and the way out."""


@dataclasses.dataclass(frozen=True)
class Workdir:
    """The paths of a run, in a folder or an object store.

    `root` may be given as text. A folder's is made absolute: checkpoints ask for it, and messages can be used anywhere.

    Raises:
      StorageError: for a store that cannot be used from here.
    """

    root: Place

    def __init__(self, root: str | os.PathLike):
        object.__setattr__(self, "root", storage.place(root))

    @property
    def config(self) -> Place:
        return self.root / "config.json"

    @property
    def checkpoints(self) -> Place:
        return self.root / "checkpoints"

    @property
    def average(self) -> Place:
        """The mean of the last checkpoints, itself a directory of checkpoints."""
        return self.root / "average"

    @property
    def metrics(self) -> Place:
        """For `metrics_log`, which in a store keeps it in parts."""
        return self.root / "metrics.jsonl"

    @property
    def tensorboard(self) -> Place:
        return self.root / "tensorboard"

    @property
    def profile(self) -> Place:
        return self.root / "profile"

    @property
    def curves(self) -> Place:
        return self.root / "curves.png"

    @property
    def attention(self) -> Place:
        return self.root / "attention.png"

    @property
    def summary(self) -> Place:
        return self.root / "summary.json"

    def check(self, flag: str = "--workdir") -> None:
        """Whether the directory can be made or written to, as far as can be seen without trying; in a store, by trying.

        Args:
          flag: that names it, for errors.

        Raises:
          WorkdirError, StorageError: it cannot.
        """
        if storage.in_store(self.root):
            # Better than to hear of a missing right when the data is prepared and the program compiled.
            probe = self.root / f"probe-{uuid.uuid4()}"
            storage.write(probe, b"")
            storage.remove(probe)
            return
        nearest = self.root
        while not nearest.exists():
            nearest = nearest.parent
        if not nearest.is_dir():
            raise WorkdirError(f"{flag}={self.root}: {nearest} is a file. Choose another folder.")
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise WorkdirError(f"{flag}={self.root}: no permission to write in {nearest}. Choose another folder.")

    def create(self) -> None:
        """Raises WorkdirError when the directory cannot be made. In a store it is there with its first file."""
        if storage.in_store(self.root):
            return
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WorkdirError(
                f"--workdir={self.root} cannot be made ({error.strerror}). Choose another folder."
            ) from error

    def write_config(self, config: Config) -> None:
        """Saves the config, the old one or the new one whole at any moment."""
        storage.write(self.config, config_module.to_json(config).encode())

"""Where everything of a run lies in its work directory."""

import dataclasses
import os
from pathlib import Path

from transformer import config as config_module
from transformer.config import Config
from transformer.training import whole_file


class WorkdirError(Exception):
    """A work directory cannot be used: says which, why, and the way out."""


@dataclasses.dataclass(frozen=True)
class Workdir:
    """The paths of a run. `root` is made absolute: checkpoints ask for it, and messages can be used anywhere."""

    root: Path

    def __post_init__(self):
        if self.root.parts and self.root.parts[0].endswith(":"):  # of gs://bucket/run a Path keeps gs:/bucket/run
            raise WorkdirError(
                f"--workdir={self.root.parts[0]}//{'/'.join(self.root.parts[1:])}: work directories in object stores "
                "are not supported. Choose a folder; on several machines one that all see, such as an NFS share."
            )
        object.__setattr__(self, "root", self.root.expanduser().absolute())

    @property
    def config(self) -> Path:
        return self.root / "config.json"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def average(self) -> Path:
        """The mean of the last checkpoints, itself a directory of checkpoints."""
        return self.root / "average"

    @property
    def metrics(self) -> Path:
        return self.root / "metrics.jsonl"

    @property
    def tensorboard(self) -> Path:
        return self.root / "tensorboard"

    @property
    def profile(self) -> Path:
        return self.root / "profile"

    @property
    def curves(self) -> Path:
        return self.root / "curves.png"

    @property
    def attention(self) -> Path:
        return self.root / "attention.png"

    @property
    def summary(self) -> Path:
        return self.root / "summary.json"

    def check(self) -> None:
        """Raises WorkdirError when the directory cannot be made or written to, as far as can be seen without trying."""
        nearest = self.root
        while not nearest.exists():
            nearest = nearest.parent
        if not nearest.is_dir():
            raise WorkdirError(f"--workdir={self.root}: {nearest} is a file. Choose another folder.")
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise WorkdirError(f"--workdir={self.root}: no permission to write in {nearest}. Choose another folder.")

    def create(self) -> None:
        """Raises WorkdirError when the directory cannot be made."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WorkdirError(
                f"--workdir={self.root} cannot be made ({error.strerror}). Choose another folder."
            ) from error

    def write_config(self, config: Config) -> None:
        """Saves the config, the old one or the new one whole at any moment."""
        whole_file.write(self.config, config_module.to_json(config))

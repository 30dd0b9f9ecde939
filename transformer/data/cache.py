"""The folder of tokenised corpora and trained tokenizers, found by the hash of what they were made from.

    tokenizers/KEY/   source.model [, target.model]
    tokens/KEY/       a finished TokenStore and its report.json
    tokens/KEY.parts/ the shards of one that is being made, or that a kill left behind
    hashes/           what the bytes of a file hashed to, so that large files are hashed once
    locks/            one process at a time makes an entry

Everything appears under its name whole, by a rename. Any of it may be deleted while no process prepares data.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from transformer.config import ConfigError

_DEFAULT = "~/.cache/transformer/data"
# A file changed again within the resolution of its clock would keep its times: hashes of such are not remembered.
_SETTLED_SECONDS = 2.0


@dataclasses.dataclass(frozen=True)
class Cache:
    """The cache folder; `Cache.open` makes it."""

    root: Path

    @classmethod
    def open(cls, cache_dir: str | None) -> "Cache":
        """Makes the folder where it is missing.

        Raises:
          ConfigError: when it cannot be written.
        """
        root = Path(cache_dir or _DEFAULT).expanduser()
        try:
            for name in ("tokenizers", "tokens", "hashes", "locks"):
                (root / name).mkdir(parents=True, exist_ok=True)
            probe = root / f".probe.{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise ConfigError(
                "data.cache_dir",
                str(root),
                f"cannot be written ({error.strerror})",
                "Set it to a folder of yours with room for the tokenised text.",
            ) from error
        return cls(root)

    @contextlib.contextmanager
    def lock(self, key: str, on_wait: Callable[[], None]) -> Iterator[None]:
        """Holds the lock of one entry; the system frees it when the process ends, however that happens."""
        with open(self.root / "locks" / key, "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                on_wait()
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def file_hash(self, path: Path) -> str:
        """SHA-256 of the file's bytes, remembered while its path and all that its status says of changes stay the same.

        Size and time of writing alone would not do: `cp -p` and `rsync -t` bring other bytes with an old time.
        """
        path = path.resolve()
        status = path.stat()
        seen = {
            "path": str(path),
            "inode": status.st_ino,
            "size": status.st_size,
            "mtime_ns": status.st_mtime_ns,
            "ctime_ns": status.st_ctime_ns,
        }
        memory = self.root / "hashes" / f"{key_of(str(path))}.json"
        if memory.exists():
            remembered = json.loads(memory.read_text())
            if remembered.items() >= seen.items():
                return remembered["sha256"]
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if time.time() - status.st_ctime > _SETTLED_SECONDS:
            write_atomically(memory, json.dumps(seen | {"sha256": digest}).encode())
        return digest


def key_of(*parts: Any) -> str:
    """A file name that stands for JSON-able values."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file that is either whole or not there, also after a power cut."""
    with atomic_file(path) as file:
        file.write(content)


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Any]:
    """A binary file which gets its name when the block ends without an error."""
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with open(unfinished, "wb") as file:
            yield file
        _to_disk(unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A folder which gets its name when the block ends without an error. Held under a lock: one process at a time."""
    unfinished = path.with_name(f"{path.name}.tmp")
    # What a killed process left.
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    try:
        yield unfinished
        for file in unfinished.iterdir():
            _to_disk(file)
        unfinished.rename(path)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _to_disk(path: Path) -> None:
    """Waits until the content is on the disk: only then may it get its name."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())

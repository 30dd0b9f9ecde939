"""The list of files that makes a directory a checkpoint: written last, verified before anything is read.

Orbax loads a flipped bit without a word, so `manifest.json` holds every file's size and CRC-32. A CRC finds any single
flipped bit and misses other damage once in four thousand million; it reads 1 GB a second on one core where SHA-256
read 0.3, and nobody forges their own checkpoints. A directory without a manifest is a save that did not finish.
"""

import dataclasses
import json
import os
import zlib
from concurrent.futures import ThreadPoolExecutor

from etils import epath

NAME = "manifest.json"
_READ_BYTES = 4 << 20
_READERS = 4


@dataclasses.dataclass(frozen=True)
class _File:
    """What a file must be: its size and CRC-32."""

    bytes: int
    crc32: int


class _ManifestError(Exception):
    """There is no manifest to go by, and why."""


def write(directory: epath.Path, step: int) -> None:
    """Lists every file now in `directory`, and by that declares the checkpoint of `step` complete.

    All of it is on the disk, not merely in its cache, before the manifest appears under its name.
    """
    paths = _files(directory)
    with ThreadPoolExecutor(_READERS) as readers:
        checksums = list(readers.map(_checksum, paths))
    files = {
        path.relative_to(directory).as_posix(): dataclasses.asdict(_File(path.stat().length, checksum))
        for path, checksum in zip(paths, checksums, strict=True)
    }
    for path in [*paths, *_directories(directory)]:
        _flush(path)

    temporary = directory / f"{NAME}.tmp"
    temporary.write_text(json.dumps({"step": step, "files": files}, indent=1))
    _flush(temporary)
    temporary.replace(directory / NAME)
    _flush(directory)
    _flush(directory.parent)


def exists(directory: epath.Path) -> bool:
    """Whether the save of this directory finished. Says nothing of damage since."""
    return (directory / NAME).exists()


def problems(directory: epath.Path, step: int) -> list[str]:
    """What is wrong with `directory` as the checkpoint of `step`, a phrase a file; empty when all of it is sound.

    Reads every byte once, unless names or sizes are wrong already.
    """
    try:
        files = _read(directory, step)
    except _ManifestError as error:
        return [str(error)]
    found = [problem for name, file in files.items() if (problem := _presence_problem(directory, name, file))]
    if found:
        return found
    with ThreadPoolExecutor(_READERS) as readers:
        results = readers.map(lambda name: _content_problem(directory, name, files[name]), files)
        return [problem for problem in results if problem]


def stamp(directory: epath.Path) -> list[tuple[str, int, int]] | None:
    """Names, sizes and times of all files: another list when one was written to. None where times are not to be had."""
    if "://" in os.fspath(directory):
        return None
    statuses = [(path, os.stat(path)) for path in _files(directory)] if directory.exists() else []
    return [(os.fspath(path), status.st_size, status.st_mtime_ns) for path, status in statuses]


def _read(directory: epath.Path, step: int) -> dict[str, _File]:
    if not directory.exists():
        raise _ManifestError("there is no such directory")
    if not exists(directory):
        raise _ManifestError(f"{NAME} is missing: the save was cut short, or is still being written")
    try:
        content = json.loads((directory / NAME).read_bytes())
        files = {name: _File(**fields) for name, fields in content["files"].items()}
        listed_step = content["step"]
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise _ManifestError(f"{NAME} cannot be read ({type(error).__name__}: {error})") from error
    if listed_step != step:
        raise _ManifestError(f"{NAME} belongs to step {listed_step}")
    return files


def _presence_problem(directory: epath.Path, name: str, expected: _File) -> str | None:
    path = directory / name
    if not path.exists():
        return f"{name} is missing"
    length = path.stat().length
    return None if length == expected.bytes else f"{name} has {length} bytes instead of {expected.bytes}"


def _content_problem(directory: epath.Path, name: str, expected: _File) -> str | None:
    try:
        checksum = _checksum(directory / name)
    except OSError as error:
        return f"{name} cannot be read ({error})"
    return None if checksum == expected.crc32 else f"{name} differs from its checksum"


def _checksum(path: epath.Path) -> int:
    checksum = 0
    with path.open("rb") as stream:
        while chunk := stream.read(_READ_BYTES):
            checksum = zlib.crc32(chunk, checksum)
    return checksum


def _files(directory: epath.Path) -> list[epath.Path]:
    found = []
    for path in sorted(directory.iterdir()):
        found += _files(path) if path.is_dir() else [path]
    return found


def _directories(directory: epath.Path) -> list[epath.Path]:
    below = [found for path in directory.iterdir() if path.is_dir() for found in _directories(path)]
    return [*below, directory]


def _flush(path: epath.Path) -> None:
    if "://" in os.fspath(path):  # Object stores keep what they have acknowledged.
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

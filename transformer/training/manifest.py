"""The list of files that makes a directory a checkpoint: written last, verified before anything is read.

Orbax loads a flipped bit without a word, so `manifest.json` holds every file's size and CRC-32. A CRC finds any single
flipped bit and misses other damage once in four thousand million; it reads 1 GB a second on one core where SHA-256
read 0.3, and nobody forges their own checkpoints. A directory without a manifest is a save that did not finish.

Object stores that know the MD5 of what they keep are asked for it instead: one question for all files of a checkpoint,
where reading would bring all of it over the network, to every process. A copy of such a checkpoint on a disk is read
like any other.
"""

import base64
import dataclasses
import hashlib
import json
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath

from etils import epath

from transformer.training import storage
from transformer.training.storage import File

NAME = "manifest.json"
_READ_BYTES = 4 << 20
_READERS = 4


@dataclasses.dataclass(frozen=True)
class _Expected:
    """What a file must be: its size, and its CRC-32 or its MD5 in base64."""

    bytes: int
    crc32: int | None = None
    md5: str | None = None

    def __post_init__(self):
        if (self.crc32 is None) == (self.md5 is None):
            raise ValueError("a file has one checksum")


class _ManifestError(Exception):
    """There is no manifest to go by, and why."""


def write(directory: epath.Path, step: int) -> None:
    """Lists every file now in `directory`, and by that declares the checkpoint of `step` complete.

    All of it is on the disk, not merely in its cache, before the manifest appears under its name.
    """
    files = storage.files(directory)
    with ThreadPoolExecutor(_READERS) as readers:
        listed = dict(zip(files, readers.map(_as_listed, files.values()), strict=True))
    parents = {parent for name in files for parent in PurePosixPath(name).parents}
    for name in [*files, *parents]:
        storage.flush(directory / name)

    storage.write(directory / NAME, json.dumps({"step": step, "files": listed}, indent=1).encode())
    storage.flush(directory)
    storage.flush(directory.parent)


def exists(directory: epath.Path) -> bool:
    """Whether the save of this directory finished. Says nothing of damage since."""
    return storage.exists(directory / NAME)


def problems(directory: epath.Path, step: int) -> list[str]:
    """What is wrong with `directory` as the checkpoint of `step`, a phrase a file; empty when all of it is sound.

    Reads every byte once, unless names or sizes are wrong already, or the store knows the checksum.

    Raises:
      StorageError: the object store cannot be asked now: nothing is known to be wrong.
    """
    files = storage.files(directory)
    try:
        expected = _read(directory, step, files)
    except _ManifestError as error:
        return [str(error)]
    found = [problem for name, file in expected.items() if (problem := _presence_problem(name, files.get(name), file))]
    if found:
        return found
    with ThreadPoolExecutor(_READERS) as readers:
        results = readers.map(lambda name: _content_problem(name, files[name], expected[name]), expected)
        return [problem for problem in results if problem]


def stamp(directory: epath.Path) -> list[tuple[str, int, str]] | None:
    """Names, sizes and times of all files: another list when one was written to. None where a store does not tell."""
    files = storage.files(directory)
    if any(file.mark is None for file in files.values()):
        return None
    return [(name, file.bytes, file.mark) for name, file in files.items()]


def _read(directory: epath.Path, step: int, files: dict[str, File]) -> dict[str, _Expected]:
    if not files and not storage.exists(directory):
        raise _ManifestError("there is no such directory")
    if NAME not in files:
        raise _ManifestError(f"{NAME} is missing: the save was cut short, or is still being written")
    try:
        content = json.loads(storage.read(directory / NAME))
        expected = {name: _Expected(**fields) for name, fields in content["files"].items()}
        listed_step = content["step"]
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise _ManifestError(f"{NAME} cannot be read ({type(error).__name__}: {error})") from error
    if listed_step != step:
        raise _ManifestError(f"{NAME} belongs to step {listed_step}")
    return expected


def _presence_problem(name: str, file: File | None, expected: _Expected) -> str | None:
    if file is None:
        return f"{name} is missing"
    return None if file.bytes == expected.bytes else f"{name} has {file.bytes} bytes instead of {expected.bytes}"


def _content_problem(name: str, file: File, expected: _Expected) -> str | None:
    try:
        sound = _md5(file) == expected.md5 if expected.crc32 is None else _crc32(file) == expected.crc32
    except OSError as error:
        return f"{name} cannot be read ({error})"
    return None if sound else f"{name} differs from its checksum"


def _as_listed(file: File) -> dict[str, int | str]:
    checksum = {"crc32": _crc32(file)} if file.md5 is None else {"md5": file.md5}
    return {"bytes": file.bytes} | checksum


def _crc32(file: File) -> int:
    checksum = 0
    with storage.reading(file.path) as stream:
        while chunk := stream.read(_READ_BYTES):
            checksum = zlib.crc32(chunk, checksum)
    return checksum


def _md5(file: File) -> str:
    if file.md5 is not None:
        return file.md5
    with storage.reading(file.path) as stream:
        return base64.b64encode(hashlib.file_digest(stream, "md5").digest()).decode()

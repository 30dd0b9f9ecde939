"""Where a run's files lie: in a folder, or in an object store (gs://bucket/run). The one place that tells them apart.

In a folder, paths are `pathlib`'s, and a file appears whole by a rename once it is on the disk.

In a store, paths are `etils.epath`'s, over fsspec and without TensorFlow. There are neither folders nor locks there,
and nothing can be appended to or renamed; but an object is there whole, the old one or the new, and what was
acknowledged is kept. So nothing is half-written there either, as long as objects are written whole, and what declares
many of them complete is written last. Listings are never cached: other machines, and TensorStore in this process, write
too.
"""

import contextlib
import dataclasses
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

if TYPE_CHECKING:
    from etils import epath
    from fsspec import AbstractFileSystem

Place: TypeAlias = "Path | epath.Path"

# What brings fsspec's side of each kind of store.
_INSTALL = {
    "gs": "pip install 'transformer[gcs]'",
    "s3": "pip install 'transformer[s3]'",
    "az": "pip install adlfs",
}
# fsspec asks for its settings by all names of a kind of store.
_PROTOCOLS = ("gs", "gcs", "s3", "s3a", "az", "abfs")

# Read when epath and gcsfs are first used. Where TensorFlow is installed epath would load it for stores; gcsfs would
# ask another service for the bucket's type, on which nothing here depends.
os.environ.setdefault("EPATH_USE_TF", "false")
os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")


class StorageError(Exception):
    """An object store cannot be used: says which, why, and the way out. Not that something is not there."""


def place(text: str | os.PathLike) -> Place:
    """The path that is meant; a folder's is made absolute.

    Raises:
      StorageError: for a kind of store that is not known, or whose package is not installed.
    """
    text = os.fspath(text)
    url = re.fullmatch(r"(\w+):/+(.*)", text)  # of gs://bucket/run a `Path` keeps gs:/bucket/run
    if url is None or ("://" not in text and url[1] not in _INSTALL):
        return Path(text).expanduser().absolute()
    return _in_store(*url.groups())


def in_store(path: Place) -> bool:
    """Whether it lies in an object store."""
    return "://" in os.fspath(path)


def write(path: Place, content: bytes) -> None:
    """Puts `content` in the place of what was there; a reader sees the old or the new, never a part, ever after.

    Raises:
      StorageError: the store did not take it; what was there is untouched.
    """
    if in_store(path):
        with _explained(path):
            _filesystem(path).pipe_file(os.fspath(path), content)
        return
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def remove(path: Place) -> None:
    """Raises StorageError when the store does not remove it."""
    if not in_store(path):
        path.unlink()
        return
    with _explained(path):
        _filesystem(path).rm_file(os.fspath(path))


def exists(path: Place) -> bool:
    """Raises StorageError when the store cannot tell."""
    if not in_store(path):
        return path.exists()
    with _explained(path):
        # Not `exists`: of most of fsspec's stores that is false whenever anything goes wrong.
        try:
            _filesystem(path).info(os.fspath(path))
        except FileNotFoundError:
            return False
        return True


def children(directory: Place) -> list[Place]:
    """What lies in `directory`; nothing where there is no such directory.

    Raises:
      StorageError: the store cannot tell.
    """
    if not in_store(directory):
        return list(directory.iterdir()) if directory.exists() else []
    with _explained(directory):
        try:
            found = _filesystem(directory).ls(os.fspath(directory), detail=False)
        except FileNotFoundError:
            return []
    names = {name.rstrip("/").rpartition("/")[2] for name in found if not name.endswith(f"/{directory.name}/")}
    return [directory / name for name in sorted(names)]


@contextlib.contextmanager
def reading(path: Place) -> Iterator[BinaryIO]:
    """The content as a stream.

    Raises:
      FileNotFoundError: it is not there.
      StorageError: the store cannot be read now, which says nothing of what is in it. In a folder that is an OSError.
    """
    guard = _explained(path, passing=FileNotFoundError) if in_store(path) else contextlib.nullcontext()
    with guard, path.open("rb") as stream:
        yield stream


def read(path: Place) -> bytes:
    """The content, with the errors of `reading`."""
    if not in_store(path):
        return path.read_bytes()
    with _explained(path, passing=FileNotFoundError):
        return _filesystem(path).cat_file(os.fspath(path))


@dataclasses.dataclass(frozen=True)
class File:
    """A file as its folder or store describes it, unread.

    Attributes:
      mark: is another one after every writing; None where the store has nothing of the kind.
      md5: of the content, in base64, where the store says so. It checks that itself.
    """

    path: Place
    bytes: int
    mark: str | None
    md5: str | None = None


def files(directory: Place) -> dict[str, File]:
    """All files below, by their paths from there; none where there is no such directory.

    Raises:
      StorageError: the store cannot tell.
    """
    if in_store(directory):
        found = _listed(directory)
        return {name: _described(directory / name, info) for name, info in found.items()}
    paths = [path for path in sorted(Path(directory).rglob("*")) if path.is_file()]
    return {path.relative_to(directory).as_posix(): _status(path) for path in paths}


def flush(path: Place) -> None:
    """Returns when the file, or the list of names of the folder, is on the disk. A store's is when it is written."""
    if in_store(path):
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# --- for libraries that know folders only ---


@contextlib.contextmanager
def written_as_folder(directory: Place) -> Iterator[Path]:
    """A folder to be made and filled: `directory` itself, or one that goes to the store when the block ends well."""
    if not in_store(directory):
        yield Path(directory)
        return
    with tempfile.TemporaryDirectory(prefix="transformer-") as scratch:
        folder = Path(scratch) / directory.name
        yield folder
        found = files(folder)
        with _explained(directory):
            sources = [os.fspath(file.path) for file in found.values()]
            _filesystem(directory).put(sources, [os.fspath(directory / name) for name in found])


@contextlib.contextmanager
def read_as_folder(directory: Place) -> Iterator[Path]:
    """A folder to read: `directory` itself, or a copy of what the store holds under it."""
    if not in_store(directory):
        yield Path(directory)
        return
    with tempfile.TemporaryDirectory(prefix="transformer-") as scratch:
        folder = Path(scratch) / directory.name
        found = files(directory)
        with _explained(directory):
            targets = [os.fspath(folder / name) for name in found]
            _filesystem(directory).get([os.fspath(file.path) for file in found.values()], targets)
        yield folder


# --- stores ---


def _in_store(scheme: str, rest: str) -> "epath.Path":
    if scheme not in _INSTALL or not rest.strip("/"):
        known = ", ".join(f"{name}://BUCKET/..." for name in _INSTALL)
        raise StorageError(f"{scheme}://{rest}: a work directory is a folder, or lies in a store: {known}")
    import fsspec
    from etils import epath

    try:
        fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        raise StorageError(f"{scheme}://{rest}: {error}. To use it: {_INSTALL[scheme]}") from error
    for name in _PROTOCOLS:
        fsspec.config.conf.setdefault(name, {}).setdefault("use_listings_cache", False)
    return epath.Path(f"{scheme}://{rest}")


def _filesystem(path: Place) -> "AbstractFileSystem":
    import fsspec

    return fsspec.core.url_to_fs(os.fspath(path))[0]


def _listed(directory: Place) -> dict[str, dict[str, Any]]:
    """What fsspec tells of each object below, by its path from there."""
    filesystem = _filesystem(directory)
    with _explained(directory):
        try:
            found = filesystem.find(os.fspath(directory), detail=True)
        except FileNotFoundError:
            return {}
    prefix = filesystem._strip_protocol(os.fspath(directory)).rstrip("/") + "/"
    return {
        name.removeprefix(prefix): info
        for name, info in sorted(found.items())
        if name.startswith(prefix) and name != prefix
    }


@contextlib.contextmanager
def _explained(path: Place, passing: type[Exception] | tuple[()] = ()) -> Iterator[None]:
    """Turns what goes wrong on the way to a store into a StorageError: each of fsspec's raises errors of its own."""
    try:
        yield
    except passing:
        raise
    except Exception as error:
        raise StorageError(
            f"{path}: the object store failed ({type(error).__name__}: {error}). Check the network, the bucket's name, "
            "and that this machine may read and write there."
        ) from error


def _described(path: "epath.Path", info: dict[str, Any]) -> File:
    marks = (str(info[name]) for name in ("generation", "ETag", "etag", "mtime", "created") if info.get(name))
    return File(path, info["size"], next(marks, None), info.get("md5Hash"))


def _status(path: Path) -> File:
    status = path.stat()
    return File(path, status.st_size, str(status.st_mtime_ns))

"""Lines of text, appended one by one and never half: in a file, or where none can be appended to, in parts.

In an object store the log metrics.jsonl is the folder metrics, of objects 000001.jsonl, 000002.jsonl and so on: in the
order of their names, one after the other, they are the file. The last one is written anew with every line, whole, until
it is large enough.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from transformer.training import storage
from transformer.training.storage import Place
from transformer.training.uploads import Uploads

# A part that is larger gets no further lines: about a hundred records of a run.
PART_BYTES = 64 << 10
_READERS = 8


def read(path: Place) -> bytes | None:
    """The whole log at `path`; None when there is none."""
    if storage.in_store(path):
        parts = _parts(path)
        return b"".join(parts.values()) if parts else None
    return storage.read(path) if path.exists() else None


def replace(path: Place, text: bytes) -> None:
    """Makes `text` the log. A kill meanwhile leaves the old log; in a store it may leave a beginning of it."""
    if not storage.in_store(path):
        storage.write(path, text)
        return
    kept, rest = [], text
    parts = _parts(path)
    for part, content in parts.items():
        if not rest.startswith(content):
            break
        kept.append(part)
        rest = rest[len(content) :]
    others = list(parts)[len(kept) :]
    for part in reversed(others[bool(rest) :]):  # from the end
        storage.remove(part)
    if rest:
        storage.write(others[0] if others else _part(path, _number(kept) + 1), rest)


class FileLines:
    """Hands every line to the operating system at once: a killed process leaves whole lines and at most its last one
    torn; only a power cut can lose more.
    """

    def __init__(self, path: Place):
        self._file = path.open("a", encoding="utf-8")

    def append(self, line: str) -> None:
        """`line` with its end."""
        self._file.write(line)
        self._file.flush()

    def settle(self) -> None:
        """Returns when no kill of this process can lose a line: at once."""

    def close(self) -> None:
        self._file.close()


class PartedLines:
    """As `FileLines`, in a store. Lines go there in the background: a kill may lose those of the last seconds."""

    def __init__(self, path: Place):
        self._path = path
        parts = _parts(path)
        self._number, self._content = max(_number(parts), 1), next(reversed(parts.values()), b"")
        self._uploads = Uploads()

    def append(self, line: str) -> None:
        if len(self._content) >= PART_BYTES:
            self._number, self._content = self._number + 1, b""
        self._content += line.encode()
        self._uploads.put(_part(self._path, self._number), self._content)

    def settle(self) -> None:
        """As that of `FileLines`.

        Raises:
          StorageError: the store does not take them; they are kept, and can be settled later.
        """
        self._uploads.wait()

    def close(self) -> None:
        """Settles."""
        self._uploads.close()


def append_to(path: Place) -> FileLines | PartedLines:
    """The log at `path`, to go on with."""
    return PartedLines(path) if storage.in_store(path) else FileLines(path)


def _part(path: Place, number: int) -> Place:
    return path.with_suffix("") / f"{number:06}{path.suffix}"


def _number(parts: Iterable[Place]) -> int:
    """Of the last one; 0 when there is none."""
    return max((int(part.stem) for part in parts), default=0)


def _parts(path: Place) -> dict[Place, bytes]:
    """The contents of the parts in their order."""
    found = storage.files(path.with_suffix(""))
    paths = [file.path for name, file in found.items() if name.removesuffix(path.suffix).isdecimal()]
    with ThreadPoolExecutor(_READERS) as readers:
        return dict(zip(paths, readers.map(storage.read, paths), strict=True))

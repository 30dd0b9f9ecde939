"""An object store in memory, behind fsspec: it can do no more than such stores can, and fails when told to."""

import contextlib
import hashlib
from collections.abc import Callable, Iterator

import fsspec
from fsspec.implementations.memory import MemoryFile


class FakeStore(fsspec.AbstractFileSystem):
    """Objects that are written whole or not at all. Takes the place of s3:// in the tests' processes.

    Attributes:
      objects: contents by `bucket/name`.
      before_write: called with the name and the content of every object; what it raises, the store answers.
    """

    protocol = "s3"
    cachable = False
    objects: dict[str, bytes] = {}
    before_write: Callable[[str, bytes], None] = staticmethod(lambda name, content: None)

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path.removeprefix("s3://").strip("/")

    def ls(self, path: str, detail: bool = True, **options):
        path = self._strip_protocol(path)
        found = {}
        for name, content in self.objects.items():
            if name == path:
                found[name] = {"name": name, "size": len(content), "type": "file"} | _mark(content)
            elif name.startswith(f"{path}/"):
                child = f"{path}/{name.removeprefix(f'{path}/').partition('/')[0]}"
                kind = {"size": len(content), "type": "file"} | _mark(content)
                found[child] = {"name": child} | (kind if child == name else {"size": 0, "type": "directory"})
        if not found:
            raise FileNotFoundError(path)
        return list(found.values()) if detail else list(found)

    def find(self, path: str, detail: bool = False, **options):
        """All below in one answer, as of real stores."""
        path = self._strip_protocol(path)
        found = [name for name in self.objects if name.startswith(f"{path}/")]
        listed = {name: self.ls(name)[0] for name in found}
        return listed if detail else list(listed)

    def pipe_file(self, path: str, value: bytes, **options) -> None:
        name = self._strip_protocol(path)
        type(self).before_write(name, value)
        self.objects[name] = bytes(value)

    def _open(self, path: str, mode: str = "rb", **options):
        name = self._strip_protocol(path)
        if mode == "rb":
            if name not in self.objects:
                raise FileNotFoundError(name)
            return MemoryFile(None, None, self.objects[name])
        if mode != "wb":
            raise NotImplementedError(f"mode {mode}: objects cannot be changed")
        return _Upload(self, name)

    def cp_file(self, *paths, **options) -> None:
        raise NotImplementedError("objects cannot be copied, and so not renamed")

    def rm_file(self, path: str) -> None:
        del self.objects[self._strip_protocol(path)]

    def rm(self, path: str, recursive: bool = False, maxdepth: int | None = None) -> None:
        for name in self.find(path) if recursive else [path]:
            self.rm_file(name)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        pass

    mkdir = makedirs


class _Upload(MemoryFile):
    def __init__(self, store: FakeStore, name: str):
        super().__init__(None, None)
        self._store, self._name = store, name

    def close(self) -> None:
        self._store.pipe_file(self._name, self.getvalue())


def _mark(content: bytes) -> dict[str, str]:
    return {"ETag": hashlib.md5(content).hexdigest()}


@contextlib.contextmanager
def fake_s3() -> Iterator[type[FakeStore]]:
    """An empty store behind s3://."""
    fsspec.register_implementation("s3", FakeStore, clobber=True)
    FakeStore.objects = {}
    FakeStore.before_write = staticmethod(lambda name, content: None)
    yield FakeStore

"""The cache folder: whole files or none, hashes that follow the content, one process at a time."""

import multiprocessing
import os
import time

import pytest

from transformer.config import ConfigError
from transformer.data import cache
from transformer.data.cache import Cache, atomic_file, atomic_folder


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"config.data.cache_dir = .*file/cache.*cannot be written"):
        Cache.open(str(tmp_path / "file" / "cache"))


def test_default_folder_is_in_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Cache.open(None).root == tmp_path / ".cache/transformer/data"


def test_file_hash_is_remembered_and_follows_the_content(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "_SETTLED_SECONDS", 0.01)
    opened = Cache.open(str(tmp_path / "cache"))
    path = tmp_path / "text"

    def digest(content: str, write_time: int) -> str:
        path.write_text(content)
        os.utime(path, (write_time, write_time))
        time.sleep(0.02)
        return opened.file_hash(path)

    first = digest("one", 1000)
    with monkeypatch.context() as patch:
        patch.setattr(cache.hashlib, "file_digest", lambda *_: pytest.fail("hashed again"))
        assert opened.file_hash(path) == first
    # The second is as long and as old as the first.
    others = [digest(*written) for written in [("two", 1000), ("longer", 1000), ("one", 3000)]]
    assert len({first, *others}) == 3 and others[-1] == first


def test_hash_of_another_file_put_in_its_place(tmp_path, monkeypatch):
    """As `rsync -t` does."""
    monkeypatch.setattr(cache, "_SETTLED_SECONDS", 0.01)
    opened = Cache.open(str(tmp_path / "cache"))
    digests = set()
    for content in ("one", "two"):
        (tmp_path / content).write_text(content)
        os.utime(tmp_path / content, (1000, 1000))
        (tmp_path / content).rename(tmp_path / "text")
        time.sleep(0.02)
        digests.add(opened.file_hash(tmp_path / "text"))
    assert len(digests) == 2


def test_hash_of_a_file_just_written_is_not_trusted_later(tmp_path):
    opened = Cache.open(str(tmp_path / "cache"))
    path = tmp_path / "text"
    path.write_text("one")
    status = path.stat()
    first = opened.file_hash(path)
    path.write_text("two")
    os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns))
    assert opened.file_hash(path) != first


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_what_is_interrupted_leaves_nothing(tmp_path, error):
    with pytest.raises(error), atomic_file(tmp_path / "file") as file:
        file.write(b"half")
        raise error
    with pytest.raises(error), atomic_folder(tmp_path / "folder") as folder:
        (folder / "half").write_text("half")
        raise error
    assert not list(tmp_path.iterdir())


def test_folder_replaces_what_a_kill_left(tmp_path):
    (tmp_path / "folder.tmp").mkdir()
    (tmp_path / "folder.tmp" / "stale").write_text("")
    with atomic_folder(tmp_path / "folder") as folder:
        (folder / "fresh").write_text("")
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["fresh"]


def _hold(root, held, release):
    with Cache.open(root).lock("entry", lambda: None):
        held.set()
        release.wait(20)


def test_lock_is_waited_for_and_freed_by_a_kill(tmp_path):
    spawn = multiprocessing.get_context("spawn")
    held, release = spawn.Event(), spawn.Event()
    holder = spawn.Process(target=_hold, args=(str(tmp_path), held, release))
    holder.start()
    assert held.wait(20)
    waited = []

    def on_wait():
        waited.append(True)
        holder.kill()

    with Cache.open(str(tmp_path)).lock("other", on_wait):
        assert not waited
    with Cache.open(str(tmp_path)).lock("entry", on_wait):
        assert waited
    holder.join()

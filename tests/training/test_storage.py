"""Folders and object stores give the same answers, and neither loses what it held to a write that fails."""

from pathlib import Path

import fsspec
import pytest
from etils import epath
from fake_store import fake_s3

from transformer.training import storage
from transformer.training.storage import StorageError


@pytest.fixture
def store():
    with fake_s3() as found:
        yield found


@pytest.fixture(params=["folder", "store"])
def root(request, tmp_path, store):
    """An empty place of each kind."""
    return tmp_path / "run" if request.param == "folder" else storage.place("s3://bucket/run")


def fill(root, names) -> None:
    for name in names:
        if not storage.in_store(root):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
        storage.write(root / name, name.encode())


# --- which kind ---


def test_what_is_no_url_is_a_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/anna")
    for text in ("runs/a", Path("runs/a"), "./runs/a"):
        assert storage.place(text) == tmp_path / "runs/a"
        assert type(storage.place(text)) is type(Path())
    assert storage.place("~/a:b") == Path("/home/anna/a:b")


@pytest.mark.parametrize("text", ["s3://bucket/run", "s3://bucket/run/", Path("s3://bucket/run")])
def test_a_url_stays_one(text, store):
    place = storage.place(text)
    assert isinstance(place, epath.Path)
    assert str(place) == "s3://bucket/run"
    assert str(place / "a" / "b") == "s3://bucket/run/a/b"
    assert storage.in_store(place)


@pytest.mark.parametrize("text", ["ftp://host/run", "gs://", "s3:///"])
def test_what_cannot_be_a_store_is_named(text, store):
    with pytest.raises(StorageError, match=r"a work directory is a folder, or lies in a store: gs://BUCKET"):
        storage.place(text)


@pytest.mark.parametrize(
    ("url", "install"),
    [("gs://b/run", "pip install 'transformer[gcs]'"), ("s3://b/run", "pip install 'transformer[s3]'")],
)
def test_a_missing_package_is_named(url, install, monkeypatch):
    def missing(protocol):
        raise ImportError("Please install it")

    monkeypatch.setattr(fsspec, "get_filesystem_class", missing)
    with pytest.raises(StorageError) as error:
        storage.place(url)
    assert url in str(error.value) and install in str(error.value)


def test_listings_are_never_cached(store):
    storage.place("s3://bucket/run")
    for protocol in ("gs", "gcs", "s3", "az"):
        assert fsspec.config.conf[protocol]["use_listings_cache"] is False


# --- the same in both ---


def test_files_below_with_their_sizes(root):
    assert storage.files(root) == {}
    assert storage.children(root) == []
    fill(root, ["b", "a/c", "a/d/e"])
    assert {name: (str(file.path), file.bytes) for name, file in storage.files(root).items()} == {
        "a/c": (f"{root}/a/c", 3),
        "a/d/e": (f"{root}/a/d/e", 5),
        "b": (f"{root}/b", 1),
    }
    assert sorted(path.name for path in storage.children(root)) == ["a", "b"]
    assert storage.exists(root / "a/c") and storage.exists(root / "a") and not storage.exists(root / "a/x")


def test_a_file_has_another_mark_after_writing(root):
    fill(root, ["a"])
    before = storage.files(root)["a"].mark
    storage.write(root / "a", b"something else")
    assert storage.files(root)["a"].mark != before


def test_what_is_written_is_read(root):
    fill(root, ["a"])
    for content in (b"\x00\xff", b"", b"x" * 100_000):
        storage.write(root / "a", content)
        assert storage.read(root / "a") == content
    with pytest.raises(FileNotFoundError):
        storage.read(root / "b")


def test_a_write_that_fails_harms_nothing(store):
    path = storage.place("s3://bucket/run/a")
    storage.write(path, b"old")

    def fail(name, content):
        raise RuntimeError("quota exceeded")

    store.before_write = staticmethod(fail)
    with pytest.raises(
        StorageError, match=r"s3://bucket/run/a: the object store failed \(RuntimeError: quota exceeded"
    ):
        storage.write(path, b"new")
    assert storage.read(path) == b"old"


def test_a_store_that_does_not_answer_is_not_an_empty_one(store, monkeypatch):
    def fail(*arguments, **options):
        raise ConnectionError("network is unreachable")  # an OSError, as a missing file is

    for name in ("ls", "find", "_open"):
        monkeypatch.setattr(store, name, fail)
    root = storage.place("s3://bucket/run")
    for ask in (storage.files, storage.children, storage.exists, storage.read):
        with pytest.raises(StorageError, match="network is unreachable"):
            ask(root)


# --- as a folder ---


def test_a_folder_goes_to_its_place_when_it_is_filled(root, store):
    with storage.written_as_folder(root / "trace") as folder:
        (folder / "deep").mkdir(parents=True)
        (folder / "deep/a").write_text("1")
        (folder / "b").write_text("2")
        assert store.objects == {}
    assert {name: storage.read(file.path) for name, file in storage.files(root / "trace").items()} == {
        "b": b"2",
        "deep/a": b"1",
    }
    with storage.read_as_folder(root / "trace") as folder:
        assert (folder / "deep/a").read_text() == "1"
        assert (folder / "b").read_text() == "2"


def test_a_folder_that_was_not_filled_does_not_reach_the_store(store):
    with pytest.raises(KeyError), storage.written_as_folder(storage.place("s3://bucket/run")) as folder:
        folder.mkdir()
        (folder / "a").write_text("1")
        raise KeyError
    assert store.objects == {}

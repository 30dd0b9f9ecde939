"""Background writes: nobody waits for them, nothing is lost to a store that fails for a while."""

import threading

import pytest
from fake_store import fake_s3

from transformer.training import storage, uploads
from transformer.training.storage import StorageError
from transformer.training.uploads import Uploads


@pytest.fixture
def store(monkeypatch):
    monkeypatch.setattr(uploads, "PAUSE", 0.01)
    with fake_s3() as found:
        yield found


def place(name: str):
    return storage.place(f"s3://bucket/{name}")


def test_a_slow_store_keeps_nobody_waiting_and_gets_the_newest(store):
    goes_on, written = threading.Event(), []

    def slow(name, content):
        written.append(content)
        assert goes_on.wait(30)

    store.before_write = staticmethod(slow)
    sender = Uploads()
    for number in range(100):
        sender.put(place("a"), b"%d" % number)
    goes_on.set()
    sender.close()
    assert store.objects == {"bucket/a": b"99"}
    assert len(written) < 10


def test_what_failed_is_tried_again(store, caplog):
    failures = [OSError("gone"), RuntimeError("busy")]

    def fail_twice(name, content):
        if failures:
            raise failures.pop()

    store.before_write = staticmethod(fail_twice)
    sender = Uploads()
    sender.put(place("a"), b"1")
    while failures:
        threading.Event().wait(0.01)
    sender.wait()
    assert store.objects == {"bucket/a": b"1"}
    assert "busy" in caplog.text and "It is tried again" in caplog.text
    sender.close()


def test_waiting_for_what_does_not_arrive_says_so_and_forgets_nothing(store):
    def fail(name, content):
        raise OSError("quota exceeded")

    works, store.before_write = store.before_write, staticmethod(fail)
    sender = Uploads()
    sender.put(place("a"), b"1")
    with pytest.raises(StorageError, match="quota exceeded"):
        sender.wait()
    store.before_write = staticmethod(works)
    sender.wait()
    assert store.objects == {"bucket/a": b"1"}
    sender.close()

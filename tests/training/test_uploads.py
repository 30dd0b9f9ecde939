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


def test_a_store_that_is_gone_is_asked_less_and_less(store, monkeypatch):
    """And as before once it is back."""
    monkeypatch.setattr(uploads, "PAUSE", 1.0)
    works, paused, sender = store.before_write, [], Uploads()
    is_back, fails_anew = threading.Event(), threading.Event()

    def fail(name, content):
        raise OSError("gone")

    def pause(seconds):
        paused.append(seconds)
        if len(paused) == 8:
            store.before_write = staticmethod(works)
        if len(paused) == 9:
            is_back.set()
        if len(paused) == 10:
            fails_anew.set()

    monkeypatch.setattr(sender._closed, "wait", pause)
    store.before_write = staticmethod(fail)
    sender.put(place("a"), b"1")
    assert is_back.wait(30)
    store.before_write = staticmethod(fail)
    sender.put(place("a"), b"2")
    assert fails_anew.wait(30)
    store.before_write = staticmethod(works)
    sender.close()
    assert paused[:10] == [1, 2, 4, 8, 16, 32, 60, 60, 1, 1]
    assert store.objects == {"bucket/a": b"2"}


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

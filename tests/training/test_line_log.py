"""A log in a file and one in parts hold the same text, whenever a process is killed."""

import pytest
from fake_store import fake_s3

from transformer.training import line_log, metrics_log, storage
from transformer.training.metrics_log import MetricsLog

LINES = [f'{{"step": {number}, "loss": {1 / number}}}\n' for number in range(1, 101)]


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(line_log, "PART_BYTES", 200)


@pytest.fixture
def store():
    with fake_s3() as found:
        yield found


@pytest.fixture(params=["folder", "store"])
def path(request, tmp_path, store):
    return tmp_path / "log.jsonl" if request.param == "folder" else storage.place("s3://bucket/run/log.jsonl")


def write(path, lines) -> None:
    log = line_log.append_to(path)
    for line in lines:
        log.append(line)
    log.close()


def text(lines) -> bytes:
    return "".join(lines).encode()


def test_lines_come_back_in_order(path):
    assert line_log.read(path) is None
    write(path, LINES[:1])
    write(path, LINES[1:50])
    write(path, LINES[50:])
    assert line_log.read(path) == text(LINES)


def test_parts_are_small_and_sort_by_name(store):
    write(storage.place("s3://bucket/run/log.jsonl"), LINES)
    names = sorted(store.objects)
    assert names[0] == "bucket/run/log/000001.jsonl" and len(names) > 10
    assert b"".join(store.objects[name] for name in names) == text(LINES)
    assert all(len(store.objects[name]) <= 200 + max(map(len, LINES)) for name in names)


def test_a_settled_line_is_there(path):
    log = line_log.append_to(path)
    for count in range(1, 20):
        log.append(LINES[count - 1])
        log.settle()
        assert line_log.read(path) == text(LINES[:count])
    log.close()


@pytest.mark.parametrize("kept", [0, 1, 4, 5, 99, 100])
def test_replacing_by_a_beginning_and_going_on(path, kept):
    write(path, LINES)
    line_log.replace(path, text(LINES[:kept]))
    assert (line_log.read(path) or b"") == text(LINES[:kept])
    write(path, LINES[kept:])
    assert line_log.read(path) == text(LINES)


def test_replacing_by_something_else(path):
    write(path, LINES)
    line_log.replace(path, text(reversed(LINES)))
    assert line_log.read(path) == text(reversed(LINES))


def test_going_on_where_a_part_was_lost(store):
    path = storage.place("s3://bucket/run/log.jsonl")
    write(path, LINES)
    lost = len(store.objects.pop("bucket/run/log/000001.jsonl").splitlines())
    line_log.replace(path, text(LINES[lost:-1]))
    write(path, LINES[-1:])
    assert line_log.read(path) == text(LINES[lost:])


def test_killed_anywhere_a_replaced_log_is_a_beginning_of_the_old_one(store, monkeypatch):
    """And holds all that is to be kept."""
    path = storage.place("s3://bucket/run/log.jsonl")
    kept = text(LINES[:20])
    write(path, LINES)
    whole = dict(store.objects)

    class KilledHere(BaseException):
        pass

    for survived in range(100):
        changes = 0

        def count(*arguments, survived=survived):
            nonlocal changes
            changes += 1
            if changes > survived:
                raise KilledHere

        store.objects = dict(whole)
        store.before_write = staticmethod(count)
        remove = store.rm_file
        monkeypatch.setattr(store, "rm_file", lambda *given, remove=remove, count=count: (count(), remove(*given)))
        try:
            line_log.replace(path, kept)
        except KilledHere:
            store.before_write = staticmethod(lambda name, content: None)
            found = line_log.read(path)
            assert text(LINES).startswith(found) and found.startswith(kept)
        else:
            assert line_log.read(path) == kept
            assert survived > 5
            return
        finally:
            monkeypatch.undo()
            monkeypatch.setattr(line_log, "PART_BYTES", 200)
    raise AssertionError("never finished")


def test_a_resumed_metrics_log_is_one_that_was_not_interrupted(path):
    def log(steps, resumed_step):
        with MetricsLog(path, resumed_step) as opened:
            for step in steps:
                opened.append(step, {"train/loss": 1 / step})

    log(range(1, 41), 0)
    whole = line_log.read(path)
    log(range(1, 31), 0)
    log(range(21, 41), 20)
    assert line_log.read(path) == whole
    assert [record["step"] for record in metrics_log.read(path)] == list(range(1, 41))

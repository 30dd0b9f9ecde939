"""The loader: batches in order, exact positions, threads that end."""

import json
import threading
import time
from collections import Counter

import numpy as np
import pytest
from test_batches import examples_of

from transformer.config import ConfigError, DataConfig
from transformer.data.batches import WeightedStore, training_batches
from transformer.data.loader import Loader
from transformer.data.store import TokenStore

SIDES = [
    [np.random.default_rng([side, number]).integers(4, 99, 1 + number % 11).tolist() for number in range(150)]
    for side in range(2)
]


@pytest.fixture(params=["buckets", "packing"])
def batches(request):
    data = DataConfig(batching=request.param, batch_tokens=96, rows_multiple_of=4, pack_length=24, num_buckets=3)
    return training_batches([WeightedStore(TokenStore.from_lists(*SIDES))], data, seed=0)


def _equal(batch, other):
    return all(np.array_equal(batch[name], other[name]) for name in other)


def test_batches_come_in_order_from_start_to_stop(batches):
    with Loader(batches, 3, 11, read_ahead=4) as loader:
        loaded = list(loader)
    assert len(loaded) == 8
    assert all(_equal(batch, batches.batch(i)) for i, batch in enumerate(loaded, start=3))


@pytest.mark.parametrize("resumed_processes", [1, 2, 4])
def test_resuming_anywhere_with_other_processes_continues_the_same(batches, resumed_processes):
    stop = 2 * len(batches) + 3
    # Early, around both ends of epochs, and at the last batch.
    for position in (1, len(batches) - 1, len(batches), 2 * len(batches) + 1, stop - 1):
        with Loader(batches, 0, stop, read_ahead=4, blocks=(1,), count=2) as first:
            for _ in range(position):
                next(first)
            state = json.loads(json.dumps(first.get_state()))
            assert first.position == position
        shares = []
        for index in range(resumed_processes):
            with Loader(batches, 0, stop, read_ahead=3, blocks=(index,), count=resumed_processes) as loader:
                next(loader)  # Something read ahead that has to be thrown away.
                loader.set_state(state)
                assert loader.position == position
                shares.append(list(loader))
        assert len(shares[0]) == stop - position
        for i, parts in enumerate(zip(*shares, strict=True), start=position):
            joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
            assert _equal(joined, batches.batch(i))


def test_every_example_is_read_once_an_epoch_however_many_processes_come_and_go(batches):
    """Two processes are stopped, four go on, then one: what all of them have read is counted."""
    assert len(batches) > 10
    read, position = Counter(), 0
    for processes, until in ((2, 4), (4, 9), (1, len(batches))):
        states = set()
        for index in range(processes):
            with Loader(batches, position, 2 * len(batches), read_ahead=4, blocks=(index,), count=processes) as loader:
                for _ in range(until - position):
                    read.update(examples_of(next(loader)))
                states.add(loader.position)
        [position] = states
    assert read == Counter((tuple(source), tuple(target)) for source, target in zip(*SIDES, strict=True))


def test_starting_at_a_position_is_resuming_there(batches):
    with Loader(batches, 7, 9, read_ahead=2) as loader:
        assert loader.position == 7
        assert _equal(next(loader), batches.batch(7))
        assert loader.position == 8


def test_nothing_is_left_at_the_end_and_nothing_lies_beyond_it(batches):
    with Loader(batches, 5, 5, read_ahead=2) as loader:
        with pytest.raises(StopIteration):
            next(loader)
        with pytest.raises(IndexError):
            loader.set_state({"next_index": 6})


def test_devices_that_do_not_divide_the_rows_are_refused_at_once(batches):
    with pytest.raises(ConfigError, match="3 devices"):
        Loader(batches, 0, 1, read_ahead=1, count=3)


class _Slow:
    """Batches that take their time."""

    SECONDS = 0.1

    def __init__(self, batches):
        self._batches = batches

    def check_blocks(self, count):
        pass

    def rows(self, *arguments):
        time.sleep(self.SECONDS)
        return self._batches.rows(*arguments)


def test_batches_are_read_ahead(batches):
    with Loader(_Slow(batches), 0, 20, read_ahead=2) as loader:
        next(loader)
        time.sleep(4 * _Slow.SECONDS)
        began = time.perf_counter()
        next(loader)
        assert time.perf_counter() - began < _Slow.SECONDS


def _reading_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("grain-prefetch")]


def test_closing_ends_the_threads(batches):
    before = set(_reading_threads())
    loader = Loader(batches, 0, 100, read_ahead=4)
    next(loader)
    started = set(_reading_threads()) - before
    assert started
    loader.close()
    for thread in started:
        thread.join(timeout=5)
        assert not thread.is_alive()


def test_an_error_while_reading_ahead_reaches_the_caller(batches):
    class Broken(_Slow):
        def rows(self, *arguments):
            raise OSError("the disk is gone")

    with Loader(Broken(batches), 0, 5, read_ahead=2) as loader, pytest.raises(OSError, match="the disk is gone"):
        next(loader)

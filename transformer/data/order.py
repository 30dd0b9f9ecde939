"""The order of an epoch, from the seed and the number of the epoch alone.

Only raw Philox output is used, which NumPy keeps the same for good (its shuffles it does not): an order survives an
upgrade, and a run goes on elsewhere where it stopped.
"""

import dataclasses
import enum
from collections.abc import Sequence

import numpy as np

from transformer.data.rows import Group, Pool


class Purpose(enum.IntEnum):
    """What random numbers are for: different purposes never share a stream."""

    PACKING = 0
    PASS = 1
    ROWS = 2
    BATCHES = 3
    DOCUMENTS = 4
    PHASE = 5


def permutation(size: int, seed: int, purpose: Purpose, number: int = 0, time: int = 0) -> np.ndarray:
    """0 .. size - 1 in random order, int32 [size]; seed, number and time (an epoch or a pass) are below 2**32."""
    key = np.array([seed << 32 | time, purpose << 32 | number], np.uint64)
    # Random upper halves, the index in the lower: sorting these is twice as fast as argsort.
    keys = np.random.Philox(key=key).random_raw(size)
    keys &= np.uint64(0xFFFFFFFF00000000)
    keys |= np.arange(size, dtype=np.uint64)
    keys.sort()
    return (keys & np.uint64(0xFFFFFFFF)).astype(np.int32)


def below(bound: int, seed: int, purpose: Purpose, number: int = 0, time: int = 0) -> int:
    """A random number from 0 to bound - 1, of much less than 64 bits; arguments as of `permutation`."""
    key = np.array([seed << 32 | time, purpose << 32 | number], np.uint64)
    return int(np.random.Philox(key=key).random_raw()) % bound


@dataclasses.dataclass(frozen=True, eq=False)
class Taken:
    """Rows that an epoch takes from one pass through a pool: int32 [n]."""

    passed: int
    rows: np.ndarray


def taken(pool: Pool, seed: int, number: int, epoch: int) -> list[Taken]:
    """The rows an epoch takes from a pool, `pool.taken` in all.

    The pool is passed through again and again, each time in a new random order, and the epochs follow each other
    along these passes: at any time, every row has been taken equally often, give or take one.
    """
    if not pool.size:
        return []
    begin, end = epoch * pool.taken, (epoch + 1) * pool.taken
    parts = []
    for passed in range(begin // pool.size, -(-end // pool.size)):
        first, last = max(begin - passed * pool.size, 0), min(end - passed * pool.size, pool.size)
        if last - first == pool.size:  # The whole pool: the epoch shuffles it anyway.
            parts.append(Taken(passed, np.arange(pool.size, dtype=np.int32)))
        else:
            parts.append(Taken(passed, permutation(pool.size, seed, Purpose.PASS, number, passed)[first:last]))
    return parts


def window(pool: Pool, seed: int, number: int, epoch: int) -> np.ndarray:
    """The rows an epoch takes from a pool, int32 [pool.taken], where all passes are the same but for their order."""
    parts = [part.rows for part in taken(pool, seed, number, epoch)]
    return np.concatenate(parts) if parts else np.zeros(0, np.int32)


@dataclasses.dataclass(frozen=True, eq=False)
class Epoch:
    """The order of one epoch.

    rows: for every group, the rows it takes, in order.
    batches: int [batches, 2]: the group of every batch, and its number within the group.
    """

    rows: list[np.ndarray]
    batches: np.ndarray


class Shuffled:
    """Every epoch in a new random order: rows within their group, and the batches of all groups."""

    def __init__(self, groups: Sequence[Group], seed: int):
        self._groups = groups
        self._seed = seed

    def epoch(self, number: int) -> Epoch:
        rows = [self._rows(index, group, number) for index, group in enumerate(self._groups)]
        batches = _batches(self._groups)
        return Epoch(rows, batches[permutation(len(batches), self._seed, Purpose.BATCHES, 0, number)])

    def _rows(self, index: int, group: Group, epoch: int) -> np.ndarray:
        parts, base = [], 0
        for corpus, pool in enumerate(group.pools):
            parts.append(base + window(pool, self._seed, index << 16 | corpus, epoch))
            base += pool.size
        rows = np.concatenate(parts)
        return rows[permutation(len(rows), self._seed, Purpose.ROWS, index, epoch)]


class Sequential:
    """Every epoch the same: group by group, rows as planned."""

    def __init__(self, groups: Sequence[Group]):
        self._epoch = Epoch([np.arange(len(group.rows)) for group in groups], _batches(groups))

    def epoch(self, number: int) -> Epoch:
        return self._epoch


def _batches(groups: Sequence[Group]) -> np.ndarray:
    parts = []
    for index, group in enumerate(groups):
        numbers = np.arange(group.batches_per_epoch)
        parts.append(np.stack([np.full_like(numbers, index), numbers], axis=1))
    return np.concatenate(parts)

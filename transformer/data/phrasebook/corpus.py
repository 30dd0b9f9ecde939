"""Which sentences there are, and which of them are training, validation and test.

A sentence is a frame and a number below the frame's size, whose digits (one for each slot, in mixed radix) choose the
slots' values. A bijection of those numbers orders each frame's sentences as if at random; a hash of the digits of the
held-out slots gives each combination of values to one split. Frames take turns. All of it is integer arithmetic, so
every machine and Python version sees the same corpus, and a larger count only continues a smaller one.
"""

import itertools
import zlib
from collections.abc import Iterator

import numpy as np

from . import (
    frames_calendar,
    frames_carrying,
    frames_giving,
    frames_main,
    frames_subordinate,
    frames_things,
    frames_trade,
    frames_travel,
)
from .frame import Frame
from .phenomena import Pair

FRAMES: tuple[Frame, ...] = (
    *frames_main.FRAMES,
    *frames_subordinate.FRAMES,
    *frames_giving.FRAMES,
    *frames_carrying.FRAMES,
    *frames_things.FRAMES,
    *frames_travel.FRAMES,
    *frames_calendar.FRAMES,
    *frames_trade.FRAMES,
)
DEFAULT_COUNTS = {"train": 120_000, "validation": 500, "test": 1_000}

# Of a hundred combinations of a frame's held-out slots; the rest is training.
_TEST_COMBINATIONS = 10
_VALIDATION_COMBINATIONS = 5

_CHUNK = 4096  # numbers of one frame drawn at a time
_MULTIPLIERS = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)  # odd, of splitmix64


def space_size() -> int:
    """The number of distinct pairs in all three splits together."""
    return sum(frame.size for frame in FRAMES)


def pairs(split: str, count: int | None = None) -> list[Pair]:
    """The first `count` pairs of a split: always the same ones, all distinct, in an order that takes turns by frame.

    `split` is train, validation or test; without `count` it has 120,000, 500 or 1,000 pairs. Raises ValueError for
    another split, a negative count, or more pairs than the split has.
    """
    return list(stream(split, count))


def stream(split: str, count: int | None = None) -> Iterator[Pair]:
    """`pairs`, one at a time: for counts that should not be in memory at once. Errors come where they are met."""
    if split not in DEFAULT_COUNTS:
        raise ValueError(f"split = {split!r}: choose one of {', '.join(DEFAULT_COUNTS)}")
    wanted = DEFAULT_COUNTS[split] if count is None else count
    if wanted < 0:
        raise ValueError(f"count = {wanted}: give the number of pairs, 0 or more")
    found = 0
    for pair in itertools.islice(_take_turns([sentences(frame, split) for frame in FRAMES]), wanted):
        found += 1
        yield pair
    if found < wanted:
        raise ValueError(f"count = {wanted}: the {split} split has no more than {found} pairs")


def _take_turns(streams: list[Iterator[Pair]]) -> Iterator[Pair]:
    """One pair of each stream in turn, without those that have ended."""
    while streams:
        alive = []
        for stream in streams:
            if (pair := next(stream, None)) is not None:
                alive.append(stream)
                yield pair
        streams = alive


def sentences(frame: Frame, split: str) -> Iterator[Pair]:
    """All pairs of one frame that belong to `split`."""
    for digits in fillings(frame, split):
        values = {name: slot[digit] for (name, slot), digit in zip(frame.slots.items(), digits, strict=True)}
        yield frame.render(**values)


def fillings(frame: Frame, split: str) -> Iterator[tuple[int, ...]]:
    """For each sentence of the frame in `split`, the index of the value of each slot."""
    bits = max(2, (frame.size - 1).bit_length())  # numbers that are too large are skipped
    for start in range(0, 1 << bits, _CHUNK):
        numbers = shuffled(np.arange(start, min(start + _CHUNK, 1 << bits), dtype=np.uint64), bits, _seed(frame.name))
        columns = _digits(numbers[numbers < frame.size], frame)
        chosen = _splits(columns, frame) == split
        yield from zip(*(column[chosen].tolist() for column in columns.values()), strict=True)


def _seed(text: str) -> int:
    return zlib.crc32(text.encode("utf-8"))


def shuffled(numbers: np.ndarray, bits: int, seed: int) -> np.ndarray:
    """A bijection on the numbers of `bits` bits: adding, multiplying by odd numbers and xor-shifting can be undone."""
    mask = np.uint64((1 << bits) - 1)
    shift = np.uint64(bits // 2)
    numbers = (numbers + np.uint64(seed)) & mask
    for multiplier in _MULTIPLIERS:
        numbers = (numbers * np.uint64(multiplier)) & mask
        numbers = numbers ^ (numbers >> shift)
    return numbers


def _digits(numbers: np.ndarray, frame: Frame) -> dict[str, np.ndarray]:
    """The numbers written with one digit for each slot, whose base is the number of the slot's values."""
    columns = {}
    for name, values in frame.slots.items():
        numbers, columns[name] = np.divmod(numbers, np.uint64(len(values)))
    return columns


def _splits(columns: dict[str, np.ndarray], frame: Frame) -> np.ndarray:
    """The split of each sentence, from a hash of what fills its held-out slots."""
    some_column = next(iter(columns.values()))
    hashed = np.full(some_column.shape, _seed(f"{frame.name} held out"), dtype=np.uint64)
    for name in frame.held_out:
        hashed = hashed ^ columns[name]
        for multiplier in _MULTIPLIERS:
            hashed = hashed * np.uint64(multiplier)
            hashed = hashed ^ (hashed >> np.uint64(32))
    percent = hashed % np.uint64(100)
    bounds = (_TEST_COMBINATIONS, _TEST_COMBINATIONS + _VALIDATION_COMBINATIONS)
    return np.array(["test", "validation", "train"])[np.searchsorted(bounds, percent, side="right")]

"""Which pairs are left out, and how many for what reason."""

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np

from transformer.config import DataConfig


@dataclasses.dataclass(frozen=True)
class FilterReport:
    """Pairs kept, and pairs dropped by the first reason that applied, in the order of the fields; or documents."""

    kept: int = 0
    empty: int = 0
    duplicate: int = 0
    length_ratio: int = 0
    too_long: int = 0

    def __add__(self, other: "FilterReport") -> "FilterReport":
        added = {name: count + getattr(other, name) for name, count in dataclasses.asdict(self).items()}
        return FilterReport(**added)

    @property
    def total(self) -> int:
        return sum(dataclasses.asdict(self).values())

    def text(self, examples_are: str = "pairs") -> str:
        """One line, such as `kept 28,990 of 29,000 pairs; dropped: 7 empty, 3 too long`."""
        reasons = {name: count for name, count in dataclasses.asdict(self).items() if name != "kept" and count}
        dropped = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in reasons.items())
        return f"kept {self.kept:,} of {self.total:,} {examples_are}" + (f"; dropped: {dropped}" if dropped else "")


def within_ratio(source: str, target: str, data: DataConfig) -> bool:
    """Whether neither side has more than `data.max_length_ratio` times the words of the other.

    Words are what whitespace separates, so the setting is of no use for Chinese or Japanese.
    """
    if not data.max_length_ratio:
        return True
    fewer, more = sorted((len(source.split()), len(target.split())))
    return more <= data.max_length_ratio * fewer


def fits(source_ids: Sequence[int], target_ids: Sequence[int], data: DataConfig) -> bool:
    """Whether both sides are at most `data.max_length` long once EOS is added."""
    return max(len(source_ids), len(target_ids)) < data.max_length


class SeenPairs:
    """A set of pairs at about 8 bytes each: their 64-bit hashes, in sorted arrays that double in size.

    Two different pairs are taken for one with a chance of n^2 / 2^65: one in a million for six million pairs.
    """

    def __init__(self):
        self._arrays: list[np.ndarray] = []

    def add(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """Adds pairs; bool [n], True where a pair was not seen before, also not earlier in `pairs`."""
        hashes = np.array([_hash(*pair) for pair in pairs], np.uint64)
        unique, first = np.unique(hashes, return_index=True)
        known = np.zeros(len(unique), bool)
        for array in self._arrays:
            slots = np.searchsorted(array, unique)
            known |= array[np.minimum(slots, len(array) - 1)] == unique
        new = np.zeros(len(hashes), bool)
        new[first[~known]] = True
        self._insert(unique[~known])
        return new

    def _insert(self, hashes: np.ndarray) -> None:
        """Keeps every array more than twice the next one, so that there are few and each hash is merged seldom."""
        if not len(hashes):
            return
        while self._arrays and len(self._arrays[-1]) <= 2 * len(hashes):
            hashes = np.sort(np.concatenate([self._arrays.pop(), hashes]))
        self._arrays.append(hashes)


def _hash(source: str, target: str) -> int:
    # The length says where one ends and the other begins.
    return int.from_bytes(hashlib.blake2b(f"{len(source)} {source}{target}".encode(), digest_size=8).digest())

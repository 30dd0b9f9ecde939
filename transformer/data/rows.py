"""What length buckets and packing both come to: which examples share a row, and which rows share a batch shape."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from transformer.config import DataConfig


@dataclasses.dataclass(frozen=True, order=True)
class Shape:
    """The size of a batch: rows, and tokens in a row on either side; a language model has no source, of length 0."""

    rows: int
    source_length: int
    target_length: int

    def __str__(self) -> str:
        lengths = (self.source_length, self.target_length) if self.source_length else (self.target_length,)
        return f"{self.rows}x{'+'.join(map(str, lengths))}"


def batch_rows(length: np.ndarray | int, data: DataConfig) -> np.ndarray:
    """Rows of a batch whose rows are `length` tokens: what batch_tokens holds, a multiple of rows_multiple_of."""
    rows = data.batch_tokens // np.asarray(length) // data.rows_multiple_of * data.rows_multiple_of
    return np.maximum(rows, data.rows_multiple_of)


def in_blocks(rows: np.ndarray, total: int, blocks: Sequence[int], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Of the rows of a batch cut into `count` equal blocks, those in `blocks`, which ascend.

    Args:
      rows: int [n], the row of each of n things.
      total: rows of the batch.

    Returns:
      Which of the things are in them, bool [n]; and the rows of those when only these blocks are left, int.
    """
    block, within = np.divmod(rows, total // count)
    chosen = np.isin(block, blocks)
    return chosen, (np.searchsorted(blocks, block) * (total // count) + within)[chosen]


def ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The integers start .. start + count - 1 of every (start, count), one range after the other."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) + np.repeat(starts - (ends - counts), counts)


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """The examples of many rows: row r holds `examples[offsets[r] : offsets[r + 1]]`, side by side in that order."""

    examples: np.ndarray
    offsets: np.ndarray

    @classmethod
    def single(cls, examples: np.ndarray) -> "Rows":
        """One example a row."""
        return cls(examples, np.arange(len(examples) + 1))

    @classmethod
    def grouped(cls, row_of_example: np.ndarray, count: int) -> "Rows":
        """From the row of every example: int [examples], each in 0 .. count - 1."""
        offsets = np.zeros(count + 1, np.int64)
        np.cumsum(np.bincount(row_of_example, minlength=count), out=offsets[1:])
        return cls(np.argsort(row_of_example, kind="stable").astype(np.int32), offsets)

    @classmethod
    def concatenate(cls, parts: Sequence["Rows"]) -> "Rows":
        """The rows of all parts, in order."""
        counts = np.concatenate([np.diff(part.offsets) for part in parts])
        offsets = np.zeros(len(counts) + 1, np.int64)
        np.cumsum(counts, out=offsets[1:])
        return cls(np.concatenate([part.examples for part in parts]), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def take(self, rows: np.ndarray) -> "Rows":
        """The rows of these numbers."""
        starts = self.offsets[rows]
        counts = self.offsets[rows + 1] - starts
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(counts, out=offsets[1:])
        return Rows(self.examples[ranges(starts, counts)], offsets)


@dataclasses.dataclass(frozen=True)
class Pool:
    """Rows of one corpus in a group: how many there are, and how many of them an epoch takes."""

    size: int
    taken: int

    @classmethod
    def weighted(cls, size: int, weight: float) -> "Pool":
        """A pool taken `weight` times an epoch; never quite left out, however small."""
        return cls(size, max(1, round(weight * size)) if size else 0)


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """All rows that go into batches of one shape: those of the first pool, of the second, ..."""

    shape: Shape
    rows: Rows
    pools: tuple[Pool, ...]

    @property
    def rows_per_epoch(self) -> int:
        return sum(pool.taken for pool in self.pools)

    @property
    def batches_per_epoch(self) -> int:
        return -(-self.rows_per_epoch // self.shape.rows)

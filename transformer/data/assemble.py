"""From the numbers of examples to the arrays of a batch, without a Python loop over examples."""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from transformer.data.errors import DataError
from transformer.data.rows import Shape, in_blocks
from transformer.data.store import Ragged, TokenStore
from transformer.data.tokenizer import BOS, EOS

# source [B, S], source_segments, source_positions, target_inputs [B, T], targets, target_segments, target_positions:
# int32, as the step takes them. B rows, S and T tokens of source and target.
Batch = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class Layout:
    """Which examples a batch holds, and where.

    examples: int [n], numbered through all corpora.
    rows: int [n], ascending from 0, none left out before the last; examples of one row stand side by side, as
      segments 1, 2, ...
    """

    shape: Shape
    examples: np.ndarray
    rows: np.ndarray

    def share(self, blocks: Sequence[int], count: int) -> "Layout":
        """Of `count` equal blocks of rows what those with these numbers hold, as a batch of its own."""
        chosen, rows = in_blocks(self.rows, self.shape.rows, blocks, count)
        shape = dataclasses.replace(self.shape, rows=len(blocks) * self.shape.rows // count)
        return Layout(shape, self.examples[chosen], rows)

    @functools.cached_property
    def first_of_row(self) -> np.ndarray:
        """For every example, the index of the first one in its row: int [n]."""
        return np.searchsorted(self.rows, self.rows)

    @functools.cached_property
    def segments(self) -> np.ndarray:
        """The segment of every example, int [n], from 1 in each row."""
        return np.arange(len(self.rows)) - self.first_of_row + 1

    def starts(self, sizes: np.ndarray, length: int) -> np.ndarray:
        """Where examples of these sizes start in an array [shape.rows, length], flattened: int64 [n]."""
        before = np.cumsum(sizes) - sizes
        return self.rows * length + before - before[self.first_of_row]


class Examples:
    """The examples of several stores, numbered through from 0.

    Raises:
      DataError: there is no store, or one is empty.
    """

    def __init__(self, stores: Sequence[TokenStore]):
        if not stores or not all(len(store) for store in stores):
            raise DataError("a corpus has no examples: there is nothing to make batches of. Leave it out.")
        self._sources = [store.source for store in stores]
        self._targets = [store.target for store in stores]
        self._bases = np.cumsum([0, *(len(store) for store in stores)])

    def __len__(self) -> int:
        return int(self._bases[-1])

    def numbers(self, corpus: int) -> np.ndarray:
        """The numbers of one store's examples, int32."""
        return np.arange(self._bases[corpus], self._bases[corpus + 1], dtype=np.int32)

    @property
    def source_lengths(self) -> np.ndarray:
        """Tokens of every source, the end included: int32 [n]."""
        return _lengths(self._sources)

    @property
    def target_lengths(self) -> np.ndarray:
        """Tokens of every target, the end included: int32 [n]."""
        return _lengths(self._targets)

    def assemble(self, layout: Layout) -> Batch:
        """The batch of a layout."""
        shape = layout.shape
        source = self._side(self._sources, layout, shape.source_length)
        target = self._side(self._targets, layout, shape.target_length)
        return {
            "source": source.tokens,
            "source_segments": source.segments,
            "source_positions": source.positions,
            "target_inputs": target.inputs(),
            "targets": target.tokens,
            "target_segments": target.segments,
            "target_positions": target.positions,
        }

    def _side(self, parts: list[Ragged], layout: Layout, length: int) -> "_Side":
        total = layout.shape.rows * length
        if not len(layout.examples):
            return _Side(*(np.zeros((layout.shape.rows, length), np.int32) for _ in range(3)), layout.rows)
        corpus = np.searchsorted(self._bases, layout.examples, side="right") - 1
        begins, sizes = self._locate(parts, corpus, layout.examples)
        starts = layout.starts(sizes, length)
        # Everything is worked out for an example's whole extent, with the padding up to the next one, and cleared
        # where it is padding: twice as fast as writing to scattered places.
        extents = np.diff(starts, append=total)
        positions = np.arange(total, dtype=np.int32) - np.repeat(starts.astype(np.int32), extents)
        real = positions < np.repeat(sizes.astype(np.int32), extents)
        tokens = _read(parts, corpus, extents, positions + np.repeat(begins, extents))
        tokens[starts + sizes - 1] = EOS
        segments = np.repeat(layout.segments.astype(np.int32), extents)
        for array in (tokens, segments, positions):
            array *= real  # PAD, segment 0 and position 0 are all zero.
        return _Side(*(array.reshape(-1, length) for array in (tokens, segments, positions)), starts)

    def _locate(self, parts: list[Ragged], corpus: np.ndarray, examples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where examples begin in the tokens of their corpus, and their sizes with the end: int64 [n] each."""
        begins, ends = np.empty((2, len(examples)), np.int64)
        for index, part in enumerate(parts):
            chosen = corpus == index
            local = examples[chosen] - self._bases[index]
            begins[chosen], ends[chosen] = part.offsets[local], part.offsets[local + 1]
        return begins, ends - begins + 1


@dataclasses.dataclass(frozen=True, eq=False)
class _Side:
    """One side of a batch, int32 [rows, length], and where in the flattened arrays its examples start."""

    tokens: np.ndarray
    segments: np.ndarray
    positions: np.ndarray
    starts: np.ndarray

    def inputs(self) -> np.ndarray:
        """The tokens one place to the right, BOS before every example."""
        inputs = np.zeros_like(self.tokens)
        inputs[:, 1:] = self.tokens[:, :-1]
        inputs *= self.segments > 0
        inputs.ravel()[self.starts] = BOS
        return inputs


def _read(parts: list[Ragged], corpus: np.ndarray, extents: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """The tokens at `indices`, of which each `extents[e]` in turn lie in `parts[corpus[e]]`: int32 [sum of extents]."""
    tokens = np.empty(len(indices), np.int32)
    for index, part in enumerate(parts):
        chosen = slice(None) if len(parts) == 1 else np.repeat(corpus == index, extents)
        # Padding reads on into what follows, and at the very end beyond the array: hence the clip.
        tokens[chosen] = part.tokens.take(indices[chosen], mode="clip")
    return tokens


def _lengths(parts: list[Ragged]) -> np.ndarray:
    return np.concatenate([np.diff(part.offsets).astype(np.int32) + 1 for part in parts])

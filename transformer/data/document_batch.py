"""From pieces of documents to the arrays of a language model's batch.

A document is BOS, its prompt, its text, EOS. Its targets are all of it but BOS, numbered from 0; what is read where
target j is learned is the token before it. A piece is a run of targets, in a row side by side with others:

    document               BOS  p  q | a  b  c  EOS      a prompt p q, a text a b c
    target_inputs          BOS  p  q  a  b  c            a piece of the whole document
    targets                 p   q  a  b  c EOS
    target_prompt           1   1  0  0  0  0            targets that are not learned
    target_segments         1   1  1  1  1  1            pieces are numbered in their row from 1
    target_positions        0   1  2  3  4  5

    target_inputs           a   b  c                     a piece that goes on after target 2: no BOS,
    targets                 b   c EOS                    and positions start at 0

A prefix language model sees the inputs whose targets are not learned both ways. The last token of a prompt is none of
them: it reads the others, and what follows is learned from it. All arrays are int32 [rows, length], and 0 in padding.
"""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from transformer.data.assemble import Batch
from transformer.data.errors import DataError
from transformer.data.rows import Shape, in_blocks
from transformer.data.store import DocumentStore
from transformer.data.tokenizer import BOS, EOS


@dataclasses.dataclass(frozen=True, eq=False)
class Pieces:
    """Runs of targets: int64 [n] each. `documents` are numbered through all corpora; targets begin .. end - 1."""

    documents: np.ndarray
    begins: np.ndarray
    ends: np.ndarray

    def __len__(self) -> int:
        return len(self.documents)

    def take(self, chosen: np.ndarray | slice) -> "Pieces":
        """Some of them, in the order asked for."""
        return Pieces(self.documents[chosen], self.begins[chosen], self.ends[chosen])

    @classmethod
    def concatenate(cls, parts: Sequence["Pieces"]) -> "Pieces":
        """All of them, in order."""
        if not parts:
            return cls(*(np.zeros(0, np.int64) for _ in range(3)))
        return cls(
            np.concatenate([part.documents for part in parts]),
            np.concatenate([part.begins for part in parts]),
            np.concatenate([part.ends for part in parts]),
        )


@dataclasses.dataclass(frozen=True, eq=False)
class DocumentLayout:
    """Which pieces a batch holds; `rows`, int64 [n] and ascending, says in which row each stands, side by side."""

    shape: Shape
    pieces: Pieces
    rows: np.ndarray

    def share(self, blocks: Sequence[int], count: int) -> "DocumentLayout":
        """Of `count` equal blocks of rows what those with these numbers hold, as a batch of its own."""
        chosen, rows = in_blocks(self.rows, self.shape.rows, blocks, count)
        shape = dataclasses.replace(self.shape, rows=len(blocks) * self.shape.rows // count)
        return DocumentLayout(shape, self.pieces.take(chosen), rows)

    @functools.cached_property
    def sizes(self) -> np.ndarray:
        """Targets of every piece: int64 [n]."""
        return self.pieces.ends - self.pieces.begins

    @functools.cached_property
    def starts(self) -> np.ndarray:
        """Where each begins in an array of the batch, flattened: int64 [n]."""
        before = np.cumsum(self.sizes) - self.sizes
        return self.rows * self.shape.target_length + before - before[self._first_of_row]

    @functools.cached_property
    def segments(self) -> np.ndarray:
        """The segment of every piece, int64 [n], from 1 in each row."""
        return np.arange(len(self.rows)) - self._first_of_row + 1

    @functools.cached_property
    def _first_of_row(self) -> np.ndarray:
        return np.searchsorted(self.rows, self.rows)


class Documents:
    """The documents of several stores, numbered through from 0.

    Raises:
      DataError: there is no store, or one is empty.
    """

    def __init__(self, stores: Sequence[DocumentStore]):
        if not stores or not all(len(store) for store in stores):
            raise DataError("a corpus has no documents: there is nothing to make batches of. Leave it out.")
        self._stores = stores
        self._bases = np.cumsum([0, *(len(store) for store in stores)])

    def __len__(self) -> int:
        return int(self._bases[-1])

    def numbers(self, corpus: int) -> np.ndarray:
        """The numbers of one store's documents, int64."""
        return np.arange(self._bases[corpus], self._bases[corpus + 1])

    @functools.cached_property
    def lengths(self) -> np.ndarray:
        """Targets of every document, prompt and EOS included: int64 [n]."""
        return np.concatenate([np.diff(store.documents.offsets) for store in self._stores]) + 1

    @functools.cached_property
    def prompt_lengths(self) -> np.ndarray:
        """Tokens of every prompt: int32 [n]."""
        return np.concatenate([store.prompt_lengths for store in self._stores])

    def assemble(self, layout: DocumentLayout) -> Batch:
        """The batch of a layout."""
        shape, pieces, starts = layout.shape, layout.pieces, layout.starts
        total = shape.rows * shape.target_length
        if not len(pieces):
            return {name: np.zeros((shape.rows, shape.target_length), np.int32) for name in _ARRAYS}
        # Everything is worked out for a piece's whole extent, with the padding up to the next one, and cleared where
        # it is padding: twice as fast as writing to scattered places.
        extents = np.diff(starts, append=total)

        def spread(values: np.ndarray) -> np.ndarray:
            return np.repeat(values.astype(np.int32), extents)

        positions = np.arange(total, dtype=np.int32) - spread(starts)
        real = positions < spread(layout.sizes)
        corpus = np.searchsorted(self._bases, pieces.documents, side="right") - 1
        first_tokens = self._offsets(corpus, pieces.documents) + pieces.begins
        targets = self._read(corpus, extents, positions + np.repeat(first_tokens, extents))
        ending = pieces.ends == self.lengths[pieces.documents]
        targets[(starts + layout.sizes - 1)[ending]] = EOS
        inputs = np.empty_like(targets)
        inputs[1:] = targets[:-1]
        before = self._read(corpus, np.ones(len(pieces), np.int64), np.maximum(first_tokens - 1, 0))
        inputs[starts] = np.where(pieces.begins == 0, BOS, before)
        # How many targets of the piece belong to the prompt.
        prompts = self.prompt_lengths[pieces.documents] - pieces.begins
        arrays = {
            "target_inputs": inputs,
            "targets": targets,
            "target_segments": spread(layout.segments),
            "target_positions": positions,
            "target_prompt": (positions < spread(np.maximum(prompts, 0))).astype(np.int32),
        }
        for array in arrays.values():
            array *= real
        return {name: array.reshape(shape.rows, shape.target_length) for name, array in arrays.items()}

    def _offsets(self, corpus: np.ndarray, documents: np.ndarray) -> np.ndarray:
        """Where documents begin in the tokens of their corpus: int64 [n]."""
        offsets = np.empty(len(documents), np.int64)
        for index, store in enumerate(self._stores):
            chosen = corpus == index
            offsets[chosen] = store.documents.offsets[documents[chosen] - self._bases[index]]
        return offsets

    def _read(self, corpus: np.ndarray, extents: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """The tokens at `indices`, of which each `extents[p]` in turn lie in corpus `corpus[p]`: int32."""
        tokens = np.empty(len(indices), np.int32)
        for index, store in enumerate(self._stores):
            chosen = slice(None) if len(self._stores) == 1 else np.repeat(corpus == index, extents)
            if len(store.documents.tokens):
                # Padding, and the end of the last document, lie beyond what is there: hence the clip.
                tokens[chosen] = store.documents.tokens.take(indices[chosen], mode="clip")
        return tokens


_ARRAYS = (
    "target_inputs",
    "targets",
    "target_segments",
    "target_positions",
    "target_prompt",
)

"""Which pieces of documents go into which row, and which rows into which batch.

Documents that fit a row are never cut: they are packed, the same ones together in every epoch. Longer ones follow each
other in a ring, in a new order every pass, which is cut into rows from a random point on; so nothing is padded, every
token is learned once, and where a document is cut moves from pass to pass. For evaluation nothing is random: a long
document is cut at multiples of the row length, and what is left of it is packed as a short one.
"""

import dataclasses
import functools
import zlib
from collections.abc import Sequence

import numpy as np

from transformer.config import DataConfig
from transformer.data.assemble import Batch
from transformer.data.document_batch import DocumentLayout, Documents, Pieces
from transformer.data.order import Purpose, below, permutation, taken
from transformer.data.packing import pack
from transformer.data.rows import Pool, Rows, Shape, batch_rows, ranges
from transformer.data.store import DocumentStore


@dataclasses.dataclass(frozen=True, eq=False)
class PackedRows:
    """Rows of pieces that stay together: `rows.examples` are numbers of pieces."""

    pieces: Pieces
    rows: Rows

    @classmethod
    def pack(cls, pieces: Pieces, length: int, seed: int, number: int) -> "PackedRows":
        """Each piece, which is no longer than `length`, in one row."""
        if not len(pieces):
            return cls(pieces, Rows.single(np.zeros(0, np.int32)))
        sizes = pieces.ends - pieces.begins
        return cls(pieces, pack(sizes, sizes, length, seed, number))

    def __len__(self) -> int:
        return len(self.rows)

    def layout(self, shape: Shape, rows: np.ndarray, places: np.ndarray) -> DocumentLayout:
        """Some of the rows, put into the rows `places` of a batch."""
        found = self.rows.take(rows)
        return DocumentLayout(shape, self.pieces.take(found.examples), np.repeat(places, np.diff(found.offsets)))


@dataclasses.dataclass(frozen=True, eq=False)
class Ring:
    """Documents one after the other, the first one again after the last, cut into rows from target `phase` on.

    documents: int64 [n + 1], each longer than a row; the last one is the first.
    bounds: int64 [n + 2], where each begins, and the end.
    """

    documents: np.ndarray
    bounds: np.ndarray
    phase: int

    @classmethod
    def of_pass(
        cls, documents: np.ndarray, lengths: np.ndarray, row: int, seed: int, number: int, passed: int
    ) -> "Ring":
        """The order and the cuts of one pass through the documents of a corpus."""
        order = permutation(len(documents), seed, Purpose.DOCUMENTS, number, passed)
        order = np.append(order, order[0])
        bounds = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths[order])])
        return cls(documents[order], bounds, below(row, seed, Purpose.PHASE, number, passed))

    def layout(self, shape: Shape, rows: np.ndarray, places: np.ndarray) -> DocumentLayout:
        """Some of the rows, put into the rows `places` of a batch."""
        total = int(self.bounds[-2])
        begins = self.phase + rows.astype(np.int64) * shape.target_length
        ends = np.minimum(begins + shape.target_length, self.phase + total)
        first = np.searchsorted(self.bounds, begins, side="right") - 1
        counts = np.searchsorted(self.bounds, ends, side="left") - first
        found = ranges(first, counts)
        pieces = Pieces(
            self.documents[found],
            np.maximum(np.repeat(begins, counts), self.bounds[found]) - self.bounds[found],
            np.minimum(np.repeat(ends, counts), self.bounds[found + 1]) - self.bounds[found],
        )
        return DocumentLayout(shape, pieces, np.repeat(places, counts))


@dataclasses.dataclass(frozen=True, eq=False)
class DocumentEpoch:
    """The rows of an epoch in order: int32 [n] each, of which part, and which row of that."""

    parts: list[PackedRows | Ring]
    part_of_row: np.ndarray
    row_of_part: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Corpus:
    """One corpus: what fits a row, packed; the numbers of what does not; and how much of either an epoch takes."""

    packed: PackedRows
    packed_pool: Pool
    long: np.ndarray
    long_pool: Pool


class DocumentPlan:
    """The batches of documents; a `batches.Plan`. `seed` None: in a fixed order, once."""

    def __init__(self, documents: Documents, corpora: Sequence[Corpus], data: DataConfig, seed: int | None):
        self._documents = documents
        self._corpora = corpora
        self._seed = seed
        self._shape = Shape(int(batch_rows(data.pack_length, data)), 0, data.pack_length)
        pools = [pool for corpus in corpora for pool in (corpus.packed_pool, corpus.long_pool)]
        self._rows_per_epoch = sum(pool.taken for pool in pools)
        self.batches_per_epoch = -(-self._rows_per_epoch // self._shape.rows)
        self.statistics = DocumentStatistics.measure(documents, corpora, self._shape, self.batches_per_epoch)

    @classmethod
    def training(
        cls, stores: Sequence[DocumentStore], weights: Sequence[float], data: DataConfig, seed: int
    ) -> "DocumentPlan":
        """Epochs in ever new orders; each has all documents, as often as the weight of their corpus says."""
        documents, row = Documents(stores), data.pack_length
        corpora = []
        for corpus, weight in enumerate(weights):
            numbers = documents.numbers(corpus)
            lengths = documents.lengths[numbers]
            short, long = numbers[lengths <= row], numbers[lengths > row]
            whole = Pieces(short, np.zeros_like(short), documents.lengths[short])
            packed = PackedRows.pack(whole, row, seed, corpus)
            long_rows = -(-int(documents.lengths[long].sum()) // row)
            corpora.append(Corpus(packed, Pool.weighted(len(packed), weight), long, Pool.weighted(long_rows, weight)))
        return cls(documents, corpora, data, seed)

    @classmethod
    def evaluation(
        cls, stores: Sequence[DocumentStore], data: DataConfig, shapes: Sequence[Shape] = ()
    ) -> "DocumentPlan":
        """Every target once, in a fixed order. How a document is cut does not depend on any other."""
        documents, row = Documents(stores), data.pack_length
        lengths = documents.lengths
        counts = -(-lengths // row)
        numbers = np.repeat(np.arange(len(documents)), counts)
        begins = ranges(np.zeros(len(documents), np.int64), counts) * row
        pieces = Pieces(numbers, begins, np.minimum(begins + row, lengths[numbers]))
        packed = PackedRows.pack(pieces, row, seed=0, number=0)
        none = np.zeros(0, np.int64)
        corpus = Corpus(packed, Pool.weighted(len(packed), 1.0), none, Pool.weighted(0, 1.0))
        return cls(documents, [corpus], data, seed=None)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Another one where the documents' number or lengths are others, and therefore the plan."""
        lengths = zlib.crc32(self._documents.lengths.tobytes())
        return f"{zlib.crc32(self._documents.prompt_lengths.tobytes(), lengths):08x}"

    @property
    def shapes(self) -> tuple[Shape, ...]:
        return (self._shape,)

    def epoch(self, number: int) -> DocumentEpoch:
        if self._seed is None:
            packed = self._corpora[0].packed
            rows = np.arange(len(packed), dtype=np.int32)
            return DocumentEpoch([packed], np.zeros_like(rows), rows)
        parts: list[PackedRows | Ring] = []
        rows = []
        for index, corpus in enumerate(self._corpora):
            for chosen in taken(corpus.packed_pool, self._seed, 2 * index, number):
                parts.append(corpus.packed)
                rows.append(chosen.rows)
            for chosen in taken(corpus.long_pool, self._seed, 2 * index + 1, number):
                parts.append(self._ring(index, chosen.passed))
                rows.append(chosen.rows)
        part_of_row = np.repeat(np.arange(len(parts), dtype=np.int32), [len(chosen) for chosen in rows])
        row_of_part = np.concatenate(rows)
        order = permutation(len(row_of_part), self._seed, Purpose.ROWS, 0, number)
        return DocumentEpoch(parts, part_of_row[order], row_of_part[order])

    def layout(self, epoch: DocumentEpoch, within: int) -> DocumentLayout:
        # Shared out evenly: filling batch after batch would leave a last one with hardly any rows.
        first, last = (self._rows_per_epoch * k // self.batches_per_epoch for k in (within, within + 1))
        part_of_row, row_of_part = epoch.part_of_row[first:last], epoch.row_of_part[first:last]
        found = []
        for part in np.unique(part_of_row):
            places = np.flatnonzero(part_of_row == part)
            found.append(epoch.parts[part].layout(self._shape, row_of_part[places], places))
        rows = np.concatenate([layout.rows for layout in found])
        order = np.argsort(rows, kind="stable")
        pieces = Pieces.concatenate([layout.pieces for layout in found])
        return DocumentLayout(self._shape, pieces.take(order), rows[order])

    def assemble(self, layout: DocumentLayout) -> Batch:
        return self._documents.assemble(layout)

    def _ring(self, index: int, passed: int) -> Ring:
        long = self._corpora[index].long
        lengths = self._documents.lengths[long]
        return Ring.of_pass(long, lengths, self._shape.target_length, self._seed, index, passed)


@dataclasses.dataclass(frozen=True)
class DocumentStatistics:
    """What an epoch holds. Tokens are targets, each document's end included; `learned_tokens` leaves out prompts."""

    documents: int
    cut: int  # of them, those longer than a row
    batches: int
    shapes: tuple[Shape, ...]
    target_tokens: int
    learned_tokens: int
    target_capacity: int

    @classmethod
    def measure(
        cls, documents: Documents, corpora: Sequence[Corpus], shape: Shape, batches: int
    ) -> "DocumentStatistics":
        totals = np.zeros(3)
        for corpus in corpora:
            for pieces, pool in (
                (corpus.packed.pieces, corpus.packed_pool),
                (Pieces(corpus.long, np.zeros_like(corpus.long), documents.lengths[corpus.long]), corpus.long_pool),
            ):
                prompts = documents.prompt_lengths[pieces.documents]
                learned = np.maximum(pieces.ends - np.maximum(pieces.begins, prompts), 0)
                sizes = pieces.ends - pieces.begins
                of_pool = np.array([np.count_nonzero(pieces.begins == 0), sizes.sum(), learned.sum()])
                totals += of_pool * (pool.taken / max(pool.size, 1))
        count, tokens, learned = (round(total) for total in totals)
        cut = int(np.count_nonzero(documents.lengths > shape.target_length))
        return cls(count, cut, batches, (shape,), tokens, learned, batches * shape.rows * shape.target_length)

    @property
    def target_padding(self) -> float:
        """Padding, a fraction."""
        return 1 - self.target_tokens / self.target_capacity

    def __str__(self) -> str:
        return (
            f"{self.documents:,} documents ({self.cut:,} longer than a row) in {self.batches:,} batches an epoch; "
            f"{self.target_tokens:,} tokens ({self.target_padding:.1%} padding), "
            f"{self.target_tokens - self.learned_tokens:,} of them in prompts; shape {self.shapes[0]}"
        )

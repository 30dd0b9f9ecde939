"""The batches of a corpus: batch i is a pure function of the corpora, the config, the seed and i.

Everything is planned when the object is made; then any batch, or any host's share of one, can be had in any order.
The position in the data is therefore one number, whatever the number of hosts, and mid-epoch as well.
"""

import dataclasses
import functools
import threading
import zlib
from collections.abc import Sequence

import numpy as np

from transformer.config import ConfigError, DataConfig
from transformer.data.assemble import Batch, Examples, Layout
from transformer.data.buckets import bucket_of, choose_shapes, extend_shapes
from transformer.data.errors import DataError
from transformer.data.order import Epoch, Sequential, Shuffled
from transformer.data.packing import pack
from transformer.data.rows import Group, Pool, Rows, Shape, batch_rows
from transformer.data.store import TokenStore


@dataclasses.dataclass(frozen=True, eq=False)
class WeightedStore:
    """A corpus, and how many times an epoch goes through it: 1, 2, 0.5, ..."""

    store: TokenStore
    weight: float = 1.0

    def __post_init__(self):
        if self.weight <= 0:
            raise DataError(f"the weight of a corpus is {self.weight}: it must be above 0. Leave the corpus out.")


def training_batches(corpora: Sequence[WeightedStore], data: DataConfig, seed: int) -> "Batches":
    """Batches without end, in a new order every epoch; each epoch has all examples, as often as their weight says."""
    examples = Examples([corpus.store for corpus in corpora])
    weights = [corpus.weight for corpus in corpora]
    if data.batching == "packing":
        groups = [_packed_group(examples, weights, data, seed)]
    else:
        by_example = np.repeat(np.array(weights, np.float64), [len(corpus.store) for corpus in corpora])
        shapes = choose_shapes(examples.source_lengths, examples.target_lengths, by_example, data)
        groups = _bucket_groups(examples, weights, shapes)
    return Batches(examples, groups, Shuffled(groups, seed), data.rows_multiple_of)


def evaluation_batches(stores: Sequence[TokenStore], data: DataConfig, shapes: Sequence[Shape] = ()) -> "Batches":
    """All examples once, in a fixed order, in batches 0 .. len - 1; `layout(i)` tells which examples are where.

    Args:
      shapes: those of the training batches, which are used again, so that nothing new is compiled unless an example
        is longer than all of them. Without them the shapes follow from the examples.
    """
    examples = Examples(stores)
    weights = [1.0] * len(stores)
    if data.batching == "packing":
        groups = [_packed_group(examples, weights, data, seed=0)]
    else:
        lengths = examples.source_lengths, examples.target_lengths
        chain = extend_shapes(list(shapes), *lengths, data) if shapes else None
        chain = chain or choose_shapes(*lengths, np.ones(len(examples)), data)
        groups = _bucket_groups(examples, weights, chain)
    return Batches(examples, groups, Sequential(groups), data.rows_multiple_of)


def _packed_group(examples: Examples, weights: Sequence[float], data: DataConfig, seed: int) -> Group:
    """One shape, whose rows are packed corpus by corpus so that each can have its weight."""
    source_lengths, target_lengths = examples.source_lengths, examples.target_lengths
    packed = []
    for corpus in range(len(weights)):
        numbers = examples.numbers(corpus)
        rows = pack(source_lengths[numbers], target_lengths[numbers], data.pack_length, seed, corpus)
        packed.append(Rows(numbers[rows.examples], rows.offsets))
    pools = [Pool.weighted(len(rows), weight) for rows, weight in zip(packed, weights, strict=True)]
    shape = Shape(int(batch_rows(data.pack_length, data)), data.pack_length, data.pack_length)
    return Group(shape, Rows.concatenate(packed), tuple(pools))


def _bucket_groups(examples: Examples, weights: Sequence[float], shapes: Sequence[Shape]) -> list[Group]:
    """A group for every shape that has examples, which stand in rows of their own."""
    bucket = bucket_of(examples.source_lengths, examples.target_lengths, shapes)
    corpora = [examples.numbers(corpus) for corpus in range(len(weights))]
    groups = []
    for index, shape in enumerate(shapes):
        chosen = [numbers[bucket[numbers] == index] for numbers in corpora]
        pools = [Pool.weighted(len(numbers), weight) for numbers, weight in zip(chosen, weights, strict=True)]
        if any(pool.size for pool in pools):
            groups.append(Group(shape, Rows.single(np.concatenate(chosen)), tuple(pools)))
    return groups


class Batches:
    """Batches 0, 1, 2, ... of a plan; `len()` of them make an epoch. Safe to use from several threads."""

    def __init__(
        self, examples: Examples, groups: Sequence[Group], order: Shuffled | Sequential, rows_multiple_of: int
    ):
        self._examples = examples
        self._groups = groups
        self._order = order
        self._rows_multiple_of = rows_multiple_of
        self._epochs: dict[int, Epoch] = {}
        self._lock = threading.Lock()
        self._batches_per_epoch = sum(group.batches_per_epoch for group in groups)
        self.statistics = Statistics.measure(examples, groups)

    def __len__(self) -> int:
        return self._batches_per_epoch

    @functools.cached_property
    def fingerprint(self) -> str:
        """Another one where the examples' number or lengths are others, and therefore the plan."""
        lengths = (self._examples.source_lengths, self._examples.target_lengths)
        return f"{zlib.crc32(np.stack(lengths).astype(np.uint32).tobytes()):08x}"

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """Every shape a batch can have."""
        return tuple(group.shape for group in self._groups)

    def batch(self, i: int) -> Batch:
        """Batch i, whole."""
        return self._examples.assemble(self.layout(i))

    def rows(self, i: int, blocks: Sequence[int], count: int) -> Batch:
        """One process' share of batch i: of `count` equal blocks of rows those with these numbers, ascending."""
        self.check_blocks(count)
        layout = self.layout(i)
        size = layout.shape.rows // count
        block, within = np.divmod(layout.rows, size)
        place = np.searchsorted(blocks, block)
        chosen = np.isin(block, blocks)
        share = Layout(
            dataclasses.replace(layout.shape, rows=len(blocks) * size),
            layout.examples[chosen],
            (place * size + within)[chosen],
        )
        return self._examples.assemble(share)

    def check_blocks(self, count: int) -> None:
        """Raises ConfigError when the rows of batches cannot be divided into so many equal blocks."""
        if self._rows_multiple_of % count:
            raise ConfigError(
                "data.rows_multiple_of",
                self._rows_multiple_of,
                f"the rows of a batch cannot be split evenly over {count} devices",
                f"Make it a multiple of {count}.",
            )

    def layout(self, i: int) -> Layout:
        """Which examples batch i holds and where; they are numbered through the corpora in the order given."""
        epoch_number, within = divmod(i, len(self))
        epoch = self._epoch(epoch_number)
        group_number, number = (int(value) for value in epoch.batches[within])
        group, order = self._groups[group_number], epoch.rows[group_number]
        # Shared out evenly: filling batch after batch would leave a last one with hardly any rows.
        first, last = (len(order) * k // group.batches_per_epoch for k in (number, number + 1))
        rows = group.rows.take(order[first:last])
        return Layout(group.shape, rows.examples, np.repeat(np.arange(len(rows)), np.diff(rows.offsets)))

    def _epoch(self, number: int) -> Epoch:
        with self._lock:
            if number not in self._epochs:
                # Two are kept: while one ends, threads that read ahead are in the next already.
                self._epochs = {kept: epoch for kept, epoch in self._epochs.items() if abs(kept - number) == 1}
                self._epochs[number] = self._order.epoch(number)
            return self._epochs[number]


@dataclasses.dataclass(frozen=True)
class Statistics:
    """What an epoch holds. Tokens count each example's end; capacities count padding as well."""

    examples: int
    batches: int
    shapes: tuple[Shape, ...]
    source_tokens: int
    target_tokens: int
    source_capacity: int
    target_capacity: int

    @classmethod
    def measure(cls, examples: Examples, groups: Sequence[Group]) -> "Statistics":
        totals = np.zeros(5)
        lengths = examples.source_lengths, examples.target_lengths
        for group in groups:
            shape, batches = group.shape, group.batches_per_epoch
            totals[3:] += batches * shape.rows * np.array([shape.source_length, shape.target_length])
            base = 0
            for pool in group.pools:
                ends = group.rows.offsets[[base, base + pool.size]]
                chosen = group.rows.examples[slice(*ends)]
                of_pool = np.array([len(chosen), *(side[chosen].sum(dtype=np.int64) for side in lengths)])
                totals[:3] += of_pool * (pool.taken / max(pool.size, 1))
                base += pool.size
        count, *tokens = (round(total) for total in totals)
        batches = sum(group.batches_per_epoch for group in groups)
        return cls(count, batches, tuple(group.shape for group in groups), *tokens)

    @property
    def source_padding(self) -> float:
        """Padding of the source side, a fraction."""
        return 1 - self.source_tokens / self.source_capacity

    @property
    def target_padding(self) -> float:
        """Padding of the target side, a fraction."""
        return 1 - self.target_tokens / self.target_capacity

    def __str__(self) -> str:
        shapes = ", ".join(str(shape) for shape in self.shapes)
        return (
            f"{self.examples:,} pairs in {self.batches:,} batches an epoch; "
            f"{self.source_tokens:,} source tokens ({self.source_padding:.1%} padding), "
            f"{self.target_tokens:,} target tokens ({self.target_padding:.1%} padding); shapes {shapes}"
        )

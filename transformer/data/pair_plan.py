"""Which pairs go into which batch: in length buckets, or packed."""

import dataclasses
import functools
import zlib
from collections.abc import Sequence

import numpy as np

from transformer.config import DataConfig
from transformer.data.assemble import Batch, Examples, Layout
from transformer.data.buckets import bucket_of, choose_shapes, extend_shapes
from transformer.data.order import Epoch, Sequential, Shuffled
from transformer.data.packing import pack
from transformer.data.rows import Group, Pool, Rows, Shape, batch_rows
from transformer.data.store import TokenStore


class PairPlan:
    """The batches of pairs; a `batches.Plan`."""

    def __init__(self, examples: Examples, groups: Sequence[Group], order: Shuffled | Sequential):
        self._examples = examples
        self._groups = groups
        self._order = order
        self.batches_per_epoch = sum(group.batches_per_epoch for group in groups)
        self.statistics = Statistics.measure(examples, groups)

    @classmethod
    def training(
        cls, stores: Sequence[TokenStore], weights: Sequence[float], data: DataConfig, seed: int
    ) -> "PairPlan":
        """Epochs in ever new orders; each has all pairs, as often as the weight of their corpus says."""
        examples = Examples(stores)
        if data.batching == "packing":
            groups = [_packed_group(examples, weights, data, seed)]
        else:
            by_example = np.repeat(np.array(weights, np.float64), [len(store) for store in stores])
            shapes = choose_shapes(examples.source_lengths, examples.target_lengths, by_example, data)
            groups = _bucket_groups(examples, weights, shapes)
        return cls(examples, groups, Shuffled(groups, seed))

    @classmethod
    def evaluation(cls, stores: Sequence[TokenStore], data: DataConfig, shapes: Sequence[Shape]) -> "PairPlan":
        """All pairs once, in a fixed order; `shapes` are used where they hold a pair."""
        examples = Examples(stores)
        weights = [1.0] * len(stores)
        if data.batching == "packing":
            groups = [_packed_group(examples, weights, data, seed=0)]
        else:
            lengths = examples.source_lengths, examples.target_lengths
            chain = extend_shapes(list(shapes), *lengths, data) if shapes else None
            chain = chain or choose_shapes(*lengths, np.ones(len(examples)), data)
            groups = _bucket_groups(examples, weights, chain)
        return cls(examples, groups, Sequential(groups))

    @functools.cached_property
    def fingerprint(self) -> str:
        """Another one where the examples' number or lengths are others, and therefore the plan."""
        lengths = (self._examples.source_lengths, self._examples.target_lengths)
        return f"{zlib.crc32(np.stack(lengths).astype(np.uint32).tobytes()):08x}"

    @property
    def shapes(self) -> tuple[Shape, ...]:
        return tuple(group.shape for group in self._groups)

    def epoch(self, number: int) -> Epoch:
        return self._order.epoch(number)

    def layout(self, epoch: Epoch, within: int) -> Layout:
        group_number, number = (int(value) for value in epoch.batches[within])
        group, order = self._groups[group_number], epoch.rows[group_number]
        # Shared out evenly: filling batch after batch would leave a last one with hardly any rows.
        first, last = (len(order) * k // group.batches_per_epoch for k in (number, number + 1))
        rows = group.rows.take(order[first:last])
        return Layout(group.shape, rows.examples, np.repeat(np.arange(len(rows)), np.diff(rows.offsets)))

    def assemble(self, layout: Layout) -> Batch:
        return self._examples.assemble(layout)


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

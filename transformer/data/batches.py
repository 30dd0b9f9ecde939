"""The batches of a corpus: batch i is a pure function of the corpora, the config, the seed and i.

Everything is planned when the object is made; then any batch, or any host's share of one, can be had in any order.
The position in the data is therefore one number, whatever the number of hosts, and mid-epoch as well.

Pairs are planned by `pair_plan`, documents by `document_plan`; what their arrays are is said in `assemble` and
`document_batch`.
"""

import dataclasses
import threading
from collections.abc import Sequence
from typing import Any, Protocol

from transformer.config import ConfigError, DataConfig
from transformer.data.assemble import Batch
from transformer.data.document_plan import DocumentPlan
from transformer.data.errors import DataError
from transformer.data.pair_plan import PairPlan
from transformer.data.rows import Shape
from transformer.data.store import DocumentStore, TokenStore


@dataclasses.dataclass(frozen=True, eq=False)
class WeightedStore:
    """A corpus, and how many times an epoch goes through it: 1, 2, 0.5, ..."""

    store: TokenStore | DocumentStore
    weight: float = 1.0

    def __post_init__(self):
        if self.weight <= 0:
            raise DataError(f"the weight of a corpus is {self.weight}: it must be above 0. Leave the corpus out.")


def training_batches(corpora: Sequence[WeightedStore], data: DataConfig, seed: int) -> "Batches":
    """Batches without end, in a new order every epoch; each epoch has all examples, as often as their weight says."""
    stores, weights = [corpus.store for corpus in corpora], [corpus.weight for corpus in corpora]
    return Batches(_kind(stores).training(stores, weights, data, seed), data.rows_multiple_of)


def evaluation_batches(
    stores: Sequence[TokenStore | DocumentStore], data: DataConfig, shapes: Sequence[Shape] = ()
) -> "Batches":
    """All examples once, in a fixed order, in batches 0 .. len - 1; `layout(i)` tells which examples are where.

    Args:
      shapes: those of the training batches, which are used again, so that nothing new is compiled unless an example
        is longer than all of them. Without them the shapes follow from the examples. Documents have one shape anyway.
    """
    return Batches(_kind(stores).evaluation(stores, data, shapes), data.rows_multiple_of)


def _kind(stores: Sequence[TokenStore | DocumentStore]) -> type[PairPlan] | type[DocumentPlan]:
    of_documents = stores and all(isinstance(store, DocumentStore) for store in stores)
    return DocumentPlan if of_documents else PairPlan


class BatchLayout(Protocol):
    """What a batch holds, and where."""

    @property
    def shape(self) -> Shape: ...

    def share(self, blocks: Sequence[int], count: int) -> "BatchLayout":
        """Of `count` equal blocks of rows what those with these numbers hold, as a batch of its own."""
        ...


class Plan(Protocol):
    """Which examples go into which batch. Epochs and layouts are of types of its own."""

    batches_per_epoch: int
    statistics: Any  # of an epoch; for people, as a string

    @property
    def fingerprint(self) -> str: ...

    @property
    def shapes(self) -> tuple[Shape, ...]: ...

    def epoch(self, number: int) -> Any:
        """The order of one epoch."""
        ...

    def layout(self, epoch: Any, within: int) -> BatchLayout:
        """What batch `within` of an epoch holds."""
        ...

    def assemble(self, layout: Any) -> Batch:
        """Its arrays."""
        ...


class Batches:
    """Batches 0, 1, 2, ... of a plan; `len()` of them make an epoch. Safe to use from several threads."""

    def __init__(self, plan: Plan, rows_multiple_of: int):
        self._plan = plan
        self._rows_multiple_of = rows_multiple_of
        self._epochs: dict[int, Any] = {}
        self._lock = threading.Lock()
        self.statistics = plan.statistics

    def __len__(self) -> int:
        return self._plan.batches_per_epoch

    @property
    def fingerprint(self) -> str:
        """Another one where the examples' number or lengths are others, and therefore the plan."""
        return self._plan.fingerprint

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """Every shape a batch can have."""
        return self._plan.shapes

    def batch(self, i: int) -> Batch:
        """Batch i, whole."""
        return self._plan.assemble(self.layout(i))

    def rows(self, i: int, blocks: Sequence[int], count: int) -> Batch:
        """One process' share of batch i: of `count` equal blocks of rows those with these numbers, ascending."""
        self.check_blocks(count)
        layout = self.layout(i)
        return self._plan.assemble(layout.share(blocks, count))

    def check_blocks(self, count: int) -> None:
        """Raises ConfigError when the rows of batches cannot be divided into so many equal blocks."""
        if self._rows_multiple_of % count:
            raise ConfigError(
                "data.rows_multiple_of",
                self._rows_multiple_of,
                f"the rows of a batch cannot be split evenly over {count} devices",
                f"Make it a multiple of {count}.",
            )

    def layout(self, i: int) -> Any:
        """Which examples batch i holds and where; they are numbered through the corpora in the order given."""
        epoch_number, within = divmod(i, len(self))
        return self._plan.layout(self._epoch(epoch_number), within)

    def _epoch(self, number: int) -> Any:
        with self._lock:
            if number not in self._epochs:
                # Two are kept: while one ends, threads that read ahead are in the next already.
                self._epochs = {kept: epoch for kept, epoch in self._epochs.items() if abs(kept - number) == 1}
                self._epochs[number] = self._plan.epoch(number)
            return self._epochs[number]

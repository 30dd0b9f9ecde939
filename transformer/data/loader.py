"""Reads batches ahead of the step, with Grain, and knows the position to the batch."""

from collections.abc import Iterator, Sequence
from typing import Any

import grain

from transformer.data.assemble import Batch
from transformer.data.batches import Batches

# A batch takes a few milliseconds: more threads only contend for the interpreter.
THREADS = 2


class Loader(Iterator[Batch]):
    """Iterates over batches start .. stop - 1, or one process' rows of them (see `Batches.rows`).

    The state is the number of the next batch, so it can be restored with any number of processes.
    """

    def __init__(
        self,
        batches: Batches,
        start: int,
        stop: int,
        *,
        read_ahead: int,
        blocks: Sequence[int] = (0,),
        count: int = 1,
    ):
        batches.check_blocks(count)
        dataset = grain.MapDataset.source(_Source(batches, stop, blocks, count))
        options = grain.ReadOptions(num_threads=min(THREADS, read_ahead), prefetch_buffer_size=read_ahead)
        self._iterator = iter(dataset.to_iter_dataset(options))
        self.set_state({"next_index": start})

    @property
    def position(self) -> int:
        """The number of the batch that `next` returns."""
        return self.get_state()["next_index"]

    def __next__(self) -> Batch:
        return next(self._iterator)

    def get_state(self) -> dict[str, Any]:
        """The position, as JSON can hold it."""
        return self._iterator.get_state()

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on from a state that `get_state` returned.

        Raises:
          IndexError: it lies beyond `stop`.
        """
        self._iterator.set_state(state)

    def close(self) -> None:
        """Stops reading ahead; the threads end with the batch they are at."""
        self._iterator.close()

    def __enter__(self) -> "Loader":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class _Source:
    """Random access to batches, as Grain wants it."""

    def __init__(self, batches: Batches, stop: int, blocks: Sequence[int], count: int):
        self._batches = batches
        self._stop = stop
        self._blocks = blocks
        self._count = count

    def __len__(self) -> int:
        return self._stop

    def __getitem__(self, index: int) -> Batch:
        return self._batches.rows(index, self._blocks, self._count)

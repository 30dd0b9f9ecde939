"""One corpus tokenised: in shards, on several threads, continued after a kill, joined at the end.

Threads do, with nothing to start, to feed or to leave behind: SentencePiece encodes outside Python's lock, and two
threads are twice as fast as one.
"""

import abc
import dataclasses
import itertools
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from transformer.config import DataConfig
from transformer.cores import cores
from transformer.data.cache import atomic_file
from transformer.data.filters import FilterReport, SeenPairs, fits, within_ratio
from transformer.data.store import SIDES, Ragged, TokenStore, write_side
from transformer.data.tokenizer import Tokenizers

SHARD_PAIRS = 20_000
"""Pairs read for a shard, before any is dropped: what a kill can cost."""

# Beyond this the one thread that reads and the lists of ids, made under Python's lock, set the pace.
_MOST_THREADS = 8

_Item = TypeVar("_Item")
Pairs = Sequence[tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class Tokenised:
    """Pairs as tokens, what was left out of them, and the bytes of UTF-8 that the targets kept take."""

    store: TokenStore
    report: FilterReport
    target_bytes: int


def tokenise(pairs: Pairs, tokenizers: Tokenizers, data: DataConfig) -> Tokenised:
    """Tokenises pairs and drops those that are empty, of uneven length, or too long. Their order stays."""
    present = [pair for pair in pairs if pair[0] and pair[1]]
    even = [pair for pair in present if within_ratio(*pair, data)]
    encoded = list(
        zip(
            tokenizers.source.encode([source for source, _ in even]),
            tokenizers.target.encode([target for _, target in even]),
            (target for _, target in even),
            strict=True,
        )
    )
    # A text can be without tokens, such as one of zero-width spaces.
    filled = [ids for ids in encoded if ids[0] and ids[1]]
    kept = [ids for ids in filled if fits(ids[0], ids[1], data)]
    report = FilterReport(
        kept=len(kept),
        empty=len(pairs) - len(present) + len(encoded) - len(filled),
        length_ratio=len(present) - len(even),
        too_long=len(filled) - len(kept),
    )
    source = Ragged.from_lists([ids for ids, _, _ in kept], tokenizers.source.dtype)
    target = Ragged.from_lists([ids for _, ids, _ in kept], tokenizers.target.dtype)
    return Tokenised(TokenStore(source, target), report, sum(len(text.encode()) for _, _, text in kept))


class ShardFolder(abc.ABC, Generic[_Item]):
    """The shards of one corpus: files named by their number and kind, each there whole or not at all.

    Args:
      path: the folder; `make` makes it.
    """

    def __init__(self, path: Path):
        self._path = path

    @abc.abstractmethod
    def chunks(self, items: Iterable[_Item]) -> Iterator[list[_Item]]:
        """What goes into one shard each; the same for the same corpus."""

    @abc.abstractmethod
    def add_unseen(self, chunk: list[_Item], seen: SeenPairs) -> list[_Item]:
        """Those of a chunk that are not in `seen`, which they are added to."""

    @abc.abstractmethod
    def join(self, folder: Path) -> None:
        """Writes all shards as one store into an existing folder."""

    @property
    @abc.abstractmethod
    def _ending(self) -> str:
        """Of the shards' names: another one where they hold other items."""

    @abc.abstractmethod
    def _tokenised(
        self, chunk: list[_Item], tokenizers: Tokenizers, data: DataConfig
    ) -> tuple[FilterReport, dict[str, np.ndarray]]:
        """The arrays of a shard, and what was left out of it."""

    def make(
        self,
        items: Iterable[_Item],
        tokenizers: Tokenizers,
        data: DataConfig,
        seen: SeenPairs | None,
        on_items: Callable[[int], None],
    ) -> None:
        """Makes every shard that is not there yet.

        Args:
          items: the whole corpus, in its order.
          seen: what earlier corpora hold, when duplicates are dropped; this one's is added.
          on_items: told how many are done.
        """
        self._path.mkdir(exist_ok=True)
        # What a kill left half-written, and shards of another size.
        for file in self._path.iterdir():
            if not file.name.endswith(self._ending):
                file.unlink()
        threads = data.workers or min(cores(), _MOST_THREADS)
        pool = ThreadPoolExecutor(threads)
        pending: deque[Future[int]] = deque()
        done = 0
        try:
            for number, chunk in enumerate(self.chunks(items)):
                # Also for a shard that is there: later ones need to know what it holds.
                unseen = chunk if seen is None else self.add_unseen(chunk, seen)
                if self._file(number).exists():
                    done += len(chunk)
                else:
                    pending.append(pool.submit(self._make_one, number, unseen, len(chunk), tokenizers, data))
                # A few ahead keep every thread busy; more would take the corpus into memory.
                if len(pending) > 2 * threads:
                    done += pending.popleft().result()
                on_items(done)
            for made in pending:
                done += made.result()
                on_items(done)
        finally:
            pool.shutdown(cancel_futures=True)

    def report(self) -> FilterReport:
        """What was kept and dropped in all shards."""
        return sum((FilterReport(*counts.tolist()) for counts in self._arrays("report")), FilterReport())

    def remove(self) -> None:
        """Deletes the shards, if there are any."""
        shutil.rmtree(self._path, ignore_errors=True)

    def _arrays(self, name: str) -> Iterator[np.ndarray]:
        """One array of every shard, in order, read one at a time."""
        for path in sorted(self._path.glob("*.npz")):
            with np.load(path) as shard:
                yield shard[name]

    def _make_one(self, number: int, chunk: list[_Item], total: int, tokenizers: Tokenizers, data: DataConfig) -> int:
        report, arrays = self._tokenised(chunk, tokenizers, data)
        report += FilterReport(duplicate=total - len(chunk))
        with atomic_file(self._file(number)) as file:
            np.savez(file, report=np.array(dataclasses.astuple(report)), **arrays)
        return total

    def _file(self, number: int) -> Path:
        return self._path / f"{number:06d}{self._ending}"


class PairShards(ShardFolder[tuple[str, str]]):
    """Shards of pairs."""

    def chunks(self, items: Iterable[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
        return chunks(items, SHARD_PAIRS)

    def add_unseen(self, chunk: list[tuple[str, str]], seen: SeenPairs) -> list[tuple[str, str]]:
        # Empty ones stay, to be counted as that.
        return [pair for pair, new in zip(chunk, seen.add(chunk), strict=True) if new or not all(pair)]

    def join(self, folder: Path) -> None:
        for side in SIDES:
            write_side(folder, side, list(self._arrays(f"{side}_offsets")), self._arrays(f"{side}_tokens"))

    @property
    def _ending(self) -> str:
        return f"-of-{SHARD_PAIRS}-pairs.npz"

    def _tokenised(
        self, chunk: list[tuple[str, str]], tokenizers: Tokenizers, data: DataConfig
    ) -> tuple[FilterReport, dict[str, np.ndarray]]:
        made = tokenise(chunk, tokenizers, data)
        source, target = made.store.source, made.store.target
        arrays = {"source_tokens": source.tokens, "source_offsets": source.offsets}
        return made.report, arrays | {"target_tokens": target.tokens, "target_offsets": target.offsets}


def chunks(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    """Lists of `size` items, the last one shorter."""
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk

"""One corpus tokenised: in shards, on several threads, continued after a kill, joined at the end.

Threads do, with nothing to start, to feed or to leave behind: SentencePiece encodes outside Python's lock, and two
threads are twice as fast as one.
"""

import dataclasses
import itertools
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np

from transformer.config import DataConfig
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
    """Pairs as tokens, and what was left out of them."""

    store: TokenStore
    report: FilterReport


def tokenise(pairs: Pairs, tokenizers: Tokenizers, data: DataConfig) -> Tokenised:
    """Tokenises pairs and drops those that are empty, of uneven length, or too long. Their order stays."""
    present = [pair for pair in pairs if pair[0] and pair[1]]
    even = [pair for pair in present if within_ratio(*pair, data)]
    encoded = list(
        zip(
            tokenizers.source.encode([source for source, _ in even]),
            tokenizers.target.encode([target for _, target in even]),
            strict=True,
        )
    )
    # A text can be without tokens, such as one of zero-width spaces.
    filled = [ids for ids in encoded if ids[0] and ids[1]]
    kept = [ids for ids in filled if fits(*ids, data)]
    report = FilterReport(
        kept=len(kept),
        empty=len(pairs) - len(present) + len(encoded) - len(filled),
        length_ratio=len(present) - len(even),
        too_long=len(filled) - len(kept),
    )
    source = Ragged.from_lists([ids for ids, _ in kept], tokenizers.source.dtype)
    target = Ragged.from_lists([ids for _, ids in kept], tokenizers.target.dtype)
    return Tokenised(TokenStore(source, target), report)


@dataclasses.dataclass(frozen=True)
class ShardFolder:
    """The shards of one corpus: files named by their number and size, each there whole or not at all."""

    path: Path

    def make(
        self,
        pairs: Iterable[tuple[str, str]],
        tokenizers: Tokenizers,
        data: DataConfig,
        seen: SeenPairs | None,
        on_pairs: Callable[[int], None],
    ) -> None:
        """Makes every shard that is not there yet.

        Args:
          pairs: the whole corpus, in its order.
          seen: the pairs of earlier corpora, when duplicates are dropped; those of this one are added.
          on_pairs: told how many pairs are done.
        """
        self.path.mkdir(exist_ok=True)
        # What a kill left half-written, and shards of another size.
        for file in self.path.iterdir():
            if not file.name.endswith(_ending()):
                file.unlink()
        threads = data.workers or min(os.cpu_count() or 1, _MOST_THREADS)
        pool = ThreadPoolExecutor(threads)
        pending: deque[Future[int]] = deque()
        done = 0
        try:
            for number, chunk in enumerate(chunks(pairs, SHARD_PAIRS)):
                # Also for a shard that is there: later ones need to know its pairs.
                unseen = chunk if seen is None else _unseen(chunk, seen)
                if self._file(number).exists():
                    done += len(chunk)
                else:
                    pending.append(pool.submit(self._make_one, number, unseen, len(chunk), tokenizers, data))
                # A few ahead keep every thread busy; more would take the corpus into memory.
                if len(pending) > 2 * threads:
                    done += pending.popleft().result()
                on_pairs(done)
            for made in pending:
                done += made.result()
                on_pairs(done)
        finally:
            pool.shutdown(cancel_futures=True)

    def report(self) -> FilterReport:
        """What was kept and dropped in all shards."""
        return sum((FilterReport(*counts.tolist()) for counts in self._arrays("report")), FilterReport())

    def join(self, folder: Path) -> None:
        """Writes all shards as one store into an existing folder."""
        for side in SIDES:
            write_side(folder, side, list(self._arrays(f"{side}_offsets")), self._arrays(f"{side}_tokens"))

    def remove(self) -> None:
        """Deletes the shards, if there are any."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _arrays(self, name: str) -> Iterator[np.ndarray]:
        """One array of every shard, in order, read one at a time."""
        for path in sorted(self.path.glob("*.npz")):
            with np.load(path) as shard:
                yield shard[name]

    def _make_one(self, number: int, pairs: Pairs, total: int, tokenizers: Tokenizers, data: DataConfig) -> int:
        made = tokenise(pairs, tokenizers, data)
        report = made.report + FilterReport(duplicate=total - len(pairs))
        with atomic_file(self._file(number)) as file:
            np.savez(
                file,
                report=np.array(dataclasses.astuple(report)),
                source_tokens=made.store.source.tokens,
                source_offsets=made.store.source.offsets,
                target_tokens=made.store.target.tokens,
                target_offsets=made.store.target.offsets,
            )
        return total

    def _file(self, number: int) -> Path:
        return self.path / f"{number:06d}{_ending()}"


def _ending() -> str:
    return f"-of-{SHARD_PAIRS}-pairs.npz"


def chunks(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    """Lists of `size` items, the last one shorter."""
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk


def _unseen(pairs: Pairs, seen: SeenPairs) -> Pairs:
    """Pairs not seen before. Empty ones stay, to be counted as that."""
    return [pair for pair, new in zip(pairs, seen.add(pairs), strict=True) if new or not all(pair)]

"""Searching with a model: token sequences in, hypotheses out, in a small fixed set of shapes.

Letters: B sentences, S source length, H hypotheses returned.
"""

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
from absl import logging
from jax.sharding import Mesh

from transformer import sharding
from transformer.config import DecodingConfig
from transformer.cores import cores
from transformer.data.tokenizer import BOS, EOS, PAD
from transformer.decoding.beam import BeamSearch
from transformer.decoding.greedy import Greedy
from transformer.decoding.length_penalty import LengthPenalty
from transformer.decoding.stages import Strategy
from transformer.decoding.step import Hypotheses
from transformer.evaluation.search_programs import SearchPrograms
from transformer.model.blueprint import Blueprint, Params
from transformer.model.decoding_weights import DecodingWeights, in_precision

# Source lengths are rounded up to one of these, then to multiples of the last.
LENGTHS = (16, 32, 64, 128)
# The decoder sees them padded to one of these: it reads a source once a token, which costs little, and compiles longer.
READ = (64, 128)
# Rows of a group of sentences: the least of these that holds it, below `DecodingConfig.batch_size`.
FEW_ROWS = (1, 8, 32)
# The last sentences of a group go on alone when they are no more than this.
LAST_ROWS = 8
# Tokens there is room for in the first stages of a search; after them, twice as many in each.
ROOMS = (16, 32, 96)
# Groups that are searched at a time by a CPU of several cores. A search keeps two cores busy for two thirds of its
# time: small products are done by one, and between stages none has anything to do. Two together took a corpus in two
# thirds of the time, three in 3% less again. They hold three caches.
AT_A_TIME = 3

Weights = list[DecodingWeights]


@dataclasses.dataclass(frozen=True)
class Found:
    """One output: its tokens without BOS and EOS, and how good the search thought it."""

    tokens: list[int]
    score: float
    log_probability: float


class Search:
    """Decodes with one model, or with several of one vocabulary (an ensemble). Compiles once a shape and setting.

    Args:
      blueprints: of each model.
      mesh: where it runs.
      precision: of the products, as `DecodingConfig.precision`.
    """

    def __init__(self, blueprints: Sequence[Blueprint], mesh: Mesh, precision: str = "model"):
        blueprints = [in_precision(blueprint, precision) for blueprint in blueprints]
        self._mesh = mesh
        configs = [blueprint.config() for blueprint in blueprints]
        self._longest = min((config.max_length for config in configs if config.positions == "learned"), default=None)
        self._programs = SearchPrograms(blueprints, precision)
        self._starting = threading.Lock()  # held while a program is compiled and started, not while it runs

    def prepare(self, params: Sequence[Params]) -> Weights:
        """What a call takes, of each blueprint's parameters: a copy of most of them."""
        with jax.set_mesh(self._mesh):
            return self._programs.prepare(list(params))

    def __call__(
        self,
        weights: Weights,
        sources: Sequence[Sequence[int]],
        settings: DecodingConfig,
        *,
        num_hypotheses: int = 1,
        progress: Callable[[int], None] = lambda done: None,
    ) -> list[list[Found]]:
        """The best outputs for every source, in the order given.

        Sentences are sorted by length, padded to few shapes, and put back in order. The result for one does not depend
        on which others are translated with it.

        Args:
          weights: see `prepare`.
          sources: token ids without EOS. With learned positions the tokens beyond the table are left out (a warning).
          settings: beam, length penalty, limit.
          num_hypotheses: how many outputs a sentence, at most `settings.beam_size`.
          progress: called with the number of sentences finished since the last call.
        """
        if self._longest is not None:
            longer = sum(len(source) >= self._longest for source in sources)
            if longer:
                logging.warning(
                    "%d sentences have more tokens than the model has learned positions (%d, model.max_length): "
                    "their ends are not translated. Split them.",
                    longer,
                    self._longest,
                )
        results: list[list[Found]] = [[] for _ in sources]
        strategy = _strategy(settings, num_hypotheses)
        stop = threading.Event()

        def outputs_of(group: tuple[list[int], int]) -> tuple[list[int], list[list[Found]]]:
            numbers, length = group
            with jax.set_mesh(self._mesh):
                arrays = self._group([sources[i] for i in numbers], length, settings)
                return numbers, self._search(weights, arrays, strategy, stop)

        groups = self._groups(sources, settings.batch_size)
        with _workers(self._mesh) as workers:
            try:
                for numbers, rows in map(outputs_of, groups) if workers is None else workers.map(outputs_of, groups):
                    for number, found in zip(numbers, rows[: len(numbers)], strict=True):  # the others only fill up
                        results[number] = found
                    progress(len(numbers))
            finally:
                stop.set()  # whoever leaves off does not wait for what is not wanted any more
        return results

    def _groups(self, sources: Sequence[Sequence[int]], batch_size: int) -> Iterator[tuple[list[int], int]]:
        """Sentence numbers that are decoded together, longest first, and the source length they are padded to."""
        order = sorted(range(len(sources)), key=lambda i: -len(sources[i]))
        while order:
            length = _rounded(len(sources[order[0]]) + 1)
            # Beyond the last of the lengths, fewer rows: attention's memory grows with the square of the length.
            fits = batch_size * LENGTHS[-1] ** 2 // max(length, LENGTHS[-1]) ** 2
            rows = next((size for size in (batch_size, *reversed(FEW_ROWS)) if size <= fits), 1)
            yield order[:rows], length
            order = order[rows:]

    def _group(self, sources: Sequence[Sequence[int]], length: int, settings: DecodingConfig) -> "_Group":
        read = next((least for least in READ if least >= length), length)
        if self._longest is not None:
            length, read = min(length, self._longest), min(read, self._longest)
        shards = sharding.row_shards(self._mesh)
        ladder = sorted({-(-size // shards) * shards for size in (*FEW_ROWS, settings.batch_size)})
        rows = min(size for size in ladder if size >= len(sources))
        tokens = np.full((rows, length), PAD, np.int32)
        segments = np.zeros((rows, length), np.int32)
        # Rows that hold no sentence have the limit 0: nobody waits for them.
        limits = np.zeros(rows, np.int32)
        for row, source in enumerate(sources):
            source = [*source[: length - 1], EOS]
            tokens[row, : len(source)] = source
            segments[row, : len(source)] = 1
            limits[row] = len(source) - 1 + settings.extra_length
        if self._longest is not None:
            limits = np.minimum(limits, self._longest)
        positions = np.broadcast_to(np.arange(length, dtype=np.int32), tokens.shape) * segments
        whole = {"source": tokens, "segments": segments, "positions": positions, "limits": limits[:, None]}
        # One for all but the longest: what differs in it is compiled apart.
        most = max(read, READ[-1]) - 1 + settings.extra_length
        return _Group(
            sharding.split_rows(whole, self._mesh),
            read,
            most if self._longest is None else min(most, self._longest),
            # Between devices no sentence changes its place.
            LAST_ROWS if shards == 1 else 0,
        )

    def _search(
        self, weights: Weights, group: "_Group", strategy: Strategy, stop: threading.Event
    ) -> list[list[Found]]:
        """The outputs of each row; of less than all of them when it is told to stop."""
        programs = self._programs
        rooms = _rooms(group.max_length)
        count = len(group.arrays["source"])
        results: list[list[Found]] = [[] for _ in range(count)]
        numbers = np.arange(count)  # of the rows that are still there; -1: only fills up
        with self._starting:
            state = programs.start(
                weights,
                group.arrays,
                strategy=strategy,
                read=group.read,
                max_length=group.max_length,
                room=rooms[0],
            )
        while not stop.is_set():
            few = group.last_rows if len(numbers) > group.last_rows else 0
            with self._starting:
                state, seen = programs.advance(weights, state, np.int32(few), strategy=strategy)
            seen = sharding.to_host(seen)
            for row in np.flatnonzero(seen.done_B):
                if numbers[row] >= 0:
                    results[numbers[row]] = _row(seen.found, row)
            open_rows = np.flatnonzero(~seen.done_B)
            if not len(open_rows):
                break
            numbers[seen.done_B] = -1
            with self._starting:
                if len(open_rows) <= few:
                    # Filled up with one that is done, which nobody waits for.
                    filling = np.full(few - len(open_rows), np.flatnonzero(seen.done_B)[0])
                    kept = np.concatenate([open_rows, filling]).astype(np.int32)
                    state, numbers = programs.narrow(state, kept), numbers[kept]
                if seen.position == rooms[0]:
                    room, *rooms = rooms
                    state = programs.grow(state, strategy=strategy, tokens=rooms[0] - room)
        return results


@dataclasses.dataclass(frozen=True)
class _Group:
    """Sentences that are decoded together."""

    arrays: dict[str, jax.Array]
    read: int  # the source length that the decoder sees
    max_length: int  # of outputs
    last_rows: int  # the others leave when so few are not done; 0: they never do


@contextlib.contextmanager
def _workers(mesh: Mesh) -> Iterator[ThreadPoolExecutor | None]:
    """Threads to search in, where that is faster. Not over several devices: all processes must start the same."""
    if mesh.size > 1 or sharding.platform_of(mesh) != "cpu" or cores() == 1:
        yield None
        return
    with ThreadPoolExecutor(AT_A_TIME) as workers:
        yield workers


def _rooms(max_length: int) -> list[int]:
    """For how many tokens there is room in each stage."""
    rooms = [*ROOMS]
    while rooms[-1] < max_length:
        rooms.append(2 * rooms[-1])
    return [*(room for room in rooms if room < max_length), max_length]


def _strategy(settings: DecodingConfig, num_hypotheses: int) -> Strategy:
    penalty = LengthPenalty(settings.length_penalty, settings.length_penalty_form)
    if settings.beam_size == 1:
        return Greedy(penalty, BOS, EOS, PAD)
    return BeamSearch(settings.beam_size, num_hypotheses, penalty, BOS, EOS, PAD)


def _rounded(length: int) -> int:
    for rounded in LENGTHS:
        if length <= rounded:
            return rounded
    return -(-length // LENGTHS[-1]) * LENGTHS[-1]


def _row(found: Hypotheses, row: int) -> list[Found]:
    outputs = []
    for tokens, length, score, log_probability in zip(
        found.tokens_BKT[row], found.lengths_BK[row], found.scores_BK[row], found.log_probabilities_BK[row], strict=True
    ):
        kept = tokens[:length].tolist()
        if length:
            outputs.append(Found(kept[:-1] if kept[-1] == EOS else kept, float(score), float(log_probability)))
    return outputs

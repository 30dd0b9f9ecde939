"""Searching with a model: token sequences in, hypotheses out, in a small fixed set of shapes.

Letters: B sentences, S source length, H hypotheses returned.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np
from absl import logging
from jax.sharding import Mesh

from transformer import sharding
from transformer.config import DecodingConfig
from transformer.data.tokenizer import BOS, EOS, PAD
from transformer.decoding.beam import beam_search
from transformer.decoding.ensemble import ensemble
from transformer.decoding.greedy import greedy
from transformer.decoding.step import Hypotheses
from transformer.model.blueprint import Blueprint, Params
from transformer.model.masks import Places

# Source lengths are rounded up to one of these, then to multiples of the last.
LENGTHS = (8, 16, 24, 32, 48, 64, 96, 128)
# Rows of a group of sentences: the least of these that holds it, below `DecodingConfig.batch_size`.
FEW_ROWS = (1, 8)


@dataclasses.dataclass(frozen=True)
class Found:
    """One output: its tokens without BOS and EOS, and how good the search thought it."""

    tokens: list[int]
    score: float
    log_probability: float


class Search:
    """Decodes with one model, or with several of one vocabulary (an ensemble). Compiles once a shape and setting."""

    def __init__(self, blueprints: Sequence[Blueprint], mesh: Mesh):
        self._blueprints = tuple(blueprints)
        self._mesh = mesh
        configs = [blueprint.bind(blueprint.shapes()).config for blueprint in blueprints]
        self._longest = min((config.max_length for config in configs if config.positions == "learned"), default=None)
        self._program = jax.jit(self._search, static_argnames=("settings", "max_length", "num_hypotheses"))

    def __call__(
        self,
        params: Sequence[Params],
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
          params: of each blueprint's model.
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
        frozen = Settings(settings.beam_size, settings.length_penalty)
        with jax.set_mesh(self._mesh):
            for numbers, length in self._groups(sources, settings.batch_size):
                arrays, max_length = self._arrays([sources[i] for i in numbers], length, settings)
                found = self._program(list(params), arrays, frozen, max_length, num_hypotheses)
                found = sharding.to_host(found)
                for row, number in enumerate(numbers):
                    results[number] = _row(found, row)
                progress(len(numbers))
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

    def _arrays(
        self, sources: Sequence[Sequence[int]], length: int, settings: DecodingConfig
    ) -> tuple[dict[str, jax.Array], int]:
        if self._longest is not None:
            length = min(length, self._longest)
        shards = sharding.row_shards(self._mesh)
        ladder = [size for size in (*FEW_ROWS, settings.batch_size) if size >= len(sources)]
        rows = -(-min(ladder) // shards) * shards
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
        arrays = sharding.split_rows(whole, self._mesh)
        most = length - 1 + settings.extra_length
        return arrays, most if self._longest is None else min(most, self._longest)

    def _search(
        self,
        params: list[Params],
        arrays: dict[str, jax.Array],
        settings: "Settings",
        max_length: int,
        num_hypotheses: int,
    ) -> Hypotheses:
        prepared = []
        for blueprint, member in zip(self._blueprints, params, strict=True):
            model = blueprint.bind(member)
            memory = model.encode(arrays["source"], Places(arrays["positions"], arrays["segments"]))
            prepared.append(model.start_decoding(memory, settings.beam_size, max_length))
        steps, caches = zip(*prepared, strict=True)
        step, cache = (steps[0], caches[0]) if len(params) == 1 else (ensemble(steps), caches)
        search = functools.partial(
            greedy if settings.beam_size == 1 else beam_search,
            step,
            cache,
            max_lengths_B=arrays["limits"][:, 0],
            max_length=max_length,
            length_penalty=settings.length_penalty,
            bos=BOS,
            eos=EOS,
            pad=PAD,
        )
        if settings.beam_size == 1:
            return search()
        return search(beam_size=settings.beam_size, num_hypotheses=num_hypotheses)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What of `DecodingConfig` a compiled search depends on; hashable."""

    beam_size: int
    length_penalty: float


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

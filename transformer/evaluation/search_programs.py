"""What is compiled to translate: a pass over the sources, and a search in stages.

A stage has room for so many tokens and so many sentences. All of them read the whole cache at every step, filled or
not; so the first stages are short, and the last few sentences of many go on without those that are done.

Letters: B sentences, S source length, H hypotheses.
"""

import dataclasses
from collections.abc import Sequence

import jax

from transformer.decoding import stages
from transformer.decoding.ensemble import ensemble
from transformer.decoding.stages import State, Strategy
from transformer.decoding.step import Hypotheses, Step
from transformer.evaluation.kept_programs import KeptProgram
from transformer.model.blueprint import Blueprint
from transformer.model.decoding_weights import DecodingWeights, bind, prepare
from transformer.model.masks import Places

# Compiled for the first output that is so long, or the first group that comes down to its last sentences: perhaps not
# in a run's first validation.
LATE = ("jit(_advance)", "jit(_grow)", "jit(of_rows)")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Seen:
    """What the host looks at between two stages."""

    position: jax.Array
    done_B: jax.Array
    found: Hypotheses  # of the sentences that are done


class SearchPrograms:
    """Each compiles once for each shape and strategy.

    Args:
      blueprints: of the model, or of each member of an ensemble, in the precision they decode in.
      precision: see `decoding_weights.in_precision`.
    """

    def __init__(self, blueprints: Sequence[Blueprint], precision: str):
        self._blueprints = tuple(blueprints)
        self._precision = precision
        models = [*(blueprint.description() for blueprint in blueprints), precision]
        self.prepare = KeptProgram(self._prepare, models)
        self.start = KeptProgram(self._start, models, static=("strategy", "read", "max_length", "room"))
        self.advance = KeptProgram(self._advance, models, static=("strategy",), donate=(1,))
        self.grow = KeptProgram(self._grow, models, static=("strategy", "tokens"))
        self.narrow = KeptProgram(stages.of_rows, models)

    def _prepare(self, params: Sequence) -> list[DecodingWeights]:
        return [
            prepare(blueprint, member, self._precision)
            for blueprint, member in zip(self._blueprints, params, strict=True)
        ]

    def _start(
        self,
        weights: list[DecodingWeights],
        arrays: dict[str, jax.Array],
        strategy: Strategy,
        read: int,
        max_length: int,
        room: int,
    ) -> State:
        """Reads the sources.

        Args:
          arrays: int32 [B, S]: `source`, `segments`, `positions`; [B, 1]: `limits`, `beam_search`'s `max_lengths_B`.
          read: the source length that the decoder sees, S or more.
          max_length: as `beam_search`'s.
          room: for how many tokens there is room at first.
        """
        caches = []
        for blueprint, member in zip(self._blueprints, weights, strict=True):
            bound = bind(blueprint, member)
            places = Places(arrays["positions"], arrays["segments"])
            memory = bound.model.encode(arrays["source"], places, layers=bound.encoder).padded(read)
            caches.append(bound.model.start_decoding(memory, strategy.slots, room, bound.decoder)[1])
        return strategy.start(tuple(caches), arrays["limits"][:, 0], max_length)

    def _advance(
        self, weights: list[DecodingWeights], state: State, few: jax.Array, strategy: Strategy
    ) -> tuple[State, Seen]:
        """Goes on until the room is full or no more than `few` sentences are open."""
        room = state.cache[0].generated_columns(strategy.slots)
        state = stages.stage(strategy, self._step(weights, strategy.slots), state, room, few)
        return state, Seen(state.position, state.done_B, strategy.result(state))

    def _step(self, weights: list[DecodingWeights], slots: int) -> Step:
        steps = []
        for blueprint, member in zip(self._blueprints, weights, strict=True):
            bound = bind(blueprint, member)
            steps.append(bound.model.step_of(bound.decoder, slots, bound.output_DV))
        if len(steps) > 1:
            return ensemble(steps)

        def step(tokens_BK, position, slots_BKT, caches):
            logits_BKV, cache = steps[0](tokens_BK, position, slots_BKT, caches[0])
            return logits_BKV, (cache,)

        return step

    def _grow(self, state: State, strategy: Strategy, tokens: int) -> State:
        """With room for that many more tokens."""
        return dataclasses.replace(state, cache=tuple(cache.grown(tokens, strategy.slots) for cache in state.cache))

"""What is compiled to go on with texts: a pass over prompts, and a loop of cached steps.

Letters: B rows, Q prompts, N tokens made at once, V vocabulary.
"""

import dataclasses

import jax
import jax.numpy as jnp

from transformer import sharding
from transformer.data.tokenizer import BOS, EOS, PAD
from transformer.decoding.sampling import Values, draw, log_probabilities
from transformer.evaluation.kept_programs import KeptProgram
from transformer.model.blueprint import Blueprint, Params
from transformer.model.decoding_weights import DecodingWeights, bind, prepare
from transformer.model.transformer import DecoderCache

# The most tokens made between two looks of the host.
CHUNK = 16


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    """Where the rows stand."""

    last_B: jax.Array  # what the model is fed next
    steps: jax.Array  # tokens made since the prompts were read
    seen_BV: jax.Array | None  # tokens of prompt and text, where draws look back
    cache: DecoderCache


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Made:
    """Tokens that were drawn, the first `count` of these."""

    tokens_NB: jax.Array
    log_probabilities_NB: jax.Array
    count: jax.Array


class RolloutPrograms:
    """Each compiles once for each shape and kind of draw."""

    def __init__(self, blueprint: Blueprint):
        self._blueprint = blueprint
        model = [blueprint.description()]
        self.prepare = KeptProgram(self._prepare, model)
        self.start = KeptProgram(self._start, model, static=("capacity",))
        self.advance = KeptProgram(self._advance, model, donate=(1,))
        self.grow = KeptProgram(self._grow, model, static=("columns",))

    def _prepare(self, params: Params) -> DecodingWeights:
        return prepare(self._blueprint, params)

    def _start(
        self,
        weights: DecodingWeights,
        prompts: dict[str, jax.Array],
        of_rows: dict[str, jax.Array],
        seen_BV: jax.Array | None,
        capacity: int,
    ) -> State:
        """Reads prompts, in one pass, and gives every row what was read of its own.

        Args:
          prompts: `tokens` and `segments`, as `LanguageModel.start_decoding` wants them.
          of_rows: the token `last` of every row's prompt, and the number of its `prompt`, [B, 1].
          seen_BV: see `State`.
          capacity: new tokens for which there is to be room.
        """
        bound = bind(self._blueprint, weights)
        _, cache = bound.model.start_decoding(prompts["tokens"], prompts["segments"], 1, capacity, bound.decoder)

        def taken(leaf_QX: jax.Array) -> jax.Array:
            split = jax.typeof(leaf_QX).sharding.spec
            whole = jax.sharding.reshard(leaf_QX, jax.sharding.PartitionSpec(None, *split[1:]))
            return whole.at[of_rows["prompt"][:, 0]].get(mode="promise_in_bounds", out_sharding=split)

        return State(of_rows["last"][:, 0], jnp.int32(0), seen_BV, jax.tree.map(taken, cache))

    def _advance(
        self,
        weights: DecodingWeights,
        state: State,
        seeds_B1: jax.Array,
        ended_B1: jax.Array,
        numbers: jax.Array,
        values: Values,
    ) -> tuple[State, Made]:
        """Some tokens more of every row, fewer when all have ended.

        Args:
          ended_B1: rows nobody waits for.
          numbers: tokens made since the prompt, and tokens wanted, at most `CHUNK`.
          values: of the draws.
        """
        bound = bind(self._blueprint, weights)
        step = bound.model.step_of(bound.decoder, 1, bound.output_DV)
        capacity = state.cache.generated_columns(1)
        slots_B1T = sharding.place(jnp.zeros((len(state.last_B), 1, capacity), jnp.int32), "batch", None, None)
        made, wanted = numbers

        def turn(loop: tuple[State, Made, jax.Array]):
            state, found, ended_B = loop
            logits_B1V, cache = step(state.last_B[:, None], state.steps, slots_B1T, state.cache)
            logits_BV = sharding.place(logits_B1V, "batch", None, None)[:, 0]
            # No text goes on with either.
            possible_BV = logits_BV.at[:, jnp.array([PAD, BOS])].set(-jnp.inf)
            tokens_B = draw(possible_BV, state.seen_BV, seeds_B1[:, 0], made + found.count, values)
            gains_B = log_probabilities(logits_BV, tokens_B)
            drawn_BV = jax.nn.one_hot(tokens_B, logits_BV.shape[-1], dtype=bool)
            seen_BV = None if state.seen_BV is None else state.seen_BV | drawn_BV
            return (
                State(tokens_B, state.steps + 1, seen_BV, cache),
                Made(
                    _put(found.tokens_NB, tokens_B, found.count),
                    _put(found.log_probabilities_NB, gains_B, found.count),
                    found.count + 1,
                ),
                ended_B | (tokens_B == EOS),
            )

        def goes_on(loop: tuple[State, Made, jax.Array]) -> jax.Array:
            return (loop[1].count < wanted) & ~jnp.all(loop[2])

        nothing_NB = jnp.broadcast_to(jnp.zeros_like(state.last_B)[None], (CHUNK, len(state.last_B)))
        nothing = Made(nothing_NB, nothing_NB.astype(jnp.float32), jnp.int32(0))
        state, found, _ = jax.lax.while_loop(goes_on, turn, (state, nothing, ended_B1[:, 0]))
        return state, found

    def _grow(self, state: State, columns: int) -> State:
        """With room for that many more tokens."""
        return dataclasses.replace(state, cache=state.cache.grown(columns, 1))


def _put(array_NB: jax.Array, row_B: jax.Array, place: jax.Array) -> jax.Array:
    return jax.lax.dynamic_update_slice_in_dim(array_NB, row_B[None], place, axis=0)

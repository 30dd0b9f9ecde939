"""Greedy search: the most probable token, until EOS or the limit.

Shapes: B sentences, K = 1 hypothesis, T longest output, V vocabulary.
"""

import dataclasses

import jax
import jax.numpy as jnp

from transformer.decoding.batch_split import split_like_batch
from transformer.decoding.length_penalty import LengthPenalty
from transformer.decoding.stages import check_length, search
from transformer.decoding.step import Cache, Hypotheses, Step


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _State:
    position: jax.Array
    tokens_B: jax.Array  # appended last
    outputs_BT: jax.Array
    lengths_B: jax.Array
    log_probabilities_B: jax.Array
    limits_B: jax.Array
    done_B: jax.Array
    cache: Cache


@dataclasses.dataclass(frozen=True)
class Greedy:
    """The search taken apart, for `stages`; arguments are those of `greedy`."""

    length_penalty: LengthPenalty
    bos: int
    eos: int
    pad: int

    @property
    def slots(self) -> int:
        """See `Strategy`."""
        return 1

    def start(self, cache: Cache, max_lengths_B: jax.Array, max_length: int) -> _State:
        """See `Strategy`."""
        check_length(max_length)
        rows = max_lengths_B.shape[0]
        limits_B = jnp.clip(max_lengths_B, 0, max_length)
        return _State(
            position=jnp.int32(0),
            tokens_B=split_like_batch(jnp.full(rows, self.bos, jnp.int32), max_lengths_B),
            outputs_BT=split_like_batch(jnp.full((rows, max_length), self.pad, jnp.int32), max_lengths_B),
            lengths_B=split_like_batch(jnp.zeros(rows, jnp.int32), max_lengths_B),
            log_probabilities_B=split_like_batch(jnp.zeros(rows, jnp.float32), max_lengths_B),
            limits_B=limits_B,
            done_B=limits_B == 0,
            cache=cache,
        )

    def advance(self, step: Step, state: _State, width: int) -> _State:
        """See `Strategy`."""
        rows, max_length = state.outputs_BT.shape
        slots_BKT = split_like_batch(jnp.zeros((rows, 1, width), jnp.int32), state.limits_B)
        logits_BKV, cache = step(state.tokens_B[:, None], state.position, slots_BKT, state.cache)
        logits_BV = split_like_batch(logits_BKV, state.limits_B)[:, 0]
        tokens_B = jnp.argmax(logits_BV, axis=-1).astype(jnp.int32)
        best_B = jnp.max(logits_BV, axis=-1)
        gains_B = jnp.where(jnp.isneginf(best_B), best_B, best_B - jax.nn.logsumexp(logits_BV, axis=-1))
        length = state.position + 1
        here_BT = ~state.done_B[:, None] & (jnp.arange(max_length) == state.position)[None, :]
        return dataclasses.replace(
            state,
            position=length,
            tokens_B=tokens_B,
            outputs_BT=jnp.where(here_BT, tokens_B[:, None], state.outputs_BT),
            lengths_B=jnp.where(state.done_B, state.lengths_B, length),
            log_probabilities_B=state.log_probabilities_B + jnp.where(state.done_B, 0.0, gains_B),
            done_B=state.done_B | (tokens_B == self.eos) | (length >= state.limits_B),
            cache=cache,
        )

    def result(self, state: _State) -> Hypotheses:
        """See `Strategy`."""
        return _hypotheses(state, self.length_penalty, self.pad)


def greedy(
    step: Step,
    cache: Cache,
    *,
    max_lengths_B: jax.Array,
    max_length: int,
    length_penalty: LengthPenalty,
    bos: int,
    eos: int,
    pad: int,
) -> Hypotheses:
    """One hypothesis a sentence: at every step the most probable token, the lowest id among equals.

    Not quite a beam of one, which also weighs ending at a less probable EOS. Arguments and result are those of
    `beam_search`; the penalty only enters the score.
    """
    return search(Greedy(length_penalty, bos, eos, pad), step, cache, max_lengths_B, max_length)


def _hypotheses(end: _State, penalty: LengthPenalty, pad: int) -> Hypotheses:
    # Nothing was generated, or a token every continuation of which is forbidden: there is no hypothesis.
    none_B = (end.lengths_B == 0) | jnp.isneginf(end.log_probabilities_B)
    lengths_B = jnp.where(none_B, 0, end.lengths_B)
    log_probabilities_B = jnp.where(none_B, -jnp.inf, end.log_probabilities_B)
    return Hypotheses(
        tokens_BKT=jnp.where(none_B[:, None], pad, end.outputs_BT)[:, None],
        lengths_BK=lengths_B[:, None],
        scores_BK=(log_probabilities_B / penalty(lengths_B))[:, None],
        log_probabilities_BK=log_probabilities_B[:, None],
    )

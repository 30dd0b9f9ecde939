"""Beam search (section 6.1), with the candidates and the finished set of Tensor2Tensor.

Every step extends each of K live hypotheses by one token and looks at the 2K most probable extensions. Those that end
with EOS go to the finished set if their score (log-probability over length penalty) is good enough; the best K others
live on. 2K, because at most K of them can end. Among equals the lower hypothesis, then the lower token id goes first.

A sentence is done, and is not touched again, when its limit is reached or when no live hypothesis can still get into
the finished set: probabilities only fall, so the score of a descendant is at most today's log-probability over the
largest penalty it can reach (alpha >= 0). The finished set is as large as the number of hypotheses asked for, which
makes that bound tight. How far it can reach: to the limit, but no further than `REACH` times its length plus
`REACH_MORE` tokens, where Tensor2Tensor goes by the limit alone. What could only win by growing further than that, with
next to no loss, is given up. That spares a tenth of all steps, and (with gnmt's penalty) changed nothing for a model of
captions: not one of 3,000, nor, with alpha 1 or 2 or five outputs each, of 1,000, and of 300 lines of three captions.

Shapes: B sentences, K live hypotheses (beam slots), H finished ones kept, C candidates, T longest output, V vocabulary.
"""

import dataclasses
from typing import TypeVar

import jax
import jax.numpy as jnp

from transformer.decoding.batch_split import split_like_batch
from transformer.decoding.length_penalty import LengthPenalty
from transformer.decoding.stages import check_length, search
from transformer.decoding.step import Cache, Hypotheses, Step
from transformer.decoding.top_k import top_k

Tree = TypeVar("Tree")

# How long a live hypothesis may become, for the question whether it can still win.
REACH, REACH_MORE = 1.5, 8


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Live:
    """Hypotheses without EOS, most probable first. -inf: no hypothesis."""

    outputs_BKT: jax.Array
    log_probabilities_BK: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Candidates:
    """The most probable extensions of the live hypotheses."""

    parents_BC: jax.Array
    tokens_BC: jax.Array
    outputs_BCT: jax.Array
    log_probabilities_BC: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _State:
    position: jax.Array  # of tokens_BK; as many tokens have been generated
    tokens_BK: jax.Array  # appended last
    slots_BKT: jax.Array  # see Step
    live: _Live
    finished: Hypotheses  # H of them, best first; score -inf: an empty place
    limits_B: jax.Array  # the most tokens an output may have
    done_B: jax.Array
    cache: Cache


@dataclasses.dataclass(frozen=True)
class BeamSearch:
    """The search taken apart, for `stages`; arguments are those of `beam_search`."""

    beam_size: int
    num_hypotheses: int
    length_penalty: LengthPenalty
    bos: int
    eos: int
    pad: int

    def __post_init__(self):
        if self.beam_size < 1:
            raise ValueError(f"beam_size = {self.beam_size}: a beam has at least 1 hypothesis.")
        if not 1 <= self.num_hypotheses <= self.beam_size:
            raise ValueError(f"num_hypotheses = {self.num_hypotheses}: must be from 1 to beam_size = {self.beam_size}.")

    @property
    def slots(self) -> int:
        """See `Strategy`."""
        return self.beam_size

    def start(self, cache: Cache, max_lengths_B: jax.Array, max_length: int) -> _State:
        """See `Strategy`: one live hypothesis a sentence, the empty one."""
        check_length(max_length)
        beam_size, num_hypotheses, pad = self.beam_size, self.num_hypotheses, self.pad
        rows = max_lengths_B.shape[0]

        def filled(value: jax.Array, *shape: int) -> jax.Array:
            return split_like_batch(jnp.broadcast_to(value, (rows, *shape)), max_lengths_B)

        own_K = jnp.arange(beam_size, dtype=jnp.int32)
        return _State(
            position=jnp.int32(0),
            tokens_BK=filled(jnp.int32(self.bos), beam_size),
            slots_BKT=filled(own_K[:, None], beam_size, max_length),
            live=_Live(
                outputs_BKT=filled(jnp.int32(pad), beam_size, max_length),
                log_probabilities_BK=filled(jnp.where(own_K == 0, 0.0, -jnp.inf).astype(jnp.float32), beam_size),
            ),
            finished=Hypotheses(
                tokens_BKT=filled(jnp.int32(pad), num_hypotheses, max_length),
                lengths_BK=filled(jnp.int32(0), num_hypotheses),
                scores_BK=filled(jnp.float32(-jnp.inf), num_hypotheses),
                log_probabilities_BK=filled(jnp.float32(-jnp.inf), num_hypotheses),
            ),
            limits_B=jnp.clip(max_lengths_B, 0, max_length),
            done_B=max_lengths_B <= 0,
            cache=cache,
        )

    def advance(self, step: Step, state: _State, width: int) -> _State:
        """See `Strategy`."""
        logits_BKV, cache = step(state.tokens_BK, state.position, state.slots_BKT[:, :, :width], state.cache)
        candidates = _extend(state, split_like_batch(logits_BKV, state.limits_B))
        length = state.position + 1
        finished = _finish(state.finished, candidates, length, self.length_penalty, self.eos)
        parents_BK, tokens_BK, live = _survive(candidates, self.beam_size, self.eos)
        reach_B = jnp.minimum(state.limits_B, REACH * length + REACH_MORE)
        can_improve_B = _can_improve(live, finished, reach_B, self.length_penalty)
        return dataclasses.replace(
            state,
            position=length,
            tokens_BK=tokens_BK,
            slots_BKT=_inherit(state.slots_BKT, parents_BK, length),
            live=_unless(state.done_B, state.live, live),
            finished=_unless(state.done_B, state.finished, finished),
            done_B=state.done_B | (length >= state.limits_B) | ~can_improve_B,
            cache=cache,
        )

    def result(self, state: _State) -> Hypotheses:
        """See `Strategy`."""
        return _ranked(state, self.length_penalty, self.pad)


def beam_search(
    step: Step,
    cache: Cache,
    *,
    max_lengths_B: jax.Array,
    max_length: int,
    beam_size: int,
    num_hypotheses: int,
    length_penalty: LengthPenalty,
    bos: int,
    eos: int,
    pad: int,
) -> Hypotheses:
    """The best outputs of each sentence that a beam finds. Can be traced by `jax.jit`.

    No token is forbidden here, not even BOS or padding: the step function may, with logits of -inf.

    Args:
      step: see `Step`.
      cache: its cache for B sentences and K slots, before the first token.
      max_lengths_B: int32, the most tokens a sentence's output may have, EOS counted. 0 marks a row as padding: it gets
        no hypothesis and keeps nobody waiting. Its sharding is that of the whole search and of the result.
      max_length: T, at least as large as any of them.
      beam_size: K.
      num_hypotheses: how many to return, at most K.
      length_penalty: what log-probabilities are divided by.
      bos: what position 0 is fed.
      eos: the token that finishes a hypothesis.
      pad: what outputs are filled up with.

    Raises:
      ValueError: for sizes that cannot be.
    """
    strategy = BeamSearch(beam_size, num_hypotheses, length_penalty, bos, eos, pad)
    return search(strategy, step, cache, max_lengths_B, max_length)


def _extend(state: _State, logits_BKV: jax.Array) -> _Candidates:
    """The 2K most probable extensions: found among the 2K of each hypothesis, which include them all."""
    rows, beam_size, vocab_size = logits_BKV.shape
    width = min(2 * beam_size, vocab_size)
    logits_BKC, tokens_BKC = top_k(logits_BKV, width)
    # log-softmax of those few; the largest logit comes first.
    largest_BK1 = logits_BKC[:, :, :1]
    sums_BK1 = jnp.sum(jnp.exp(logits_BKV - largest_BK1), axis=-1, keepdims=True)
    gains_BKC = logits_BKC - largest_BK1 - jnp.log(sums_BK1)
    # -inf - -inf is not a number: where every token is forbidden, so is the hypothesis.
    gains_BKC = jnp.where(jnp.isneginf(logits_BKC), -jnp.inf, gains_BKC)
    totals_BC = (state.live.log_probabilities_BK[:, :, None] + gains_BKC).reshape(rows, beam_size * width)
    log_probabilities_BC, places_BC = jax.lax.top_k(totals_BC, min(2 * beam_size, beam_size * width))

    parents_BC = places_BC // width
    tokens_BC = _rows(tokens_BKC.reshape(rows, beam_size * width), places_BC)
    outputs_BCT = _rows(state.live.outputs_BKT, parents_BC)
    here_T = jnp.arange(outputs_BCT.shape[-1]) == state.position
    outputs_BCT = jnp.where(here_T[None, None, :], tokens_BC[:, :, None], outputs_BCT)
    return _Candidates(parents_BC, tokens_BC, outputs_BCT, log_probabilities_BC)


def _finish(
    finished: Hypotheses, candidates: _Candidates, length: jax.Array, penalty: LengthPenalty, eos: int
) -> Hypotheses:
    """The finished set with the candidates that end. Of equal scores the one that finished first stays first."""
    scores_BC = candidates.log_probabilities_BC / penalty(length)
    ended = Hypotheses(
        tokens_BKT=candidates.outputs_BCT,
        lengths_BK=jnp.full_like(candidates.tokens_BC, length),
        scores_BK=jnp.where(candidates.tokens_BC == eos, scores_BC, -jnp.inf),
        log_probabilities_BK=candidates.log_probabilities_BC,
    )
    both = _concatenate(finished, ended)
    _, best_BH = jax.lax.top_k(both.scores_BK, finished.scores_BK.shape[1])
    return _take(both, best_BH)


def _survive(candidates: _Candidates, beam_size: int, eos: int) -> tuple[jax.Array, jax.Array, _Live]:
    """parents_BK, tokens_BK and the live hypotheses: the most probable candidates that do not end."""
    open_BC = jnp.where(candidates.tokens_BC == eos, -jnp.inf, candidates.log_probabilities_BC)
    log_probabilities_BK, best_BK = jax.lax.top_k(open_BC, beam_size)
    parents_BK = _rows(candidates.parents_BC, best_BK)
    tokens_BK = _rows(candidates.tokens_BC, best_BK)
    return parents_BK, tokens_BK, _Live(_rows(candidates.outputs_BCT, best_BK), log_probabilities_BK)


def _inherit(slots_BKT: jax.Array, parents_BK: jax.Array, position: jax.Array) -> jax.Array:
    """The ancestry of the new hypotheses: their parents' past, and from `position` on their own slot."""
    _, beam_size, max_length = slots_BKT.shape
    past_T = jnp.arange(max_length) < position
    own_K = jnp.arange(beam_size, dtype=jnp.int32)
    return jnp.where(past_T[None, None, :], _rows(slots_BKT, parents_BK), own_K[None, :, None])


def _can_improve(live: _Live, finished: Hypotheses, reach_B: jax.Array, penalty: LengthPenalty) -> jax.Array:
    """Whether a descendant of a live hypothesis, at most so long, may yet beat the worst of the finished set."""
    best_B = live.log_probabilities_BK[:, 0] / penalty(reach_B)
    return ~(best_B <= finished.scores_BK[:, -1])


def _ranked(end: _State, penalty: LengthPenalty, pad: int) -> Hypotheses:
    """The finished hypotheses, then, as far as places are free, those that ran into the limit."""
    limits_B = end.limits_B
    none_BK = jnp.isneginf(end.live.log_probabilities_BK) | (limits_B == 0)[:, None]
    log_probabilities_BK = jnp.where(none_BK, -jnp.inf, end.live.log_probabilities_BK)
    unfinished = Hypotheses(
        tokens_BKT=jnp.where(none_BK[:, :, None], pad, end.live.outputs_BKT),
        lengths_BK=jnp.where(none_BK, 0, limits_B[:, None]),
        scores_BK=log_probabilities_BK / penalty(limits_B)[:, None],
        log_probabilities_BK=log_probabilities_BK,
    )
    finished_B1 = jnp.sum(~jnp.isneginf(end.finished.scores_BK), axis=1, keepdims=True)
    kept = end.finished.scores_BK.shape[1]
    places_1H = jnp.arange(kept)[None, :]
    places_BH = places_1H + jnp.where(places_1H < finished_B1, 0, kept - finished_B1)
    return _take(_concatenate(end.finished, unfinished), places_BH)


def _rows(array_BX: jax.Array, places_BC: jax.Array) -> jax.Array:
    """Of each sentence, what stands at these places: [B, C, ...].

    Not `take_along_axis`, which loses the sharding where both B and C are 1.
    """
    return jax.vmap(lambda array_X, places_C: array_X.at[places_C].get(mode="promise_in_bounds"))(array_BX, places_BC)


def _take(hypotheses: Hypotheses, places_BC: jax.Array) -> Hypotheses:
    """Of each sentence, the hypotheses at these places."""
    return Hypotheses(
        tokens_BKT=_rows(hypotheses.tokens_BKT, places_BC),
        lengths_BK=_rows(hypotheses.lengths_BK, places_BC),
        scores_BK=_rows(hypotheses.scores_BK, places_BC),
        log_probabilities_BK=_rows(hypotheses.log_probabilities_BK, places_BC),
    )


def _concatenate(first: Hypotheses, second: Hypotheses) -> Hypotheses:
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b], axis=1), first, second)


def _unless(done_B: jax.Array, old: Tree, new: Tree) -> Tree:
    """`old` for the sentences that are done, `new` for the others; pytrees of [B, K, ...]."""

    def select(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.where(jnp.expand_dims(done_B, range(1, a.ndim)), a, b)

    return jax.tree.map(select, old, new)

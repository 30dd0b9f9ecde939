"""Attention in blocks of queries and of keys, in plain JAX for every platform: scores are never all in memory.

A block of queries goes through the blocks of keys and carries along the best score so far, the sum of exponentials and
the values weighted by them, which are rescaled when a better score comes (Rabe and Staats 2021; Dao et al. 2022). The
backward pass makes the scores of each pair of blocks once more, from the logarithm of the sums. A mask is asked about
one pair of blocks at a time, and pairs that it rules out are not visited (see `meet`).

Letters: B batch, T query length, S key length, N heads, K key-value heads, G query heads of one of them, H head size
(V where it is that of values), I blocks of queries with P positions each, J blocks of keys with C positions each.
"""

import dataclasses
import functools
import math
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from transformer import sharding
from transformer.model.masks import All, Causal, Chunk, Either, Mask, Padding, Places, Prompt, SameSegment, Window
from transformer.model.products import float32_product

# Positions of a block at most. On a CPU the scores of all heads of a pair then stay in the second-level cache.
LARGEST = 256
# Lengths of blocks are multiples of it: whole vectors.
_MULTIPLE = 8

# Vanishes beside every score, and beside the score that a query begins with: if it sees nothing, its sum remains 0.
_MASKED, _NOTHING_YET = -1e30, -1e29
# Segments are counted from 0: beyond all of them.
_NO_SEGMENT = 2**31 - 1


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Extent:
    """What is known of the tokens of every block, [I or J] each: the least and greatest of what masks look at.

    `first_segment` and `last_segment` are of real tokens; a block without has its first after its last.
    """

    first_position: jax.Array
    last_position: jax.Array
    first_segment: jax.Array
    last_segment: jax.Array
    has_prompt: jax.Array | None

    @classmethod
    def of(cls, places: Places) -> "Extent":
        """Of places in blocks, [I, 1, P]."""
        segments, prompt = places.segments_BT, places.prompt_BT
        return cls(
            jnp.min(places.positions_BT, axis=(1, 2)),
            jnp.max(places.positions_BT, axis=(1, 2)),
            jnp.min(jnp.where(segments == 0, _NO_SEGMENT, segments), axis=(1, 2)),
            jnp.max(segments, axis=(1, 2)),
            None if prompt is None else jnp.any(prompt, axis=(1, 2)),
        )


def meet(mask: Mask, queries: Extent, keys: Extent) -> jax.Array:
    """Which blocks of queries may see anything of which blocks of keys, bool [I, J]; False is certain.

    Args:
      mask: one that `knows` knows.
    """
    if isinstance(mask, All):
        return functools.reduce(operator.and_, (meet(part, queries, keys) for part in mask.masks))
    if isinstance(mask, Either):
        return functools.reduce(operator.or_, (meet(part, queries, keys) for part in mask.masks))
    queries, keys = (
        jax.tree.map(functools.partial(jnp.expand_dims, axis=axis), each) for axis, each in ((1, queries), (0, keys))
    )
    shape = (queries.first_position.size, keys.first_position.size)
    return jnp.broadcast_to(_MEET[type(mask)](mask, queries, keys), shape)


def _overlap(first, last, other_first, other_last) -> jax.Array:
    return (first <= other_last) & (other_first <= last)


def _segments(extent: Extent) -> tuple[jax.Array, jax.Array]:
    return extent.first_segment, extent.last_segment


def _chunks(mask: Chunk, extent: Extent) -> tuple[jax.Array, jax.Array]:
    return extent.first_position // mask.size, extent.last_position // mask.size


def _windows(mask: Window, queries: Extent, keys: Extent) -> jax.Array:
    before, after = queries.first_position - keys.last_position, keys.first_position - queries.last_position
    return (before < mask.size) & (after < mask.size)


_MEET: dict[type, Callable[[Any, Extent, Extent], jax.Array]] = {
    Padding: lambda mask, queries, keys: keys.last_segment > 0,
    SameSegment: lambda mask, queries, keys: _overlap(*_segments(queries), *_segments(keys)),
    Causal: lambda mask, queries, keys: keys.first_position <= queries.last_position,
    Prompt: lambda mask, queries, keys: jnp.bool(False) if keys.has_prompt is None else keys.has_prompt,
    Window: _windows,
    Chunk: lambda mask, queries, keys: _overlap(*_chunks(mask, queries), *_chunks(mask, keys)),
}


def knows(mask: Mask) -> bool:
    """Whether a mask can be asked about a part of the places: not so what has an array of its own, or may have."""
    if isinstance(mask, (All, Either)):
        return all(knows(part) for part in mask.masks)
    return type(mask) in _MEET


def attend(
    q_BTNH: jax.Array,
    keys_BSKH: jax.Array,
    values_BSKV: jax.Array,
    mask: Mask,
    queries: Places,
    keys: Places,
    *,
    soft_cap: float = 0.0,
) -> jax.Array:
    """What each query finds, [B, T, N, V]; zeros where it sees nothing. `mask` is one that `knows` knows.

    Args:
      soft_cap: scores become cap * tanh(score / cap); 0: they stay.
    """

    def of_device(q_BTNH, keys_BSKH, values_BSKV, queries, keys):
        batch_size, length, heads, size = q_BTNH.shape
        shape = (batch_size, length, keys_BSKH.shape[2], -1, size)
        q_BTKGH = jnp.reshape(q_BTNH / math.sqrt(size), shape)
        of_queries = Asking(jnp.moveaxis(_cut(q_BTKGH), 2, 4), _cut_places(queries))
        of_keys = Asked(
            _cut(keys_BSKH).swapaxes(2, 3),
            _cut(values_BSKV).swapaxes(2, 3),
            _cut_places(keys),
            _cut(jnp.ones_like(keys.segments_BT, bool)),
        )
        found_BIKGPV = _attend(mask, soft_cap, of_queries, of_keys)
        found_BIPKGV = jnp.moveaxis(found_BIKGPV, 4, 2)
        return jnp.reshape(found_BIPKGV, (batch_size, -1, heads, values_BSKV.shape[-1]))[:, :length]

    return sharding.on_each_device(of_device, q_BTNH, keys_BSKH, values_BSKV, queries, keys)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Asking:
    """Queries in blocks, of all rows here; of one row, or of one block of it, in what maps over them."""

    q_BIKGPH: jax.Array
    places: Places  # [B, I, 1, P]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Asked:
    """Keys and values in blocks, of all rows here; of one row, or of one block of it, in what maps over them."""

    keys_BJKCH: jax.Array
    values_BJKCV: jax.Array
    places: Places  # [B, J, 1, C]
    there_BJC: jax.Array  # bool: not filled up


def at_most(times: int) -> str:
    """A name for a loop that is run so often if nothing is left out. `transformer plan` reads it in the program."""
    return f"at_most_{times}_times"


def _block(length: int) -> tuple[int, int]:
    """How many blocks, and of how many positions: as few and as equal as can be."""
    count = math.ceil(length / LARGEST)
    size = math.ceil(length / count / _MULTIPLE) * _MULTIPLE
    return math.ceil(length / size), size


def _cut(array_BT: jax.Array) -> jax.Array:
    """[B, T, ...] in blocks, [B, I, P, ...]; the last is filled up with zeros."""
    batch_size, length, *rest = array_BT.shape
    count, size = _block(length)
    array_BT = jnp.pad(array_BT, ((0, 0), (0, count * size - length)) + ((0, 0),) * len(rest))
    return jnp.reshape(array_BT, (batch_size, count, size, *rest))


def _cut_places(places: Places) -> Places:
    return jax.tree.map(lambda array_BT: _cut(array_BT)[:, :, None], places)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _attend(mask: Mask, soft_cap: float, asking: Asking, asked: Asked) -> jax.Array:
    return _forward(mask, soft_cap, asking, asked)[0]


def _forward(mask, soft_cap, asking, asked):
    # Row by row: of each the pairs of blocks that nothing is seen in are its own.
    found_BIKGPV, log_sums_BIKGP = jax.lax.map(lambda row: _row(mask, soft_cap, *row), (asking, asked))
    return found_BIKGPV, (asking, asked, found_BIKGPV, log_sums_BIKGP)


def _row(mask: Mask, soft_cap: float, asking: Asking, asked: Asked) -> tuple[jax.Array, jax.Array]:
    """What the queries of a row find [I, K, G, P, V], and the logarithms of their sums of exponentials [I, K, G, P]."""
    dtype = asked.values_BJKCV.dtype
    met_IJ = meet(mask, Extent.of(asking.places), Extent.of(asked.places))

    def of_queries(block):
        asking, met_J = block
        order_J = jnp.argsort(~met_J)

        def turn(number, carry):
            best_KGP, total_KGP, found_KGPV = carry
            visited = _at(asked, order_J[number])
            scores_KGPC, allowed_PC = _scores(mask, soft_cap, asking, visited)
            scores_KGPC = jnp.where(allowed_PC, scores_KGPC, _MASKED)
            better_KGP = jnp.maximum(best_KGP, jnp.max(scores_KGPC, axis=-1))
            shrunk_KGP = jnp.exp(best_KGP - better_KGP)
            shares_KGPC = jnp.exp(scores_KGPC - better_KGP[..., None])
            total_KGP = shrunk_KGP * total_KGP + jnp.sum(shares_KGPC, axis=-1)
            more_KGPV = float32_product("KGPC,KCV->KGPV", shares_KGPC, visited.values_BJKCV, dtype.name)
            return better_KGP, total_KGP, shrunk_KGP[..., None] * found_KGPV + more_KGPV

        zeros_KGP = jnp.zeros(asking.q_BIKGPH.shape[:-1], jnp.float32)
        found_KGPV = jnp.zeros((*zeros_KGP.shape, asked.values_BJKCV.shape[-1]), jnp.float32)
        start = (zeros_KGP + _NOTHING_YET, zeros_KGP, found_KGPV)
        with jax.named_scope(at_most(len(met_J))):
            best_KGP, total_KGP, found_KGPV = jax.lax.fori_loop(0, jnp.sum(met_J), turn, start)
        # The best score alone adds 1 to the sum, unless there is none.
        total_KGP = jnp.maximum(total_KGP, 1)
        return (found_KGPV / total_KGP[..., None]).astype(dtype), best_KGP + jnp.log(total_KGP)

    return jax.lax.map(of_queries, (asking, met_IJ))


def _backward(mask, soft_cap, saved, gradient_BIKGPV):
    of_q, of_keys, of_values = jax.lax.map(lambda row: _row_gradients(mask, soft_cap, *row), (*saved, gradient_BIKGPV))
    return Asking(of_q, None), Asked(of_keys, of_values, None, None)


def _row_gradients(mask, soft_cap, asking, asked, found_IKGPV, log_sums_IKGP, gradient_IKGPV):
    """Gradients with respect to a row's queries, keys and values."""
    dtype = gradient_IKGPV.dtype
    met_IJ = meet(mask, Extent.of(asking.places), Extent.of(asked.places))
    # A score's own gradient is less by what its query's softmax takes back.
    back_IKGP = jnp.sum(found_IKGPV.astype(jnp.float32) * gradient_IKGPV, axis=-1)

    def of_keys(q_gradient_IKGPH, block):
        asked, met_I = block
        order_I = jnp.argsort(~met_I)

        def turn(number, carry):
            q_gradient_IKGPH, keys_gradient_KCH, values_gradient_KCV = carry
            visitor = order_I[number]
            asking_, gradient_KGPV, log_sums_KGP, back_KGP = _at(
                (asking, gradient_IKGPV, log_sums_IKGP, back_IKGP), visitor
            )
            scores_KGPC, allowed_PC = _scores(mask, soft_cap, asking_, asked)
            weights_KGPC = jnp.exp(jnp.where(allowed_PC, scores_KGPC, _MASKED) - log_sums_KGP[..., None])
            values_gradient_KCV += float32_product("KGPC,KGPV->KCV", weights_KGPC, gradient_KGPV, dtype.name)
            wanted_KGPC = float32_product("KGPV,KCV->KGPC", gradient_KGPV, asked.values_BJKCV, dtype.name)
            scores_gradient_KGPC = weights_KGPC * (wanted_KGPC - back_KGP[..., None])
            if soft_cap:
                scores_gradient_KGPC *= 1 - jnp.square(scores_KGPC / soft_cap)
            keys_gradient_KCH += float32_product("KGPC,KGPH->KCH", scores_gradient_KGPC, asking_.q_BIKGPH, dtype.name)
            more_KGPH = float32_product("KGPC,KCH->KGPH", scores_gradient_KGPC, asked.keys_BJKCH, dtype.name)
            return q_gradient_IKGPH.at[visitor].add(more_KGPH), keys_gradient_KCH, values_gradient_KCV

        start = (
            q_gradient_IKGPH,
            jnp.zeros(asked.keys_BJKCH.shape, jnp.float32),
            jnp.zeros(asked.values_BJKCV.shape, jnp.float32),
        )
        with jax.named_scope(at_most(len(met_I))):
            q_gradient_IKGPH, *gradients = jax.lax.fori_loop(0, jnp.sum(met_I), turn, start)
        return q_gradient_IKGPH, tuple(gradient.astype(dtype) for gradient in gradients)

    start = jnp.zeros(asking.q_BIKGPH.shape, jnp.float32)
    q_gradient_IKGPH, (keys_gradient, values_gradient) = jax.lax.scan(of_keys, start, (asked, met_IJ.T))
    return q_gradient_IKGPH.astype(dtype), keys_gradient, values_gradient


_attend.defvjp(_forward, _backward)


def _scores(mask: Mask, soft_cap: float, asking: Asking, asked: Asked) -> tuple[jax.Array, jax.Array]:
    """Of a pair of blocks, float32 [K, G, P, C]; and which of them count, bool [1, 1, P, C]."""
    q_KGPH, keys_KCH = asking.q_BIKGPH, asked.keys_BJKCH
    scores_KGPC = float32_product("KGPH,KCH->KGPC", q_KGPH, keys_KCH, keys_KCH.dtype.name)
    if soft_cap:
        scores_KGPC = soft_cap * jnp.tanh(scores_KGPC / soft_cap)
    return scores_KGPC, mask.allowed(asking.places, asked.places) & asked.there_BJC[None, None, None]


def _at(tree: Any, index: jax.Array) -> Any:
    return jax.tree.map(lambda array: jax.lax.dynamic_index_in_dim(array, index, keepdims=False), tree)

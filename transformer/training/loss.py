"""Label-smoothed cross-entropy (section 5.4) whose logits are never all in memory.

The logits of a batch are the largest arrays a Transformer makes: 25,000 tokens by 37,000 pieces is 3.7 GB. Here they
are made a few positions at a time, and since softmax minus target is already the gradient, the gradients of hidden
states and output table are made in the same pass: three products of that size, not four as recomputation would need.

Letters: B batch, T length of targets, D model, V vocabulary, C chunks, P positions of a chunk.
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp

from transformer import sharding
from transformer.model.products import float32_product


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LossSums:
    """Sums over the real target tokens of a batch; divide by `tokens` for means."""

    loss: jax.Array  # cross-entropy against the smoothed target, nats
    nll: jax.Array  # minus the log-probability of the target itself, nats
    correct: jax.Array  # int32: tokens for which the target had the highest logit
    tokens: jax.Array  # int32

    def __add__(self, other: "LossSums") -> "LossSums":
        return jax.tree.map(jnp.add, self, other)


def smoothed_cross_entropy(
    hidden_BTD: jax.Array,
    table_VD: jax.Array,
    targets_BT: jax.Array,
    real_BT: jax.Array,
    *,
    smoothing: float,
    dtype: str,
    chunk_mb: int,
) -> LossSums:
    """Sums of the loss over tokens where `real_BT`, for logits = hidden table^T.

    The target distribution is (1 - smoothing) on the target plus smoothing / V on every piece (Szegedy et al. 2016).
    Tensor2Tensor spreads the mass over the other V - 1 pieces only: the same with a smoothing V / (V - 1) larger.
    Differentiable once with respect to `hidden_BTD` and `table_VD`, through `loss` only.
    """
    chunks = _number_of_chunks(sharding.shard_shape(hidden_BTD), sharding.shard_shape(table_VD), chunk_mb)
    missing = -hidden_BTD.shape[1] % (chunks * sharding.parts(hidden_BTD, 1))
    hidden_BTD, targets_BT, real_BT = (
        jnp.pad(array, ((0, 0), (0, missing)) + ((0, 0),) * (array.ndim - 2))
        for array in (hidden_BTD, targets_BT, real_BT)
    )
    loss, nll, correct = _cross_entropy(smoothing, dtype, chunks, hidden_BTD, table_VD, targets_BT, real_BT)
    return LossSums(loss, nll, correct, jnp.sum(real_BT, dtype=jnp.int32))


def _number_of_chunks(hidden_shape: tuple[int, ...], table_shape: tuple[int, ...], chunk_mb: int) -> int:
    """As few as one device's memory allows, from the shapes of its parts."""
    batch_size, length, _ = hidden_shape
    positions = max(1, chunk_mb * 2**20 // (4 * batch_size * table_shape[0]))
    return math.ceil(length / positions)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _cross_entropy(smoothing, dtype, chunks, hidden_BTD, table_VD, targets_BT, real_BT):
    def turn(sums, chunk):
        terms, _ = _chunk(smoothing, dtype, table_VD, *chunk)
        return jax.tree.map(jnp.add, sums, terms), None

    chunks_CBP = _in_chunks(chunks, hidden_BTD, targets_BT, real_BT)
    sums_BP, _ = jax.lax.scan(turn, _zeros(chunks_CBP[2]), chunks_CBP)
    return jax.tree.map(jnp.sum, sums_BP)


def _forward(smoothing, dtype, chunks, hidden_BTD, table_VD, targets_BT, real_BT):
    def turn(carry, chunk):
        sums_BP, table_gradient_VD = carry
        terms_BP, logits_gradient_BPV = _chunk(smoothing, dtype, table_VD, *chunk)
        hidden_gradient_BPD = float32_product(
            "BPV,VD->BPD", logits_gradient_BPV, table_VD, dtype, sharding.like(chunk[0], 0, 1, 2)
        )
        table_gradient_VD += float32_product(
            "BPV,BPD->VD", logits_gradient_BPV, chunk[0], dtype, sharding.gradient_of(table_VD)
        )
        sums_BP = jax.tree.map(jnp.add, sums_BP, terms_BP)
        return (sums_BP, table_gradient_VD), hidden_gradient_BPD.astype(hidden_BTD.dtype)

    chunks_CBP = _in_chunks(chunks, hidden_BTD, targets_BT, real_BT)
    start = (_zeros(chunks_CBP[2]), sharding.no_gradient_of(table_VD))
    (sums_BP, table_gradient_VD), hidden_gradient_CBPD = jax.lax.scan(turn, start, chunks_CBP)
    hidden_gradient_BTD = jnp.reshape(
        jnp.moveaxis(hidden_gradient_CBPD, 0, 2), hidden_BTD.shape, out_sharding=sharding.like(hidden_BTD, 0, 1, 2)
    )
    return jax.tree.map(jnp.sum, sums_BP), (hidden_gradient_BTD, table_gradient_VD)


def _backward(smoothing, dtype, chunks, saved, cotangents):
    hidden_gradient_BTD, table_gradient_VD = saved
    scale = cotangents[0]
    hidden_gradient_BTD = (hidden_gradient_BTD * scale).astype(hidden_gradient_BTD.dtype)
    return hidden_gradient_BTD, sharding.scaled(table_gradient_VD, scale), None, None


_cross_entropy.defvjp(_forward, _backward)


def _zeros(real_CBP: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Loss, nll and correct of no chunk at all. They stay apart by place until the end: one sum over devices, not C."""
    zeros_BP = jnp.zeros_like(real_CBP[0], jnp.float32)
    return zeros_BP, zeros_BP, zeros_BP.astype(jnp.int32)


def _in_chunks(chunks: int, *arrays_BT: jax.Array) -> tuple[jax.Array, ...]:
    """[C, B, P, ...]: position t is in chunk t mod C, so that every device keeps the positions it has."""

    def split(array_BT: jax.Array) -> jax.Array:
        batch_size, length, *rest = array_BT.shape
        shape = (batch_size, length // chunks, chunks, *rest)
        out = sharding.like(array_BT, 0, 1, None, *range(2, array_BT.ndim))
        return jnp.moveaxis(jnp.reshape(array_BT, shape, out_sharding=out), 2, 0)

    return tuple(split(array_BT) for array_BT in arrays_BT)


def _chunk(smoothing, dtype, table_VD, hidden_BPD, targets_BP, real_BP):
    """The terms of one chunk, and the gradient of its loss with respect to its logits."""
    vocab_size = table_VD.shape[0]
    logits_BPV = float32_product("BPD,VD->BPV", hidden_BPD, table_VD, dtype)
    highest_BP = jnp.max(logits_BPV, axis=-1)
    exponentials_BPV = jnp.exp(logits_BPV - highest_BP[:, :, None])
    total_BP = jnp.sum(exponentials_BPV, axis=-1)
    log_total_BP = highest_BP + jnp.log(total_BP)
    pieces_11V = jax.lax.broadcasted_iota(
        jnp.int32, (1, 1, vocab_size), 2, out_sharding=sharding.used(None, None, "vocabulary")
    )
    is_target_BPV = targets_BP[:, :, None] == pieces_11V
    target_logit_BP = jnp.sum(jnp.where(is_target_BPV, logits_BPV, 0), axis=-1)

    nll_BP = log_total_BP - target_logit_BP
    mean_logit_BP = jnp.mean(logits_BPV, axis=-1)
    loss_BP = log_total_BP - (1 - smoothing) * target_logit_BP - smoothing * mean_logit_BP
    correct_BP = target_logit_BP >= highest_BP
    terms_BP = (
        jnp.where(real_BP, loss_BP, 0),
        jnp.where(real_BP, nll_BP, 0),
        (correct_BP & real_BP).astype(jnp.int32),
    )
    probabilities_BPV = exponentials_BPV / total_BP[:, :, None]
    wanted_BPV = jnp.where(is_target_BPV, 1 - smoothing, 0) + smoothing / vocab_size
    return terms_BP, jnp.where(real_BP[:, :, None], probabilities_BPV - wanted_BPV, 0)

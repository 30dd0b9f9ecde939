"""Label-smoothed cross-entropy (section 5.4) whose logits are never all in memory.

The logits of a batch are the largest arrays a Transformer makes: 25,000 tokens by 37,000 pieces is 3.7 GB. Here they
are made a few positions at a time, and since softmax minus target is already the gradient, the gradients of hidden
states and output table are made in the same pass: three products of that size, not four as recomputation would need.

Letters: B batch, T length of targets, D model, V vocabulary, C chunks.
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
    positions = _positions_at_once(hidden_BTD.shape, table_VD.shape[0], chunk_mb)
    missing = -hidden_BTD.shape[1] % positions
    hidden_BTD, targets_BT, real_BT = (
        jnp.pad(array, ((0, 0), (0, missing)) + ((0, 0),) * (array.ndim - 2))
        for array in (hidden_BTD, targets_BT, real_BT)
    )
    loss, nll, correct = _cross_entropy(smoothing, dtype, positions, hidden_BTD, table_VD, targets_BT, real_BT)
    return LossSums(loss, nll, correct, jnp.sum(real_BT, dtype=jnp.int32))


def _positions_at_once(hidden_shape: tuple[int, int, int], vocab_size: int, chunk_mb: int) -> int:
    """The length of chunks of nearly equal length that are as few as the memory allows."""
    batch_size, length, _ = hidden_shape
    fits = max(1, chunk_mb * 2**20 // (4 * batch_size * vocab_size))
    chunks = math.ceil(length / fits)
    return math.ceil(length / chunks)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _cross_entropy(smoothing, dtype, positions, hidden_BTD, table_VD, targets_BT, real_BT):
    def turn(sums, chunk):
        terms, _ = _chunk(smoothing, dtype, table_VD, *chunk)
        return jax.tree.map(jnp.add, sums, terms), None

    sums, _ = jax.lax.scan(turn, _zeros(), _in_chunks(positions, hidden_BTD, targets_BT, real_BT))
    return sums


def _forward(smoothing, dtype, positions, hidden_BTD, table_VD, targets_BT, real_BT):
    def turn(carry, chunk):
        sums, table_gradient_VD = carry
        terms, logits_gradient_BTV = _chunk(smoothing, dtype, table_VD, *chunk)
        hidden_gradient_BTD = float32_product(
            "BTV,VD->BTD", logits_gradient_BTV, table_VD, dtype, sharding.used("batch", None, None)
        )
        table_gradient_VD += float32_product(
            "BTV,BTD->VD", logits_gradient_BTV, chunk[0], dtype, sharding.used("vocabulary", None)
        )
        return (jax.tree.map(jnp.add, sums, terms), table_gradient_VD), hidden_gradient_BTD.astype(hidden_BTD.dtype)

    start = (_zeros(), jnp.zeros_like(table_VD))
    chunks = _in_chunks(positions, hidden_BTD, targets_BT, real_BT)
    (sums, table_gradient_VD), hidden_gradient_CBTD = jax.lax.scan(turn, start, chunks)
    hidden_gradient_BTD = jnp.moveaxis(hidden_gradient_CBTD, 0, 1).reshape(hidden_BTD.shape)
    # Of a batch of one row, reshape takes the name of its axis away.
    return sums, (sharding.place(hidden_gradient_BTD, "batch", None, None), table_gradient_VD)


def _backward(smoothing, dtype, positions, saved, cotangents):
    hidden_gradient_BTD, table_gradient_VD = saved
    scale = cotangents[0]
    return (hidden_gradient_BTD * scale).astype(hidden_gradient_BTD.dtype), table_gradient_VD * scale, None, None


_cross_entropy.defvjp(_forward, _backward)


def _zeros() -> tuple[jax.Array, jax.Array, jax.Array]:
    return jnp.float32(0), jnp.float32(0), jnp.int32(0)


def _in_chunks(positions: int, *arrays_BT: jax.Array) -> tuple[jax.Array, ...]:
    def split(array_BT: jax.Array) -> jax.Array:
        batch_size, length, *rest = array_BT.shape
        return jnp.moveaxis(array_BT.reshape(batch_size, length // positions, positions, *rest), 1, 0)

    return tuple(split(array_BT) for array_BT in arrays_BT)


def _chunk(smoothing, dtype, table_VD, hidden_BTD, targets_BT, real_BT):
    """The sums of one chunk, and the gradient of its loss with respect to its logits."""
    vocab_size = table_VD.shape[0]
    logits_BTV = float32_product("BTD,VD->BTV", hidden_BTD, table_VD, dtype)
    highest_BT = jnp.max(logits_BTV, axis=-1)
    exponentials_BTV = jnp.exp(logits_BTV - highest_BT[:, :, None])
    total_BT = jnp.sum(exponentials_BTV, axis=-1)
    log_total_BT = highest_BT + jnp.log(total_BT)
    pieces_11V = jax.lax.broadcasted_iota(
        jnp.int32, (1, 1, vocab_size), 2, out_sharding=sharding.used(None, None, "vocabulary")
    )
    is_target_BTV = targets_BT[:, :, None] == pieces_11V
    target_logit_BT = jnp.sum(jnp.where(is_target_BTV, logits_BTV, 0), axis=-1)

    nll_BT = log_total_BT - target_logit_BT
    mean_logit_BT = jnp.mean(logits_BTV, axis=-1)
    loss_BT = log_total_BT - (1 - smoothing) * target_logit_BT - smoothing * mean_logit_BT
    correct_BT = target_logit_BT >= highest_BT
    terms = (
        jnp.sum(jnp.where(real_BT, loss_BT, 0)),
        jnp.sum(jnp.where(real_BT, nll_BT, 0)),
        jnp.sum(correct_BT & real_BT, dtype=jnp.int32),
    )
    probabilities_BTV = exponentials_BTV / total_BT[:, :, None]
    wanted_BTV = jnp.where(is_target_BTV, 1 - smoothing, 0) + smoothing / vocab_size
    return terms, jnp.where(real_BT[:, :, None], probabilities_BTV - wanted_BTV, 0)

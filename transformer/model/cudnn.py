"""Attention by cuDNN's kernel for GPUs, flash attention: scores are never in main memory.

Any mask is given as an array, which all heads share. Where it is causal the kernel is told so beside, and leaves out
what lies behind the query.

Letters: B batch, T query length, S key length, N heads, K key-value heads, H head size.
"""

import functools

import jax
import jax.numpy as jnp

from transformer import sharding
from transformer.model.masks import Mask, Places

# Of GPUs: 8.0 is Ampere, the first whose tensor cores know bfloat16.
_CAPABILITY = 8.0
# cuDNN's backward pass wants lengths to be even where there is a mask.
_MULTIPLE = 2


@functools.cache
def missing() -> str | None:
    """What this machine's first GPU lacks for it; None: nothing."""
    try:
        capability = jax.devices("gpu")[0].compute_capability
    except RuntimeError:
        return "there is no GPU"
    try:
        able = float(capability) >= _CAPABILITY
    except ValueError:  # AMD's are called gfx90a and the like
        able = False
    return None if able else f"it wants an NVIDIA GPU of compute capability {_CAPABILITY} or more, this is {capability}"


def attend(
    q_BTNH: jax.Array,
    keys_BSKH: jax.Array,
    values_BSKH: jax.Array,
    mask: Mask,
    queries: Places,
    keys: Places,
    *,
    causal: bool,
) -> jax.Array:
    """What each query finds, [B, T, N, H].

    Args:
      causal: the mask allows nothing behind the query's own column.
    """
    # Of a part of the queries the first column is not the first key's.
    causal = causal and sharding.parts(q_BTNH, 1) == 1

    def of_device(q_BTNH, keys_BSKH, values_BSKH, allowed_B1TS):
        length = q_BTNH.shape[1]
        q_BTNH, keys_BSKH, values_BSKH = (_even(array, 1) for array in (q_BTNH, keys_BSKH, values_BSKH))
        allowed_B1TS = _even(_even(allowed_B1TS, 2), 3)
        heads_BTNH = jax.nn.dot_product_attention(
            q_BTNH, keys_BSKH, values_BSKH, mask=allowed_B1TS, is_causal=causal, implementation="cudnn"
        )
        return heads_BTNH[:, :length]

    return sharding.on_each_device(of_device, q_BTNH, keys_BSKH, values_BSKH, mask.allowed(queries, keys))


def _even(array: jax.Array, dimension: int) -> jax.Array:
    """Filled up with zeros, of a mask with False."""
    missing = -array.shape[dimension] % _MULTIPLE
    return jnp.pad(array, [(0, missing if other == dimension else 0) for other in range(array.ndim)])

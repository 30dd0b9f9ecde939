"""Dropout whose masks are a hash of where an element is, so that nothing random is stored.

The mask of an element is a function of (seed, step, layer, site, row of the whole batch, position, feature). It is
therefore the same on every mesh, under gradient accumulation and after a resume; it costs no memory, because the
backward pass computes it again; and it fuses with its consumer (on a CPU threefry costs a tenth of a small model's
step).

Letters: B batch, T length, D model.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from transformer import sharding

GOLDEN = np.uint32(0x9E3779B9)


def mix(x: jax.Array) -> jax.Array:
    """A bijection of uint32 in which every input bit moves every output bit: murmur3's finaliser (Appleby)."""
    x = (x ^ (x >> 16)) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * np.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DropoutKey:
    """Names one step's masks: `seed` is a uint32 scalar, `rows_B` the uint32 row numbers in the whole batch."""

    seed: jax.Array
    rows_B: jax.Array

    @classmethod
    def of(cls, seed: int, step: jax.Array, rows_B: jax.Array) -> "DropoutKey":
        return cls(mix(mix(jnp.uint32(seed) + GOLDEN) ^ step.astype(jnp.uint32)), rows_B.astype(jnp.uint32))

    def fold(self, number: jax.Array | int) -> "DropoutKey":
        """The key of a part: a stack, a layer, a site."""
        return DropoutKey(mix(self.seed * GOLDEN + jnp.uint32(number) + np.uint32(1)), self.rows_B)


def dropout(x_BTD: jax.Array, rate: float, key: DropoutKey | None) -> jax.Array:
    """Each element is zero with probability `rate`, else divided by 1 - rate. Without a key: the identity.

    `x_BTD` may have any dimensions between the rows and the features, such as the heads of attention weights.
    """
    if key is None or rate == 0:
        return x_BTD
    return _dropout(rate, x_BTD, key)


def _keep(x_BTD: jax.Array, rate: float, key: DropoutKey) -> jax.Array:
    def numbers(dimension: int) -> jax.Array:
        shape = [size if i == dimension else 1 for i, size in enumerate(x_BTD.shape)]
        split = [i if i == dimension else None for i in range(x_BTD.ndim)]
        return jax.lax.broadcasted_iota(jnp.uint32, shape, dimension, out_sharding=sharding.like(x_BTD, *split))

    places = jnp.expand_dims(mix(key.seed ^ (key.rows_B * GOLDEN)), tuple(range(1, x_BTD.ndim)))
    for dimension in range(1, x_BTD.ndim - 1):
        places = mix(places + numbers(dimension) * np.uint32(0x85EBCA77))
    return mix(places ^ (numbers(x_BTD.ndim - 1) * GOLDEN)) >= np.uint32(rate * 2**32)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _dropout(rate: float, x_BTD: jax.Array, key: DropoutKey) -> jax.Array:
    return jnp.where(_keep(x_BTD, rate, key), x_BTD / (1 - rate), 0).astype(x_BTD.dtype)


def _forward(rate, x_BTD, key):
    return _dropout(rate, x_BTD, key), key


def _backward(rate, key, gradient_BTD):
    return _dropout(rate, gradient_BTD, key), None


_dropout.defvjp(_forward, _backward)

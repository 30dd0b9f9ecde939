"""Normalisation over the features, in float32 whatever the precision of the products.

Letters: B batch, T length, D model.
"""

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from transformer import sharding
from transformer.config import ModelConfig

EPSILON = 1e-6


class LayerNorm(nnx.Module):
    """(x - mean) / sqrt(variance + 1e-6) * scale + bias (Ba et al. 2016); without `bias` that last term is left out."""

    def __init__(self, width: int, *, bias: bool = True):
        self.scale = nnx.Param(jnp.ones(width), axes=("features",))
        self.bias = nnx.Param(jnp.zeros(width), axes=("features",)) if bias else None

    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        return _layer_norm(x_BTD, self.scale[...], None if self.bias is None else self.bias[...])


class RMSNorm(nnx.Module):
    """x / sqrt(mean of x^2 + 1e-6) * scale (Zhang and Sennrich 2019), over the last of any number of dimensions."""

    def __init__(self, width: int):
        self.scale = nnx.Param(jnp.ones(width), axes=("features",))

    def __call__(self, x: jax.Array) -> jax.Array:
        return _rms_norm(x, self.scale[...])


# Of a norm its input alone is kept for the backward pass, as it came: between lie several float32 arrays of its size.
@functools.partial(jax.checkpoint, prevent_cse=False)
def _layer_norm(x_BTD: jax.Array, scale_D: jax.Array, bias_D: jax.Array | None) -> jax.Array:
    x_float32 = x_BTD.astype(jnp.float32)
    centred = x_float32 - jnp.mean(x_float32, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
    normed = centred * jax.lax.rsqrt(variance + EPSILON) * sharding.along(scale_D, x_BTD)
    return (normed if bias_D is None else normed + sharding.along(bias_D, x_BTD)).astype(x_BTD.dtype)


@functools.partial(jax.checkpoint, prevent_cse=False)
def _rms_norm(x: jax.Array, scale_D: jax.Array) -> jax.Array:
    x_float32 = x.astype(jnp.float32)
    normed = x_float32 * jax.lax.rsqrt(jnp.mean(jnp.square(x_float32), axis=-1, keepdims=True) + EPSILON)
    return (normed * sharding.along(scale_D, x)).astype(x.dtype)


def make_norm(config: ModelConfig) -> LayerNorm | RMSNorm:
    """The norm of the residual stream."""
    return RMSNorm(config.d_model) if config.normalization == "rms" else LayerNorm(config.d_model, bias=config.biases)

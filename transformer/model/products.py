"""The one place where matrix products are made, and where their precision is chosen for each platform.

Letters: B batch, T query length, S key length, D model, N heads, H head size, F feed-forward, V vocabulary.
"""

import functools

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from transformer import sharding

_PRECISION = {"float32": jax.lax.Precision.HIGHEST, "bfloat16": jax.lax.Precision.DEFAULT}


def product(spec: str, x: jax.Array, weights: jax.Array, dtype: str, out: PartitionSpec | None = None) -> jax.Array:
    """`einsum(spec, x, weights)` in `dtype`; `out` is the result's partition where the letters leave it open.

    float32 is a plain einsum, in full precision: TPUs and GPUs would round its factors otherwise. bfloat16 there is one
    too, of bfloat16 arrays: the result is bfloat16, added up in float32 by the hardware. On a CPU bfloat16 products are
    only fast when they are told to return float32 (2 to 3 times, forward and backward), and nothing else there is
    faster in bfloat16: activations stay float32.
    """
    if dtype == "bfloat16" and sharding.platform() == "cpu":
        return _product_cpu_bfloat16(spec, out, x, weights)
    return jnp.einsum(spec, x.astype(dtype), weights.astype(dtype), out_sharding=out, precision=_PRECISION[dtype])


def activation_product(spec: str, x: jax.Array, y: jax.Array, dtype: str) -> jax.Array:
    """`einsum(spec, x, y)` of two activations, as attention makes them, in the type activations flow in.

    On a CPU that is float32 for both settings of `dtype`: XLA there has no bfloat16 product with a float32 result for
    some of these layouts, and they are a hundredth of the work at the lengths of sentences.
    """
    dtype = activation_dtype(dtype).name
    return jnp.einsum(spec, x.astype(dtype), y.astype(dtype), precision=_PRECISION[dtype])


def activation_dtype(dtype: str) -> jnp.dtype:
    """The type activations flow in: see `product`."""
    return jnp.dtype(jnp.float32 if sharding.platform() == "cpu" else dtype)


def float32_product(spec: str, x: jax.Array, y: jax.Array, dtype: str, out: PartitionSpec | None = None) -> jax.Array:
    """einsum of copies in `dtype` with a float32 result. For code that writes its own gradient; else use `product`."""
    x, y = x.astype(dtype), y.astype(dtype)
    return jnp.einsum(spec, x, y, preferred_element_type=jnp.float32, out_sharding=out, precision=_PRECISION[dtype])


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _product_cpu_bfloat16(spec: str, out: PartitionSpec | None, x: jax.Array, weights: jax.Array) -> jax.Array:
    return float32_product(spec, x, weights, "bfloat16", out)


def _forward(spec, out, x, weights):
    # What is kept for the backward pass is kept in bfloat16: half the memory, and already what the products want.
    x, weights = x.astype(jnp.bfloat16), weights.astype(jnp.bfloat16)
    return float32_product(spec, x, weights, "bfloat16", out), (x, weights)


def _backward(spec, out, saved, gradient):
    del out
    x, weights = saved
    inputs, result = spec.split("->")
    x_letters, weight_letters = inputs.split(",")
    gradient = gradient.astype(jnp.bfloat16)
    to_x, to_weights = f"{result},{weight_letters}->{x_letters}", f"{x_letters},{result}->{weight_letters}"
    x_gradient = float32_product(to_x, gradient, weights, "bfloat16", sharding.gradient_of(x))
    weight_gradient = float32_product(to_weights, x, gradient, "bfloat16", sharding.gradient_of(weights))
    return x_gradient, weight_gradient


_product_cpu_bfloat16.defvjp(_forward, _backward)

"""The one place where matrix products are made, and where their precision is chosen for each platform.

Letters: B batch, T query length, S key length, D model, N heads, H head size, F feed-forward, V vocabulary.
"""

import functools
import re

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import PartitionSpec

from transformer import cores, sharding
from transformer.model.compact import Compact, compact_product

# What `jax.checkpoint` knows the results of products with weights by. A policy for dots would not see into `product`.
PRODUCT = "product"

_PRECISION = {"float32": jax.lax.Precision.HIGHEST, "bfloat16": jax.lax.Precision.DEFAULT}


def product(
    spec: str,
    x: jax.Array,
    parameter: jax.Array | Compact,
    names: tuple[str | None, ...],
    dtype: str,
    out: PartitionSpec | None = None,
) -> jax.Array:
    """`einsum(spec, x, parameter)` of activations and a stored parameter, in `dtype`.

    The parameter is cast before it is gathered along fsdp, which sends half of it in bfloat16, and gathered again for
    the backward pass rather than kept. Its gradient is made, and added up between devices, in float32.

    float32 is in full precision: TPUs and GPUs would round its factors otherwise. On them bfloat16 gives a bfloat16
    result, added up in float32 by the hardware. On a CPU bfloat16 products are only fast when they are told to return
    float32 (2 to 3 times, forward and backward), and nothing else is faster in bfloat16: activations stay float32. A
    processor that has no instructions for them multiplies the rounded factors in float32: the same sums.

    Args:
      spec: for a `Compact`, which does not look at it, of the form "BTI,IO->BTO": I and O may be several letters.
      names: of the parameter's dimensions.
      out: the result's partition where the letters leave it open.
    """
    if isinstance(parameter, Compact):
        return compact_product(x, parameter, names, activation_dtype(dtype), out)
    result = _product(spec, names, dtype, out, x.astype(activation_dtype(dtype)), parameter)
    return checkpoint_name(result, PRODUCT)


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
    return _einsum(spec, x, y, dtype, jnp.dtype(jnp.float32), out)


def _einsum(spec: str, x: jax.Array, y: jax.Array, dtype: str, result: jnp.dtype, out: PartitionSpec | None):
    x, y = _factor(x, dtype), _factor(y, dtype)
    return jnp.einsum(spec, x, y, preferred_element_type=result, out_sharding=out, precision=_PRECISION[dtype])


def _factor(x: jax.Array, dtype: str) -> jax.Array:
    if computed_in(dtype) == dtype:
        return x.astype(dtype)
    # Rounded all the same, so that a run learns the same on every CPU. XLA would leave out a cast there and back.
    return jax.lax.reduce_precision(x.astype(jnp.float32), exponent_bits=8, mantissa_bits=7)


def computed_in(dtype: str) -> str:
    """The type that products in `dtype` are computed in: float32 where a CPU has no instructions for bfloat16."""
    missing = dtype == "bfloat16" and sharding.platform() == "cpu" and not cores.have_bfloat16()
    return "float32" if missing else dtype


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2, 3))
def _product(spec: str, names: tuple, dtype: str, out: PartitionSpec | None, x: jax.Array, parameter: jax.Array):
    weights = sharding.gather(parameter.astype(dtype), names)
    return _einsum(spec, x, weights, dtype, activation_dtype(dtype), out)


def _forward(spec, names, dtype, out, x, parameter):
    # What is kept for the backward pass is what the products want: in bfloat16 half the memory.
    return _product(spec, names, dtype, out, x, parameter), (x.astype(dtype), parameter)


def _backward(spec, names, dtype, out, saved, gradient):
    del out
    x, parameter = saved
    x_letters, weight_letters, result = re.split(",|->", spec)
    gradient = gradient.astype(dtype)
    weights = sharding.gather(parameter.astype(dtype), names)
    x_gradient = _gradient_of_x(spec, gradient, weights, dtype, sharding.gradient_of(x))
    if sharding.platform() == "cpu":
        # This product wants x turned, and XLA would make x once more while it turns it, from row to row. At the widths
        # of models, powers of two, what it then reads falls on the same few places of the caches.
        x = jax.lax.optimization_barrier(x)
    to_weights = f"{x_letters},{result}->{weight_letters}"
    weight_gradient = float32_product(to_weights, x, gradient, dtype, sharding.gradient_of(weights))
    return x_gradient, sharding.scatter(weight_gradient, parameter)


_product.defvjp(_forward, _backward)


def _gradient_of_x(
    spec: str, gradient: jax.Array, weights: jax.Array, dtype: str, out: PartitionSpec | None
) -> jax.Array:
    x, of_weights, result = re.split(",|->", spec)
    inputs = "".join(letter for letter in of_weights if letter in x)
    rows, outputs = x.removesuffix(inputs), of_weights.removeprefix(inputs)
    of_matrix = (rows + inputs, inputs + outputs, rows + outputs) == (x, of_weights, result)
    flows_in = activation_dtype(dtype)
    if sharding.platform() != "cpu" or not of_matrix or not sharding.is_whole(weights, range(weights.ndim)):
        return _einsum(f"{result},{of_weights}->{x}", gradient, weights, dtype, flows_in, out)
    # XLA reads a matrix either way. Of weights with more dimensions it makes a copy first, the other way round.
    shape = gradient.shape[: len(rows)] + weights.shape[: len(inputs)]
    gradient = sharding.merged(gradient, range(len(rows), gradient.ndim))
    weights = sharding.merged(sharding.merged(weights, range(len(inputs), weights.ndim)), range(len(inputs)))
    whole = sharding.like(gradient, *range(len(rows)), None)
    x_gradient = _einsum(f"{rows}O,IO->{rows}I", gradient, weights, dtype, flows_in, whole)
    return jnp.reshape(x_gradient, shape, out_sharding=out)


def compiler_options(platform: str, flags: str) -> dict[str, str]:
    """For the outermost `jax.jit` of what takes gradients: on a CPU, XLA removes barriers before it fuses, unless told.

    Args:
      flags: XLA_FLAGS of the environment, whose own list of passes to leave out an option would replace.
    """
    if platform != "cpu":
        return {}
    given = re.findall(r"--xla_disable_hlo_passes=(\S+)", flags)[-1:]
    return {"xla_disable_hlo_passes": ",".join([*given, "cse_barrier_expander"])}

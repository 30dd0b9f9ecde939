"""The one place where matrix products are made, and where their precision is chosen for each platform.

Letters: B batch, T query length, S key length, D model, N heads, H head size, F feed-forward, V vocabulary.
"""

import dataclasses
import functools
import math
import re

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import PartitionSpec

from transformer import cores, sharding
from transformer.model.compact import Compact, compact_product

# What `jax.checkpoint` knows the results of products with weights by. A policy for dots would not see into `product`.
PRODUCT = "product"

# Features that are moved together in `_inputs_first`.
_BLOCK = 32

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
      names: of the parameter's dimensions.
      out: the result's partition where the letters leave it open.
    """
    if isinstance(parameter, Compact):
        return compact_product(spec, x, parameter, names, activation_dtype(dtype), out)
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


@dataclasses.dataclass(frozen=True)
class _Letters:
    """Of a product with weights, [rows..., inputs...] x [inputs..., outputs...] -> [rows..., outputs...]."""

    rows: str
    inputs: str
    outputs: str

    @classmethod
    def of(cls, spec: str) -> "_Letters | None":
        """None for a product of another form."""
        x, weights, result = re.split(",|->", spec)
        inputs = "".join(letter for letter in weights if letter in x)
        rows, outputs = x.removesuffix(inputs), weights.removeprefix(inputs)
        same = (rows + inputs, inputs + outputs, rows + outputs) == (x, weights, result)
        return cls(rows, inputs, outputs) if same else None


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
    of_x, of_weights = sharding.gradient_of(x), sharding.gradient_of(weights)
    letters = _Letters.of(spec) if sharding.platform() == "cpu" else None
    if letters and sharding.is_whole(weights, range(weights.ndim)):
        x_gradient = _by_matrices(letters, gradient, weights, dtype, of_x)
    else:
        to_x = f"{result},{weight_letters}->{x_letters}"
        x_gradient = _einsum(to_x, gradient, weights, dtype, activation_dtype(dtype), of_x)
    if letters:
        x, x_letters = _inputs_first(x, len(letters.rows)), letters.inputs + letters.rows
    weight_gradient = float32_product(f"{x_letters},{result}->{weight_letters}", x, gradient, dtype, of_weights)
    return x_gradient, sharding.scatter(weight_gradient, parameter)


_product.defvjp(_forward, _backward)


def _by_matrices(
    letters: _Letters, gradient: jax.Array, weights: jax.Array, dtype: str, out: PartitionSpec | None
) -> jax.Array:
    """The gradient of x: [rows..., outputs...] x [inputs..., outputs...] -> [rows..., inputs...].

    XLA reads a matrix either way. Of weights with more dimensions it makes a copy first, the other way round.
    """
    rows, inputs = len(letters.rows), len(letters.inputs)
    shape = gradient.shape[:rows] + weights.shape[:inputs]
    gradient = sharding.merged(gradient, range(rows, gradient.ndim))
    weights = sharding.merged(sharding.merged(weights, range(inputs, weights.ndim)), range(inputs))
    spec, of_matrix = f"{letters.rows}O,IO->{letters.rows}I", sharding.first_of(out, rows)
    x_gradient = _einsum(spec, gradient, weights, dtype, activation_dtype(dtype), of_matrix)
    return jnp.reshape(x_gradient, shape, out_sharding=out)


def _inputs_first(x: jax.Array, rows: int) -> jax.Array:
    """[rows..., inputs...] as [inputs..., rows...], which is how a product that sums over rows reads it on a CPU.

    Left to itself, XLA does this in one turn with all that makes x, and for each input goes through memory from row to
    row. At the widths of models, powers of two, all of them fall on the same few places of the caches: half as long as
    the product itself. So blocks of inputs first, which takes whole lines, then each block by itself, where the caches
    hold it. The barriers keep both apart; see `compiler_options`.
    """
    inputs, dimensions = x.shape[rows:], range(rows, x.ndim)
    if not sharding.is_whole(x, dimensions) or math.prod(inputs) % _BLOCK:
        return jnp.moveaxis(x, dimensions, range(len(inputs)))
    blocks = sharding.split(sharding.merged(x, dimensions), rows, (math.prod(inputs) // _BLOCK, _BLOCK))
    blocks = jax.lax.optimization_barrier(jnp.moveaxis(blocks, rows, 0))
    columns = sharding.merged(jnp.moveaxis(blocks, -1, 1), range(2))
    return jax.lax.optimization_barrier(sharding.split(columns, 0, inputs))


def compiler_options(platform: str) -> dict[str, str]:
    """For `jax.jit` of what takes gradients. On a CPU, XLA removes barriers before it fuses, unless told not to."""
    return {"xla_disable_hlo_passes": "cse_barrier_expander"} if platform == "cpu" else {}

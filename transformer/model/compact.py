"""Weights of few bits, for decoding on a CPU: there a step takes as long as reading them.

Letters: B rows, T positions, I what is summed over, O outputs; each may stand for several dimensions of a matrix.
"""

import dataclasses
import types

import jax
import jax.numpy as jnp

from transformer import sharding

# An int8 product of a single row is five times as slow as one of two, and so is a bfloat16 one three times.
LEAST_ROWS = 2


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Compact:
    """A matrix with its outputs first, which for few rows is the faster layout in both types (in float32 the slower).

    int8 is for every output a scale of its own and whole numbers up to 127. What is multiplied by it is rounded too, to
    127 steps of the largest of a row: XLA's products of int8 and int8 take 0.45 of the time that float32 takes for 1
    to 8 rows and 0.65 for 32 to 256; unpacked to float32 in the product they take 2 to 4 times as long as float32. In
    bfloat16 it is 0.65, 0.6 and 0.52: the better choice for many rows (24 matrices of 512 x 2048 and one of 512 x
    32,000, 2 cores of an AMD EPYC with AVX-512, jax 0.10.2). With jax 0.12 int8 takes half of that from 128 rows on,
    and a base model is fastest in int8 for any number of rows (benchmarks/README.md).
    """

    values_OI: jax.Array  # bfloat16 or int8
    scales_O: jax.Array | None  # float32; of bfloat16: none

    def __getitem__(self, index: types.EllipsisType) -> "Compact":
        """All of it, which is how a layer reads a parameter."""
        return self


def compact(matrix_IO: jax.Array, inputs: int, precision: str) -> Compact:
    """A matrix whose first `inputs` dimensions are summed over, in bfloat16 or int8."""
    summed = tuple(range(inputs))
    values_OI = jnp.transpose(matrix_IO, (*range(inputs, matrix_IO.ndim), *summed))
    if precision == "bfloat16":
        return Compact(values_OI.astype(jnp.bfloat16), None)
    summed = tuple(range(values_OI.ndim - inputs, values_OI.ndim))
    values_OI, scales_O1 = _rounded(values_OI, summed)
    return Compact(values_OI, jnp.squeeze(scales_O1, summed))


def compact_product(
    spec: str, x_BTI: jax.Array, weights: Compact, names: tuple[str | None, ...], dtype: jnp.dtype, out
) -> jax.Array:
    """`einsum(spec, x, matrix)` where `spec` and `names` speak of the matrix as it was given to `compact`."""
    rows, length = x_BTI.shape[:2]
    if rows * length < LEAST_ROWS:
        padding = [(0, 0), (0, LEAST_ROWS - 1), *[(0, 0)] * (x_BTI.ndim - 2)]
        return compact_product(spec, jnp.pad(x_BTI, padding), weights, names, dtype, out)[:, :length]
    inputs, result = spec.split("->")
    x_letters, letters = inputs.split(",")
    summed = sum(letter not in result for letter in letters)
    spec = f"{x_letters},{letters[summed:]}{letters[:summed]}->{result}"
    values_OI = sharding.gather(weights.values_OI, (*names[summed:], *names[:summed]))
    if weights.scales_O is None:
        x_BTI = x_BTI.astype(values_OI.dtype)
        return jnp.einsum(spec, x_BTI, values_OI, preferred_element_type=dtype, out_sharding=out)
    x_BTI, scales_BT1 = _rounded(x_BTI, tuple(range(2, x_BTI.ndim)))
    product_BTO = jnp.einsum(spec, x_BTI, values_OI, preferred_element_type=jnp.int32, out_sharding=out)
    scales_BT1 = jnp.reshape(scales_BT1, (*scales_BT1.shape[:2], *[1] * (product_BTO.ndim - 2)))
    scales_O = sharding.gather(weights.scales_O, names[summed:])
    return (product_BTO.astype(jnp.float32) * scales_BT1 * scales_O[None, None]).astype(dtype)


def _rounded(array: jax.Array, axes: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """Whole numbers from -127 to 127, and what they are to be multiplied by: one number for all along `axes`."""
    scale = jnp.max(jnp.abs(array), axis=axes, keepdims=True).astype(jnp.float32) / 127
    # All zeros stay so.
    return jnp.round(array / jnp.where(scale == 0, 1.0, scale)).astype(jnp.int8), scale

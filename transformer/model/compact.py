"""Weights as a CPU decodes with them fastest: outputs first, and of fewer bits, for a step is mostly reading them.

Letters: B rows, T positions, I what is summed over, O outputs.
"""

import dataclasses
import types
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from transformer import sharding

# An int8 product of a single row is five times as slow as one of two, and so is a bfloat16 one three times.
LEAST_ROWS = {"int8": 2, "bfloat16": 2, "float32": 1}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Compact:
    """A matrix with its outputs first, which for few rows is the faster layout in bfloat16 and int8.

    In float32 it is where instructions take 256 bits: 4 to 32 rows in 0.65 to 0.85 of the time, though one or two in up
    to 1.3 times it (24 matrices of 512 x 2048, 2 cores of an AMD EPYC with AVX2). With 512 bits it is the slower one.

    int8 is for every output a scale of its own and whole numbers up to 127. What is multiplied by it is rounded too, to
    127 steps of the largest of a row: XLA's products of int8 and int8 take 0.45 of the time that float32 takes for 1
    to 8 rows and 0.65 for 32 to 256; unpacked to float32 in the product they take 2 to 4 times as long as float32. In
    bfloat16 it is 0.65, 0.6 and 0.52: the better choice for many rows (24 matrices of 512 x 2048 and one of 512 x
    32,000, 2 cores of an AMD EPYC with AVX-512, jax 0.10.2). With jax 0.12 int8 takes half of that from 128 rows on,
    and a base model is fastest in int8 for any number of rows (benchmarks/README.md).

    It has two dimensions whatever the parameter had: XLA would turn any other round again for every product.
    """

    values_OI: jax.Array  # float32, bfloat16 or int8
    scales_O: jax.Array | None  # float32; of int8 only
    outputs: tuple[int, ...] = dataclasses.field(metadata={"static": True})  # the dimensions that O stands for

    def __getitem__(self, index: types.EllipsisType) -> "Compact":
        """All of it, which is how a layer reads a parameter."""
        return self


def compact(parameter: jax.Array, inputs: int, precision: str) -> Compact:
    """A parameter whose first `inputs` dimensions are summed over, in float32, bfloat16 or int8."""
    outputs = parameter.shape[inputs:]
    matrix_IX = sharding.merged(parameter, range(inputs))
    values_OI = sharding.merged(matrix_IX, range(1, matrix_IX.ndim)).T
    if precision != "int8":
        return Compact(values_OI.astype(precision), None, outputs)
    values_OI, scales_O1 = _rounded(values_OI)
    return Compact(values_OI, jnp.squeeze(scales_O1, -1), outputs)


def compact_product(
    x: jax.Array, weights: Compact, names: Sequence[str | None], dtype: jnp.dtype, out: PartitionSpec | None = None
) -> jax.Array:
    """x [B, T, inputs...] times the parameter that `compact` was given: [B, T, outputs...].

    Args:
      names: of the parameter's dimensions, of which only the first input and the first output may be split.
      out: the partition of a result with one dimension of outputs, where it is left open.
    """
    x_BTI = sharding.merged(x, range(2, x.ndim))
    rows, length = x_BTI.shape[:2]
    values_OI = sharding.gather(weights.values_OI, (names[x.ndim - 2], names[0]))
    least = LEAST_ROWS[values_OI.dtype.name]
    if rows * length < least:
        x_BTI = jnp.pad(x_BTI, [(0, 0), (0, least - 1), (0, 0)])
    if weights.scales_O is None:
        x_BTI = x_BTI.astype(values_OI.dtype)
        product_BTO = jnp.einsum("BTI,OI->BTO", x_BTI, values_OI, preferred_element_type=dtype, out_sharding=out)
    else:
        x_BTI, scales_BT1 = _rounded(x_BTI)
        product_BTO = jnp.einsum("BTI,OI->BTO", x_BTI, values_OI, preferred_element_type=jnp.int32, out_sharding=out)
        scales_O = sharding.gather(weights.scales_O, (names[x.ndim - 2],))
        product_BTO = (product_BTO.astype(jnp.float32) * scales_BT1 * scales_O[None, None]).astype(dtype)
    return sharding.unmerged(product_BTO[:, :length], 2, weights.outputs)


def _rounded(array: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Whole numbers from -127 to 127, and what they are to be multiplied by: one number for all along the last."""
    scale = jnp.max(jnp.abs(array), axis=-1, keepdims=True).astype(jnp.float32) / 127
    # All zeros stay so.
    return jnp.round(array / jnp.where(scale == 0, 1.0, scale)).astype(jnp.int8), scale

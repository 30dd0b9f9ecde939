"""Low-rank adapters (Hu et al. 2021): products A B, added to matrices of the model that stay as they are.

An adapter of a matrix [L, in..., out...] is two arrays, a [L, in..., R] and b [L, R, out...], which a run keeps beside
the model's parameters, under lora/NAME/a and lora/NAME/b. No module knows of them: what the model computes with is the
sum, made anew at every step.

Letters: L layers that have one, R rank.
"""

import math
import zlib
from typing import Any, Literal

import jax
import jax.numpy as jnp

BRANCH = "lora"
Side = Literal["a", "b"]
SIDES: tuple[Side, ...] = ("a", "b")


def name(target: str, side: Side) -> str:
    """What an adapter's array is called."""
    return f"{BRANCH}/{target}/{side}"


def inputs(axes: tuple[str | None, ...]) -> int:
    """How many dimensions of a layer's matrix are its input, by their logical names; 0: it is none that is adapted."""
    if axes[0] != "layers" or len(axes) < 3 or "embed" not in (axes[1], axes[-1]):
        return 0
    return 1 if axes[1] == "embed" else len(axes) - 2


def dimensions(of_matrix: tuple, inputs: int, side: Side, rank: Any) -> tuple:
    """An array's dimensions (sizes, names, or what splits them) from the matrix's and that of the rank."""
    layers, into, out = of_matrix[:1], of_matrix[1 : 1 + inputs], of_matrix[1 + inputs :]
    return (*layers, *into, rank) if side == "a" else (*layers, rank, *out)


def initial(target: str, shape: tuple[int, ...], side: Side, seed: int) -> jax.Array:
    """An array before the first step: a uniform within 1 / sqrt(inputs), as the authors' code has it, b zeros."""
    if side == "b":
        return jnp.zeros(shape)
    key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(name(target, side).encode()))
    limit = 1 / math.sqrt(math.prod(shape[1:-1]))
    return jax.random.uniform(key, shape, jnp.float32, -limit, limit)


def product(a: jax.Array, b: jax.Array) -> jax.Array:
    """A B of every layer: [L, in..., out...]."""
    into, out = "abcd"[: a.ndim - 2], "wxyz"[: b.ndim - 2]
    return jnp.einsum(f"L{into}R,LR{out}->L{into}{out}", a, b, precision=jax.lax.Precision.HIGHEST)

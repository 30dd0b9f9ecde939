"""What the TPU's kernels of splash attention do. A compiled program shows each as one call, without its products.

Names of axes, sizes by letter: b rows, g heads of keys, n query heads that share one of them, i blocks of queries, j
blocks of keys. H is the size of a head's queries and keys, V that of its values, T and S are whole lengths.

- FLOPs: for each pair of a query and a key in the blocks that are visited, 2 for each multiply-add: forward H (scores)
  + V (their sum of values); for the gradients of keys and values H + V (both again) + V + H, and of queries H more in
  the same pass or 2 H + V in one of their own. How many blocks are visited stands in the scope that
  `transformer.model.splash` puts around the call.
- Bytes: a block is read again whenever the grid of the kernel comes to another one in between. Heads are the innermost
  dimension, and those narrower than the 128 lanes of a register are filled up to them.
"""

import dataclasses
import math
import re

from transformer.planning.hlo import Computation, Instruction

_CALL = re.compile(r"splash_mha_(fwd|dkv|dq)_segmented")
_VISITED = re.compile(r"blocks_(\d+)_of_(\d+)")


@dataclasses.dataclass(frozen=True)
class _Phase:
    """A kernel.

    Attributes:
      grid: its axes, outermost first.
      operands: the axes on which the block of each operand depends. Of the last, positions of queries, a call may have
        none.
      blocks: how its metadata names the sizes of blocks of queries and of keys.
    """

    grid: str
    operands: tuple[str, ...]
    blocks: tuple[str, str]

    def times(self, axes: str, sizes: dict[str, int], visited: float) -> float:
        """How often an operand that depends on these axes is read."""
        moving = [axis for axis in axes if sizes[axis] > 1]
        innermost = max((self.grid.index(axis) for axis in moving), default=-1)
        gone_through = self.grid[: innermost + 1]
        fetched = math.prod(sizes[axis] for axis in gone_through)
        if {"i", "j"} <= {*gone_through}:
            fetched *= visited
        return max(1.0, fetched / math.prod(sizes[axis] for axis in axes))


_QUERY, _KEY = "bgni", "bgj"
_FIVE = (_QUERY, _KEY, _KEY, "bi", "bj")
_BACKWARD = (*_FIVE, _QUERY, _QUERY, _QUERY, "i")
_PHASES = {
    "fwd": _Phase("bgnij", (*_FIVE, "i"), ("block_q", "block_kv")),
    "dkv": _Phase("bjgni", _BACKWARD, ("block_q_dkv", "block_kv_dkv")),
    "dq": _Phase("bgnij", _BACKWARD, ("block_q_dq", "block_kv_dq")),
}


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of one call."""

    flops: float
    bytes: float


def cost(computation: Computation, call: Instruction) -> Cost | None:
    """Of a call of a kernel; None: it is not one of splash attention."""
    name = _CALL.search(call.source)
    if name is None:
        return None
    phase = _PHASES[name.group(1)]
    operands = [computation.instructions[operand].arrays[0] for operand in call.operands]
    # Which blocks to visit comes first, as small integers.
    arrays = operands[next(i for i, array in enumerate(operands) if array.element in ("bf16", "f32")) :]
    (*rows, heads, length, key_size), (*_, key_heads, key_length, value_size) = arrays[0].shape, arrays[2].shape
    block, key_block = (int(re.search(rf'\\"{size}\\": (\d+)', call.attributes).group(1)) for size in phase.blocks)
    sizes = {
        "b": math.prod(rows),
        "g": key_heads,
        "n": heads // key_heads,
        "i": length // block,
        "j": key_length // key_block,
    }
    visited = _visited(call)
    pairs = sizes["b"] * heads * length * key_length * visited
    # Of the results of a gradient with respect to keys, one is that of queries where it is made in the same pass.
    with_queries = sum(len(array.shape) == len(arrays[0].shape) + 1 for array in call.arrays)
    sums = {
        "fwd": key_size + value_size,
        "dkv": 2 * key_size + 2 * value_size + with_queries * key_size,
        "dq": 2 * key_size + value_size,
    }[name.group(1)]
    read = sum(
        array.held_bytes * phase.times(axes, sizes, visited)
        for array, axes in zip(arrays, phase.operands, strict=False)
        if array.in_hbm
    )
    written = sum(array.held_bytes for array in call.arrays if array.in_hbm)
    return Cost(2.0 * pairs * sums, read + written)


def _visited(call: Instruction) -> float:
    """The share of blocks that are visited; 1 where nothing is said of it."""
    said = _VISITED.search(call.source)
    return int(said.group(1)) / int(said.group(2)) if said else 1.0

"""Length buckets: a few batch shapes, chosen so that all examples together need as little padding as can be.

The shapes are a chain: each is at least as long as the one before on both sides, and an example goes into the first
that holds it. The sides have lengths of their own, which matters where one language needs more tokens than the other.
"""

import math

import numpy as np

from transformer.config import DataConfig
from transformer.data.rows import Shape, batch_rows

# Lengths considered on a side. Twice as many took 0.9% of padding away on one small corpus, and less elsewhere.
GRID = 32


def choose_shapes(
    source_lengths: np.ndarray, target_lengths: np.ndarray, weights: np.ndarray, data: DataConfig
) -> list[Shape]:
    """At most `data.num_buckets` shapes with which an epoch computes the fewest tokens, empty rows included.

    Args:
      source_lengths, target_lengths: int [n], the end included.
      weights: float [n], how often an example is seen in an epoch.

    By a dynamic programme over all chains of shapes whose lengths lie on a grid: multiples of the power of two that
    leaves at most `GRID` of them.
    """
    step = _step(max(source_lengths.max(), target_lengths.max()), data)
    source_cell, target_cell = -(-source_lengths // step) - 1, -(-target_lengths // step) - 1
    size = (int(source_cell.max()) + 1, int(target_cell.max()) + 1)
    counts = np.bincount(source_cell * size[1] + target_cell, weights, minlength=size[0] * size[1])
    # Of every candidate shape: how many examples fit into it, its lengths, its rows.
    held = counts.reshape(size).cumsum(axis=0).cumsum(axis=1).ravel()
    source, target = ((axis.ravel() + 1) * step for axis in np.indices(size))
    rows = batch_rows(np.maximum(source, target), data)
    chain = _cheapest_chain(held, source, target, rows, data.num_buckets)
    return [Shape(int(rows[box]), int(source[box]), int(target[box])) for box in chain]


def grid_step(longest: int) -> int:
    """The smallest power of two of which `GRID` multiples reach `longest`."""
    step = 1
    while step * GRID < longest:
        step *= 2
    return step


def _step(longest: int, data: DataConfig) -> int:
    return math.lcm(grid_step(longest), data.lengths_multiple_of)


def _cheapest_chain(
    held: np.ndarray, source: np.ndarray, target: np.ndarray, rows: np.ndarray, num_buckets: int
) -> list[int]:
    """The candidates of the cheapest chain that ends with the last (largest) one."""

    def cost(examples: np.ndarray) -> np.ndarray:
        # The small number keeps sums of fractional weights from being rounded up to one batch more.
        return np.ceil(examples / rows - 1e-9) * rows * (source + target)

    nested = (source[:, None] <= source) & (target[:, None] <= target)
    step_cost = np.where(nested, cost(np.maximum(held - held[:, None], 0)), np.inf)
    # totals[k][q]: the cheapest chain of k + 1 shapes that ends with q; before[k][q]: the shape before q in it.
    totals, before = [cost(held)], []
    for _ in range(1, num_buckets):
        through = totals[-1][:, None] + step_cost
        before.append(through.argmin(axis=0))
        totals.append(through.min(axis=0))
    shapes = int(np.argmin([total[-1] for total in totals]))
    chain = [len(held) - 1]
    for previous in reversed(before[:shapes]):
        chain.append(int(previous[chain[-1]]))
    return chain[::-1]


def bucket_of(source_lengths: np.ndarray, target_lengths: np.ndarray, shapes: list[Shape]) -> np.ndarray:
    """The first shape of a chain that holds each example: int [n]; len(shapes) where none does."""
    by_source = np.searchsorted([shape.source_length for shape in shapes], source_lengths)
    by_target = np.searchsorted([shape.target_length for shape in shapes], target_lengths)
    return np.maximum(by_source, by_target)


def extend_shapes(
    shapes: list[Shape], source_lengths: np.ndarray, target_lengths: np.ndarray, data: DataConfig
) -> list[Shape]:
    """The chain, with a longer shape at its end when an example fits into none of it."""
    longest_source, longest_target = int(source_lengths.max()), int(target_lengths.max())
    last = shapes[-1]
    if longest_source <= last.source_length and longest_target <= last.target_length:
        return shapes
    step = _step(max(longest_source, longest_target), data)
    source = max(last.source_length, -(-longest_source // step) * step)
    target = max(last.target_length, -(-longest_target // step) * step)
    return [*shapes, Shape(int(batch_rows(max(source, target), data)), source, target)]

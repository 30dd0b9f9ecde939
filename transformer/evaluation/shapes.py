"""The few shapes that groups of texts are padded to, so that few programs are compiled."""

import math
from collections.abc import Sequence

from jax.sharding import Mesh

from transformer import sharding


def power_of_two(number: int, least: int) -> int:
    """The least power of two that is `number` or more, and no less than `least`, which is one."""
    return max(least, 2 ** math.ceil(math.log2(max(number, 1))))


def rows(count: int, sizes: Sequence[int], mesh: Mesh) -> int:
    """The first of these ascending sizes that holds `count` rows, else the last; a little more where a mesh wants it.

    The rows of a batch are split over the mesh in equal parts.
    """
    size = next((size for size in sizes if size >= count), sizes[-1])
    parts = sharding.row_shards(mesh)
    return -(-size // parts) * parts

"""In how many parts, one after the other, a step takes its batch."""

from jax.sharding import Mesh

from transformer import sharding
from transformer.config import TrainingConfig
from transformer.cores import cores

# What a core of a CPU computes at a time when that is left to us. The activations of more go out to memory and come
# back, in pages that have to be zeroed for every step; with less, adding up the gradients shows.
TARGETS_A_CORE = 384


def parts_of(training: TrainingConfig, mesh: Mesh, rows: int, length: int) -> int:
    """`training.accumulate`; where that is left open 1, but on a CPU as many as are fast, and take little memory.

    Args:
      rows: of a batch, on each device.
      length: of the targets, on each device.
    """
    if training.accumulate is not None:
        return training.accumulate
    if sharding.platform_of(mesh) != "cpu":
        return 1
    at_a_time = TARGETS_A_CORE * max(1, cores() // len(mesh.local_devices))
    parts = 1
    while rows % (2 * parts) == 0 and rows // parts * length > at_a_time:
        parts *= 2
    return parts

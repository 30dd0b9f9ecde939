"""In how many parts, one after the other, a step takes its batch."""

from jax.sharding import Mesh

from transformer import sharding
from transformer.config import Config
from transformer.cores import cores

# Of d_model numbers a position, those of a part for each core of a CPU: half a megabyte, what its cache holds. More go
# out to memory and come back between the operations of a layer, in pages that have to be zeroed for every step; with
# less, what an operation costs to start shows, and adding up gradients.
NUMBERS_A_CORE = 2**17


def parts_of(config: Config, mesh: Mesh, rows: int, length: int) -> int:
    """`training.accumulate`; where that is left open 1, but on a CPU as many as are fast, and take little memory.

    Args:
      rows: of a batch, on each device.
      length: of the targets, on each device.
    """
    if config.training.accumulate is not None:
        return config.training.accumulate
    if sharding.platform_of(mesh) != "cpu":
        return 1
    fitting = NUMBERS_A_CORE * max(1, cores() // len(mesh.local_devices))
    parts = 1
    while rows % (2 * parts) == 0 and rows // parts * length * config.model.d_model > fitting:
        parts *= 2
    return parts

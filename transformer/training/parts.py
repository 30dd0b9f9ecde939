"""In how many parts, one after the other, a step takes its batch."""

import math

from jax.sharding import Mesh

from transformer import sharding
from transformer.config import Config
from transformer.cores import cores

# A core of a CPU is fastest at as many positions as its cache holds: half a megabyte at d_model float32 numbers each.
# The activations of more go out to memory between the operations of a layer, into pages that are zeroed for every step;
# with less, starting operations and adding up gradients shows, so that wide models get no fewer than 256. On two cores
# with caches of 512 KiB the base model, 64 pairs of 32 + 32 tokens, takes 11.5 s and 2,078 MB in four parts, 12.6 s and
# 2,729 MB whole; on two with 1 MiB and AVX-512 it takes as long both ways, in 2,044 and 2,749 MB
# (benchmarks/train_step.py).
NUMBERS_A_CORE, LEAST_POSITIONS = 2**17, 256


def parts_of(config: Config, mesh: Mesh, rows: int, length: int) -> int:
    """`training.accumulate`; where that is unset 1, but on a CPU the number whose parts come nearest to what is fast.

    Args:
      rows: of a batch, on each device.
      length: the longer of source's and target's, on each device.
    """
    if config.training.accumulate is not None:
        return config.training.accumulate
    if sharding.platform_of(mesh) != "cpu":
        return 1
    # Processes must agree, and may have other cores each; parameters that are split would be gathered for every part.
    if len(mesh.local_devices) < mesh.size or mesh.shape["fsdp"] > 1:
        return 1
    fast = max(LEAST_POSITIONS, NUMBERS_A_CORE // config.model.d_model) * max(1, cores() // mesh.size)
    divisors = (number for number in range(1, rows + 1) if rows % number == 0)
    return min(divisors, key=lambda number: abs(math.log(rows / number * length / fast)))

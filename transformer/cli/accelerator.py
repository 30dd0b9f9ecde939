"""Whether there is something faster than the CPU here."""

import os
from importlib import metadata
from pathlib import Path


def has_accelerator() -> bool:
    """Whether JAX will compute on something else than the CPU, as far as can be known without starting it."""
    chosen = os.environ.get("JAX_PLATFORMS", "")
    if chosen:
        return chosen.split(",")[0] != "cpu"
    plugins = metadata.entry_points(group="jax_plugins")  # GPUs
    chips = [*Path("/dev").glob("accel[0-9]*"), *Path("/dev").glob("vfio/[0-9]*")]  # TPUs
    return bool(plugins or chips)

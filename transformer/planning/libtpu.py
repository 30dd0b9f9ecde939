"""The TPU's compiler in a process that has no TPU and wants none."""

import os

_SETTINGS = {
    # A real TPU, if there is one, is left to others.
    "JAX_PLATFORMS": "cpu",
    # Compiling takes no chip: it may be done beside another process that compiles, or that trains.
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    # It would ask the cloud for these, wait, and report at length that there is none.
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
}


def prepare_process() -> None:
    """Before JAX is imported, for quiet; at the latest before the first topology. What is set already is kept."""
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)

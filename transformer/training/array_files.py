"""The files of a checkpoint's arrays, by Orbax: the only file that imports it.

Orbax writes and reads gs:// itself, every process its part. Of other stores it knows nothing: their arrays pass through
a folder.
"""

import contextlib
import os
import threading
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from absl import logging
from etils import epath
from orbax.checkpoint import multihost
from orbax.checkpoint import v1 as ocp

from transformer.training import leaves, storage

# Orbax writes to 1000.orbax-checkpoint-tmp and renames.
TEMPORARY = ".orbax-checkpoint-tmp"
_STATE = "state"
_BARRIER_MS = 600_000


class LostArraysError(Exception):
    """Orbax has dropped some of what it was given; says which."""


def known_to_orbax(directory: epath.PathLike) -> bool:
    """Whether Orbax reads and writes there itself, and several processes so together."""
    return not storage.in_store(directory) or os.fspath(directory).startswith("gs://")


def write(directory: epath.Path, arrays: dict[str, Any], copied: threading.Event) -> None:
    """Makes `directory`, with arrays (nested dicts) in it; of several processes every one calls this.

    Args:
      copied: set when the arrays may be donated, updated or deleted.

    Raises:
      LostArraysError: not all of them are there.
    """
    with _written_by_orbax(directory) as target:
        with _saving_context():
            response = ocp.save_async(target, arrays, checkpointable_name=_STATE)
        # On a CPU Orbax holds views, not copies; JAX does not let a viewed buffer be donated.
        copied.set()
        response.result()
        # Orbax has been seen to drop what it was given: only what is there is declared complete.
        if jax.process_index() == 0:
            lost = leaves.mismatch(leaves.named(arrays), saved(target))
            if lost:
                raise LostArraysError(lost)


def wait_for_all(directory: epath.Path) -> None:
    """Returns when every process has called this. Goes through the coordinator, not the devices: those are training."""
    multihost.get_barrier_sync_fn()(key=f"saved {directory}", timeout_ms=_BARRIER_MS)


def opened(directory: epath.Path) -> contextlib.AbstractContextManager[epath.PathLike]:
    """Where, for the length of a block, `saved` and `read` find what is in `directory`."""
    return contextlib.nullcontext(directory) if known_to_orbax(directory) else storage.read_as_folder(directory)


def saved(source: epath.PathLike) -> dict[str, jax.ShapeDtypeStruct]:
    """The arrays that are there by name, such as params/encoder/w, without values."""
    found = leaves.named(ocp.metadata(source, _STATE).metadata)
    return {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for name, leaf in found.items()}


def read(source: epath.PathLike, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Some of the arrays by name: each where its sharding says, or as numpy where `on_host` is wanted."""
    context = ocp.Context()
    context.pytree.loading.partial_load = True
    with context:
        return leaves.named(ocp.load(source, leaves.nested(wanted), checkpointable_name=_STATE))


def on_host(array: jax.ShapeDtypeStruct) -> np.ndarray:
    """What Orbax wants for an array to be read as numpy: one like it. This one takes no memory."""
    return np.broadcast_to(np.zeros((), array.dtype), array.shape)


def _written_by_orbax(directory: epath.Path) -> contextlib.AbstractContextManager[epath.PathLike]:
    """Where Orbax can write what shall be in `directory` at the end of the block."""
    return contextlib.nullcontext(directory) if known_to_orbax(directory) else storage.written_as_folder(directory)


def _saving_context() -> ocp.Context:
    context = ocp.Context()
    # Trained weights are noise to a compressor: 8% smaller for 2.5 times the time.
    context.array.saving.use_compression = False
    # Otherwise a save caught by the end of the program waits ten minutes for its directory before it gives up.
    context.asynchronous.create_directories_asynchronously = False
    return context


def _not_orbax_chatter(record: Any) -> bool:
    return record.levelno >= logging.converter.STANDARD_WARNING or "orbax" not in record.pathname


# Orbax tells of every stage of every save at INFO, through the logger that is also ours.
logging.get_absl_logger().addFilter(_not_orbax_chatter)

"""Several processes as one run: which of them speaks, and what they decide together. With one process all is local."""

import collections
import secrets
import zlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec


class ProcessesDifferError(Exception):
    """The processes of a run do not see the same; says what, and the way out."""


def speaks() -> bool:
    """Whether this process writes logs, pictures and what people read: one of them does."""
    return jax.process_index() == 0


def wait_for_all(name: str) -> None:
    """Returns when every process is here, so that what one wrote before, all can read after."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def check_same(what: str, value: str, remedy: str) -> None:
    """Raises ProcessesDifferError unless every process calls this with the same value."""
    if jax.process_count() == 1:
        return
    found = np.asarray(multihost_utils.process_allgather(np.uint32(zlib.crc32(value.encode()))))
    others = np.flatnonzero(found != found[0])
    if len(others):
        raise ProcessesDifferError(f"{what} differs between process 0 and process {int(others[0])}. {remedy}")


def check_shared(folder: Path, remedy: str) -> None:
    """Raises ProcessesDifferError unless `folder`, which is there for process 0, is the same one for all."""
    if jax.process_count() == 1:
        return
    # A name that nobody has looked for before: of others a network share may remember that they were not there.
    number = int(multihost_utils.broadcast_one_to_all(np.uint32(secrets.randbits(32))))
    marker = folder / f".seen-by-all-{number:08x}"
    if speaks():
        marker.touch()
    wait_for_all("a marker")
    seen = np.asarray(multihost_utils.process_allgather(np.uint32(marker.exists())))
    if speaks():
        marker.unlink()
    if not seen.all():
        blind = int(np.flatnonzero(seen == 0)[0])
        raise ProcessesDifferError(f"{folder} of process 0 is not the folder that process {blind} sees. {remedy}")


class StopVote:
    """Whether any process was asked to stop, heard by all of them at the same step.

    With several processes every call starts a sum over all devices and reads that of `lag` calls ago, so that the
    device need not wait; with one process the own answer counts at once.
    """

    def __init__(self, mesh: Mesh, lag: int):
        self._lag = lag
        self._split = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
        self._any = jax.jit(jnp.any, out_shardings=NamedSharding(mesh, PartitionSpec()))
        self._started: collections.deque[jax.Array] = collections.deque()
        self._devices = mesh.size

    @property
    def alone(self) -> bool:
        """Whether there is nobody to ask."""
        return jax.process_count() == 1

    def __call__(self, stop: bool) -> bool:
        """One call a step, by every process."""
        if self.alone:
            return stop
        self._started.append(self._ask(stop))
        return len(self._started) > self._lag and bool(self._started.popleft())

    def now(self, stop: bool) -> bool:
        """As a call, but heard at once: for places where the device is waited for anyway."""
        return stop if self.alone else bool(self._ask(stop))

    def _ask(self, stop: bool) -> jax.Array:
        own = np.full(1, stop)
        return self._any(jax.make_array_from_callback((self._devices,), self._split, lambda index: own))

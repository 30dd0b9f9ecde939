"""What a training step takes of the memory of this machine: its CPU's, or a GPU's."""

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path

import jax

from transformer.model import blueprint
from transformer.planning.errors import DoesNotFitError
from transformer.planning.memory import Memory, advice
from transformer.planning.program import Task

# What a container may use at most: a number, or "max".
_CONTAINER = Path("/sys/fs/cgroup/memory.max")


# On a CPU, of Python, JAX and what compiling leaves behind. 0.4 GiB for the paper's base model.
_PROCESS = 2**29


@dataclasses.dataclass(frozen=True)
class Here:
    """`memory` and `available` are bytes of one device, whatever else may use them now.

    Devices of a CPU share its memory, but for what the process takes.
    """

    devices: str
    batch: str
    parts: int  # that a step takes it in
    parameters: int
    memory: Memory
    available: int

    @property
    def fits(self) -> bool:
        return self.memory.total <= self.available

    def to_json(self) -> str:
        record = dataclasses.asdict(self) | {"topology": "here", "fits": self.fits}
        record["memory"]["total"] = self.memory.total
        return json.dumps(record, indent=2) + "\n"

    def check(self, task: Task) -> None:
        """Raises DoesNotFitError when there is too little."""
        if not self.fits:
            total, state = self.memory.total, self.memory.state
            helpful = advice(task.config, state, total - state, self.available, splits=task.splits)
            raise DoesNotFitError(total, self.available, state, helpful)


def plan_here(task: Task) -> Here:
    """Compiles the step for the devices of the task, which are this machine's.

    Raises:
      DoesNotFitError, PlanError: the compiler refuses.
    """
    devices = list(task.mesh.devices.flat)
    step = task.compile()
    return Here(
        devices=f"{len(devices)} x {devices[0].device_kind}",
        batch=str(task.shape),
        parts=task.config.training.parts,
        parameters=blueprint.count(task.trainer.blueprint.shapes()),
        memory=Memory.of(step.state, task.batch(), step.sizes),
        available=_available(devices),
    )


def _available(devices: Sequence[jax.Device]) -> int:
    limit = (devices[0].memory_stats() or {}).get("bytes_limit")
    if limit:
        return limit
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    container = _CONTAINER.read_text().strip() if _CONTAINER.is_file() else "max"
    whole = min(machine, int(container) if container.isdecimal() else machine)
    return max(whole - _PROCESS, 0) // len(devices)

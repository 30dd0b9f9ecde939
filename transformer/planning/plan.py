"""A plan: what a config's training step needs on a topology, how fast it can go at most, and what would help."""

import dataclasses
import json
import math
from collections.abc import Sequence
from typing import Any

from transformer.config import Config
from transformer.data.rows import Shape
from transformer.model import blueprint
from transformer.planning import hlo
from transformer.planning.chips import Chip
from transformer.planning.collectives import Exchange, exchanges
from transformer.planning.counting import Counts, count
from transformer.planning.memory import Memory
from transformer.planning.program import CompiledStep, Task, vocabulary
from transformer.planning.roofline import Roofline, roofline, utilisation
from transformer.planning.topology import Topology
from transformer.planning.traffic import Traffic, largest
from transformer.training.flops import BatchCounts, training_flops
from transformer.training.trainable import Trainable

# So many of the instructions with the most memory traffic are kept.
_MOST = 20


@dataclasses.dataclass(frozen=True)
class Plan:
    """Bytes and FLOPs are of one device (a chip, or a core where JAX has a device for each) and one step."""

    topology: str
    chip: Chip
    chips: int
    mesh: dict[str, int]
    batch: str
    tokens: int  # of the target, in a step
    parameters: int
    steps: int
    memory: Memory
    flops: float
    uncounted: tuple[str, ...]  # kernels whose FLOPs are not among them: nobody says how many they are
    model_flops: float  # of all devices: what the model needs, see training/flops.py
    hbm_bytes: float
    traffic: tuple[Traffic, ...]  # the largest parts of `hbm_bytes`
    exchanges: tuple[Exchange, ...]
    roofline: Roofline

    @property
    def devices(self) -> int:
        """JAX's: as many as chips, or one for each of their cores."""
        return math.prod(self.mesh.values())

    @property
    def tokens_per_second(self) -> float:
        """Of the target, at most."""
        return self.tokens / self.roofline.step

    @property
    def mfu(self) -> float:
        """At most."""
        return self.mfu_at(self.roofline.step)

    def mfu_at(self, seconds: float) -> float:
        """With steps of so many seconds."""
        return utilisation(self.model_flops, seconds, self.devices * self.chip.peak_flops)

    @property
    def hours(self) -> float:
        """For all steps of the config, at least."""
        return self.roofline.step * self.steps / 3600

    def to_json(self) -> str:
        """All of it, with what follows from it."""
        record = dataclasses.asdict(self)
        record["memory"]["total"] = self.memory.total
        record["roofline"] |= {
            "step": self.roofline.step,
            "unhidden": self.roofline.unhidden,
            "bound": self.roofline.bound,
        }
        record |= {
            "fits": True,  # of what does not there is no plan
            "tokens_per_second_at_most": self.tokens_per_second,
            "mfu_at_most": self.mfu,
            "mfu_unhidden": self.mfu_at(self.roofline.unhidden),
            "hours_at_least": self.hours,
            "chip_hours_at_least": self.hours * self.chips,
        }
        return json.dumps(record, indent=2) + "\n"


def make_plan(task: Task, step: CompiledStep, topology: Topology) -> Plan:
    """Counts a compiled step and holds it against the chip's figures.

    Raises:
      DoesNotFitError: it needs more memory than the chip has.
    """
    devices = list(task.mesh.devices.flat)
    chip = topology.chip.share(len(devices) // topology.chips)
    counts: Counts = count(hlo.Program.parse(step.text))
    own = dataclasses.replace(topology, chip=chip)
    messages = exchanges(counts.messages, own, _coordinates(devices, topology.slices))
    seconds = {network: sum(each.seconds for each in messages if each.network == network) for network in ("ICI", "DCN")}
    memory = Memory.of(step.state, task.batch(), step.sizes)
    memory.check(task.config, chip.hbm_bytes)
    shape = task.shape
    return Plan(
        topology=str(topology),
        chip=chip,
        chips=topology.chips,
        mesh=dict(task.mesh.shape),
        batch=str(shape),
        tokens=shape.rows * shape.target_length,
        parameters=blueprint.count(task.trainer.blueprint.shapes()),
        steps=task.config.training.steps,
        memory=memory,
        flops=counts.flops,
        uncounted=tuple(sorted(set(counts.uncounted))),
        model_flops=model_flops(task.config, shape),
        hbm_bytes=counts.bytes,
        traffic=largest(counts.operations, chip, _MOST),
        exchanges=tuple(messages),
        roofline=roofline(counts.operations, chip, seconds["ICI"], seconds["DCN"]),
    )


def model_flops(config: Config, shape: Shape) -> float:
    """Of a full batch: every row one example without padding."""
    source, target = shape.rows * shape.source_length, shape.rows * shape.target_length
    counts = BatchCounts(
        source_tokens=source,
        target_tokens=target,
        padded_source_tokens=source,
        padded_target_tokens=target,
        source_pairs=source * shape.source_length,
        target_pairs=target * shape.target_length,
        cross_pairs=target * shape.source_length,
    )
    pieces = vocabulary(config)
    changing = None
    if not config.transfer.trains_all:
        changing = Trainable.of(config.transfer, blueprint.Blueprint.of(config.model, *pieces)).gradients
    return training_flops(config.model, pieces[1], counts, changing)


def _coordinates(devices: Sequence[Any], slices: int) -> list[tuple[int, ...]]:
    """Of the first slice's devices in the order of the program's numbers. Slices are the mesh's outermost axis."""
    return [tuple(device.coords) for device in devices[: len(devices) // slices]]

"""Meshes, batches and what is kept of activations, tried for a topology: those that fit, the fastest first.

Every candidate is estimated from shapes (`estimate`), and as many as the time allows are compiled, the most promising
first. One that stores less than another needs is not tried where the other fits: it could only be slower.
"""

import copy
import dataclasses
import itertools
import math
import multiprocessing
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from transformer.config import Config, ConfigError, MeshConfig
from transformer.model import blueprint
from transformer.model.blueprint import Blueprint
from transformer.planning.errors import DoesNotFitError
from transformer.planning.estimate import estimate
from transformer.planning.plan import Plan, make_plan
from transformer.planning.program import Task, longest_shape, vocabulary
from transformer.planning.topology import Topology

# From what keeps the most to what keeps the least.
REMATS = ("none", "all_but_products", "all")
PARTS = (1, 2, 4)
# More chips than this on one row or one matrix do not pay for models of this kind.
_WIDEST = 16
_NEEDS = "needs"


@dataclasses.dataclass(frozen=True)
class Candidate:
    """The settings that are tried."""

    mesh: MeshConfig
    rows: int
    remat: str
    accumulate: int

    def applied(self, config: Config) -> Config:
        """The config with these settings, and what must follow from them."""
        changed = copy.deepcopy(config)
        changed.mesh = dataclasses.replace(self.mesh)
        changed.data.lengths_multiple_of = math.lcm(config.data.lengths_multiple_of, self.mesh.sequence)
        changed.data.rows_multiple_of = self.shards * self.accumulate
        changed.data.batch_tokens = self.rows * longest_shape(changed).target_length
        changed.model.remat = self.remat
        changed.training.accumulate = self.accumulate
        return changed

    @property
    def shards(self) -> int:
        return self.mesh.slices * self.mesh.data * self.mesh.fsdp

    def flags(self, config: Config) -> str:
        """What to add to the command line of a run."""
        changed = self.applied(config)
        sizes = {f"mesh.{name}": size for name, size in vars(self.mesh).items()}
        rest = {
            "data.batch_tokens": changed.data.batch_tokens,
            "data.rows_multiple_of": changed.data.rows_multiple_of,
            "data.lengths_multiple_of": changed.data.lengths_multiple_of,
            "model.remat": self.remat,
            "training.accumulate": self.accumulate,
        }
        default = {"data.lengths_multiple_of": 1, "model.remat": "none", "training.accumulate": 1}
        default |= dict.fromkeys(sizes, 1)
        return " ".join(
            f"--config.{name}={value}" for name, value in (sizes | rest).items() if value != default.get(name)
        )


@dataclasses.dataclass(frozen=True)
class Result:
    """A candidate with its plan, or the reason why there is none."""

    candidate: Candidate
    plan: Plan | None
    reason: str = ""


def candidates(config: Config, topology: Topology, devices: int, most_tokens: int) -> Iterator[Candidate]:
    """All that the model divides: meshes of all devices, rows by doubling, what is kept, parts of a batch.

    Args:
      most_tokens: of the target in a batch.
    """
    model, of_slice = config.model, devices // topology.slices
    for tensor, sequence, fsdp in itertools.product(_divisors(of_slice), repeat=3):
        if of_slice % (tensor * sequence * fsdp) or tensor > _WIDEST or sequence > _WIDEST:
            continue
        split = (model.num_heads, model.key_value_heads, model.d_ff, *vocabulary(config))
        if any(size % tensor for size in split) or model.d_model % fsdp:
            continue
        data = of_slice // (tensor * sequence * fsdp)
        mesh = MeshConfig(topology.slices, data, fsdp, sequence, tensor)
        for parts, remat in itertools.product(PARTS, REMATS):
            rows = topology.slices * data * fsdp * parts
            length = longest_shape(config).target_length
            while rows * length <= most_tokens:
                yield Candidate(mesh, rows, remat, parts)
                rows *= 2


def _divisors(number: int) -> list[int]:
    return [size for size in range(1, number + 1) if number % size == 0]


def search(
    config: Config,
    topology: Topology,
    *,
    most_tokens: int,
    seconds: float,
    progress: Callable[[int, int, str], None],
    clock: Callable[[], float] = time.monotonic,
    attempt: Callable[[Candidate, Config, Topology], Result] | None = None,
) -> list[Result]:
    """Tries candidates until the time is over.

    Args:
      most_tokens: of the target in a batch.
      seconds: after which no further compilation is begun.
      progress: called with how many candidates are settled, how many there are, and what is tried now.

      attempt: compiles a candidate; unset: in a process of its own, because the compiler may crash.

    Returns:
      Those that fit, by tokens a second; then those that do not, with the reason.
    """
    devices = len(topology.devices())
    ordered = sorted(candidates(config, topology, devices, most_tokens), key=_Promise(config, topology, devices))
    fitting: list[Result] = []
    failed: list[Result] = []
    deadline = clock() + seconds
    for number, candidate in enumerate(ordered):
        if clock() > deadline:
            break
        progress(number, len(ordered), describe(candidate))
        if _is_settled(candidate, fitting, failed):
            continue
        result = (attempt or apart)(candidate, config, topology)
        (failed if result.plan is None else fitting).append(result)
    progress(len(ordered), len(ordered), "done")
    return sorted(fitting, key=lambda result: -result.plan.tokens_per_second) + failed


class _Promise:
    """What candidates are sorted by: the fastest by estimate first; of equal ones what keeps more and cuts less."""

    def __init__(self, config: Config, topology: Topology, devices: int):
        self.config, self.topology = config, topology
        self.cores = devices // topology.chips
        self.parameters = blueprint.count(Blueprint.of(config.model, *vocabulary(config)).shapes())

    def __call__(self, candidate: Candidate) -> tuple[float, int, int]:
        config = candidate.applied(self.config)
        shape = longest_shape(config)
        times = estimate(config, shape, self.parameters, self.topology, self.cores)
        speed = shape.rows * shape.target_length / times.step
        return -speed, REMATS.index(candidate.remat), candidate.accumulate


def apart(candidate: Candidate, config: Config, topology: Topology) -> Result:
    """`tried` in another process, which may end as it likes."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(tried, candidate, config, topology).result()
        except BrokenProcessPool:
            return Result(candidate, None, "the TPU's compiler crashed")


def tried(candidate: Candidate, config: Config, topology: Topology) -> Result:
    """Compiles a candidate; whatever stops that is the result's reason."""
    try:
        task = Task.of(candidate.applied(config), topology.devices())
        return Result(candidate, make_plan(task, task.compile(), topology))
    except ConfigError as error:
        return Result(candidate, None, str(error))
    except DoesNotFitError as error:
        return Result(candidate, None, f"{_NEEDS} {error.needed / 2**30:.1f} GiB of {error.available / 2**30:.1f} GiB")
    except Exception as error:  # whatever tracing or the compiler has against it: the search goes on
        return Result(candidate, None, f"{type(error).__name__}: {str(error).splitlines()[0][:200]}")


def _is_settled(candidate: Candidate, fitting: list[Result], failed: list[Result]) -> bool:
    """Whether one that does less over again fits, or one that needs less memory does not."""

    def cost(one: Candidate) -> tuple[int, int]:
        return REMATS.index(one.remat), one.accumulate

    def at_most(some: tuple[int, int], others: tuple[int, int]) -> bool:
        return all(a <= b for a, b in zip(some, others, strict=True))

    for result in (*fitting, *failed):
        other = result.candidate
        if other.mesh != candidate.mesh:
            continue
        if result.plan is not None and other.rows >= candidate.rows and at_most(cost(other), cost(candidate)):
            return True
        too_large = result.reason.startswith(_NEEDS)
        if too_large and other.rows <= candidate.rows and at_most(cost(candidate), cost(other)):
            return True
    return False


def describe(candidate: Candidate) -> str:
    """In a few words."""
    sizes = " ".join(f"{name}={size}" for name, size in vars(candidate.mesh).items() if size > 1) or "one device"
    kept = "" if candidate.remat == "none" else f" remat={candidate.remat}"
    parts = "" if candidate.accumulate == 1 else f" accumulate={candidate.accumulate}"
    return f"{sizes} rows={candidate.rows}{kept}{parts}"

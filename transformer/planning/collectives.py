"""Which chips exchange what, over which wires, and how long that takes at least.

Letters: n chips of a group, S bytes each of them brings.

A chip sends, with the best algorithms known (rings; Thakur et al. 2005), as it receives:

    all-reduce          2 S (n - 1) / n       a reduce-scatter, then an all-gather
    reduce-scatter        S (n - 1) / n
    all-gather            S (n - 1)
    all-to-all            S (n - 1) / n
    collective-permute    S

Time = max(bytes / (wires * rate of a wire), hops * 1 us). A group that spans a whole side of the torus has two wires in
that side, one in each direction; where the ends of the side are not joined, a ring has to turn back, which leaves one.
Hops are those to the farthest chip of the group, twice for an all-reduce. The microsecond is the latency of a hop that
"How to Scale Your Model" (part 3) reckons with.
"""

import dataclasses
import math
import re
from collections.abc import Sequence

import numpy as np

from transformer.planning.counting import Message
from transformer.planning.errors import PlanError
from transformer.planning.topology import Topology

HOP_SECONDS = 1e-6

_IOTA = re.compile(r"\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?")
_MESH = re.compile(r"mesh\[([^\]]*)\](?:, device_ids=\((.*?)\)(?= \{))? \{([^}]*)\}")
_LISTED = re.compile(r"\{((?:\{[\d,]*\},?)*)\}")
_AXIS = re.compile(r"'([^']+)'=(\d+)")
_SUB_AXIS = re.compile(r"'([^']+)'(?::\((\d+)\)(\d+))?")


def wire_bytes(kind: str, operand_bytes: float, group_size: int) -> float:
    """What each chip of a group sends."""
    n = group_size
    factors = {
        "all-reduce": 2 * (n - 1) / n,
        "reduce-scatter": (n - 1) / n,
        "all-gather": n - 1,
        "all-to-all": (n - 1) / n,
        "collective-permute": 1,
        "collective-broadcast": 1,
    }
    return operand_bytes * factors[kind]


def first_group(attributes: str, devices: int) -> tuple[int, ...]:
    """The first group of chips of a collective's attributes, in any of the notations XLA prints.

    Raises:
      PlanError: it is in none of them.
    """
    if "source_target_pairs=" in attributes:
        pairs = re.search(r"source_target_pairs=\{\{(\d+),(\d+)\}", attributes)
        return tuple(int(end) for end in pairs.groups()) if pairs else (0,)
    _, found, text = attributes.partition("replica_groups=")
    if not found or text.startswith("{}"):
        return tuple(range(devices))
    for notation, read in ((_IOTA, _iota_groups), (_MESH, _mesh_groups), (_LISTED, _listed_groups)):
        match = notation.match(text)
        if match:
            return tuple(int(number) for number in read(match)[0])
    raise PlanError(f"Groups of chips in the compiled program are not understood: {text[:80]}")


def _numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]


def _iota(sizes: str, order: str | None) -> np.ndarray:
    shape = _numbers(sizes)
    return np.arange(math.prod(shape)).reshape(shape).transpose(_numbers(order) if order else range(len(shape)))


def _iota_groups(match: re.Match) -> np.ndarray:
    """`[4,2]<=[2,4]T(1,0)`: 0 to 7 as a 2x4 array, transposed, its rows then of 2."""
    groups, sizes, order = match.groups()
    return _iota(sizes, order).reshape(_numbers(groups))


def _listed_groups(match: re.Match) -> list[list[int]]:
    return [_numbers(group) for group in re.findall(r"\{([\d,]*)\}", match.group(1))]


def _mesh_groups(match: re.Match) -> np.ndarray:
    """`mesh['x'=4,'y'=2] {'y'}`: groups along y; `'x':(2)2` is the part of x of size 2 after one of size 2."""
    axes, device_ids, used = match.groups()
    names, sizes = zip(*((name, int(size)) for name, size in _AXIS.findall(axes)), strict=True)
    ids = np.arange(math.prod(sizes))
    if device_ids:
        order = re.fullmatch(r"\[([\d,]+)\](?:T\(([\d,]+)\))?", device_ids)
        ids = _iota(*order.groups()).ravel() if order else np.array(_numbers(device_ids))
    # Axes that are used in part are taken apart.
    shape, chosen = [], []
    wanted = {name: (before, size) for name, before, size in _SUB_AXIS.findall(used)}
    for name, size in zip(names, sizes, strict=True):
        before, part = wanted.get(name, ("1", "1"))
        before, part = (1, size) if not part else (int(before), int(part))
        shape += [before, part, size // (before * part)]
        chosen += [False, name in wanted, False]
    others = [index for index, taken in enumerate(chosen) if not taken]
    grouped = ids.reshape(shape).transpose(others + [index for index, taken in enumerate(chosen) if taken])
    return grouped.reshape(-1, math.prod(size for size, taken in zip(shape, chosen, strict=True) if taken))


@dataclasses.dataclass(frozen=True)
class Wires:
    """What a group of chips has to talk over: wires of each chip, and hops to the farthest other one."""

    count: int
    hops: int


def wires(topology: Topology, coordinates: Sequence[tuple[int, ...]]) -> Wires:
    """The wires between chips at these coordinates of a slice."""
    count = hops = 0
    for side, size in enumerate(topology.grid):
        places = {coordinate[side] for coordinate in coordinates}
        if len(places) == 1:
            continue
        ring = topology.is_ring(side) and len(places) == size and size > 2
        count += 2 if ring else 1
        hops += size // 2 if ring else max(places) - min(places)
    return Wires(max(count, 1), max(hops, 1))


@dataclasses.dataclass(frozen=True)
class Exchange:
    """The collectives of one kind, size and place in a step.

    Attributes:
      network: "ICI", within a slice, or "DCN", between slices.
      bytes: sent by each chip in a step.
      seconds: at least, in a step.
    """

    kind: str
    network: str
    group_size: int
    arrays: str
    times: int
    bytes: float
    seconds: float
    source: str


def exchanges(
    messages: Sequence[Message], topology: Topology, coordinates: Sequence[tuple[int, ...]]
) -> list[Exchange]:
    """Every collective in which chips take part that are not the same.

    Args:
      coordinates: of the devices of the first slice, in the order of the program's numbers.
    """
    found = []
    for message in messages:
        if message.between_slices:
            size, network = topology.slices, "DCN"
        else:
            group = first_group(message.groups, len(coordinates))
            size, network = len(group), "ICI"
        if size == 1:
            continue
        sent = wire_bytes(message.kind, message.operand_bytes, size)
        if message.between_slices:
            seconds = sent / topology.chip.dcn_bandwidth
        else:
            used = wires(topology, [coordinates[index] for index in group])
            passes = 2 if message.kind == "all-reduce" else 1
            seconds = max(sent / (used.count * topology.chip.link_bandwidth), passes * used.hops * HOP_SECONDS)
        times = message.times
        found.append(
            Exchange(message.kind, network, size, message.arrays, times, times * sent, times * seconds, message.source)
        )
    return found

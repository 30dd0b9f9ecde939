"""What of a step moves the most bytes between a chip and its memory: where to look when HBM bounds it."""

import dataclasses
from collections.abc import Iterable

from transformer.planning.chips import Chip
from transformer.planning.counting import Operation


@dataclasses.dataclass(frozen=True)
class Traffic:
    """Instructions with the same results and the same origin, together.

    Attributes:
      arrays: their results.
      source: the operation of the traced program they come from; empty: made by the compiler.
      times: in a step.
      bytes: in a step.
      waited: seconds of a step for which nothing is computed meanwhile: beyond what their products take.
    """

    arrays: str
    source: str
    times: int
    bytes: float
    waited: float


def largest(operations: Iterable[Operation], chip: Chip, count: int) -> tuple[Traffic, ...]:
    """The `count` with the most bytes, the most first."""
    found: dict[tuple[str, str], Traffic] = {}
    for each in operations:
        key = each.arrays, each.source
        before = found.get(key, Traffic(*key, 0, 0.0, 0.0))
        alone = each.bytes / chip.hbm_bandwidth - each.flops / chip.peak_flops
        found[key] = dataclasses.replace(
            before,
            times=before.times + each.times,
            bytes=before.bytes + each.times * each.bytes,
            waited=before.waited + (each.times * max(alone, 0.0) if each.waits else 0.0),
        )
    return tuple(sorted(found.values(), key=lambda traffic: -traffic.bytes)[:count])

"""How long a step takes at least, and what bounds it: a roofline (Williams et al. 2009).

Symbols: for an instruction, F FLOPs and B bytes of HBM traffic; for the chip, P FLOP/s and W bytes/s.

    compute  = sum F / P
    memory   = sum B / W
    chip     = max(sum over instructions of max(F / P, B / W), memory)
    step     = max(chip, ICI, DCN)
    unhidden = chip + ICI + DCN

Assumed for `step`: products run at the peak rate; within an instruction, computing and moving bytes overlap; copies
that the compiler started ahead overlap with everything; messages within a slice (ICI) and between slices (DCN) overlap
with all of it and with each other. Nothing of this is quite reached, so `step` is a lower bound, and the utilisation
that follows from it an upper bound. `unhidden` is the same with messages that overlap with nothing.

Model FLOP utilisation (MFU; Chowdhery et al. 2022, appendix B) = FLOPs that the model needs / (step * P * chips).
"""

import dataclasses
from collections.abc import Iterable

from transformer.planning.chips import Chip
from transformer.planning.counting import Operation


@dataclasses.dataclass(frozen=True)
class Roofline:
    """Seconds of one step, at least."""

    compute: float
    memory: float
    chip: float
    ici: float = 0.0
    dcn: float = 0.0

    @property
    def step(self) -> float:
        return max(self.chip, self.ici, self.dcn)

    @property
    def unhidden(self) -> float:
        return self.chip + self.ici + self.dcn

    @property
    def bound(self) -> str:
        """What the step waits for."""
        if self.step == self.chip:
            return "compute" if self.compute >= self.memory else "HBM"
        return "ICI" if self.step == self.ici else "DCN"


def roofline(operations: Iterable[Operation], chip: Chip, ici: float = 0.0, dcn: float = 0.0) -> Roofline:
    """Of the instructions of one chip's step and the seconds its messages take."""
    operations = list(operations)
    compute = sum(each.times * each.flops for each in operations) / chip.peak_flops
    memory = sum(each.times * each.bytes for each in operations) / chip.hbm_bandwidth
    in_turn = sum(
        each.times * max(each.flops / chip.peak_flops, each.bytes / chip.hbm_bandwidth)
        for each in operations
        if each.waits
    )
    return Roofline(compute, memory, max(in_turn, memory), ici, dcn)


def utilisation(model_flops: float, seconds: float, peak_flops: float) -> float:
    """MFU: `model_flops` of all chips together in `seconds` against their `peak_flops` together."""
    return model_flops / (seconds * peak_flops)

"""Devices that are not there: `v5e:16x16`, or `2xv5e:16x16` for two slices with a data center network between."""

import dataclasses
import math
import re
from typing import Any

import jax
from jax.experimental import topologies

from transformer.planning import libtpu
from transformer.planning.chips import CHIPS, Chip, chip_of
from transformer.planning.errors import PlanError

_WRITTEN = re.compile(r"(?:(\d+)x)?([a-z]\w*):(\d+(?:x\d+){1,2})", re.IGNORECASE)
# Chips of one host form a block of this size, and slices are made of whole hosts.
_HOST = 2
_INSTALL = "Install it with: pip install libtpu (or pip install 'transformer[tpu]'). It needs no TPU, but Linux on x86."
# Of each kind, one that exists.
_EXAMPLES = "v5e:16x16, v6e:4x4, v5p:4x4x4, 2xv5e:16x16"


@dataclasses.dataclass(frozen=True)
class Topology:
    """Slices of chips, each a grid."""

    slices: int
    chip: Chip
    grid: tuple[int, ...]

    @classmethod
    def parse(cls, text: str) -> "Topology":
        """Reads `[SLICESx]CHIP:GRID`.

        Raises:
          PlanError: it is not written so, or the chip has no such grid.
        """
        match = _WRITTEN.fullmatch(text.strip())
        if not match:
            raise PlanError(
                f"--topology={text!r} is no topology. Write CHIP:GRID, or SLICESxCHIP:GRID, with the chips "
                f"{', '.join(chip.name for chip in CHIPS)}: {_EXAMPLES}. Or here, for this machine."
            )
        slices, name, grid = match.groups()
        topology = cls(int(slices or 1), chip_of(name), tuple(int(size) for size in grid.split("x")))
        topology._check(text)
        return topology

    def _check(self, text: str) -> None:
        dimensions = self.chip.dimensions
        if self.slices < 1 or len(self.grid) != dimensions or any(size < 1 for size in self.grid):
            shape = "x".join("ABC"[:dimensions])
            raise PlanError(f"--topology={text!r}: a slice of {self.chip.name} is a grid {shape}, such as {_EXAMPLES}.")
        if any(size % _HOST for size in self.grid[:2]):
            raise PlanError(
                f"--topology={text!r}: hosts have {_HOST}x{_HOST} chips, so the first two sides of a grid are even. "
                f"Write for example {_EXAMPLES}."
            )
        if dimensions == 2 and max(self.grid) > self.chip.full_axis:
            side = self.chip.full_axis
            raise PlanError(f"--topology={text!r}: the largest slice of {self.chip.name} is {side}x{side}.")

    def __str__(self) -> str:
        grid = "x".join(str(size) for size in self.grid)
        return f"{self.slices}x{self.chip.name}:{grid}" if self.slices > 1 else f"{self.chip.name}:{grid}"

    @property
    def chips(self) -> int:
        """Of all slices together."""
        return self.slices * math.prod(self.grid)

    def is_ring(self, side: int) -> bool:
        """Whether the two ends of a side of the grid are joined by a wire."""
        if self.chip.dimensions == 3:  # cubes of 4x4x4, joined by switches of light
            return all(size % self.chip.full_axis == 0 for size in self.grid)
        return self.grid[side] == self.chip.full_axis

    def devices(self) -> list[jax.Device]:
        """JAX's devices for it: one a chip, or one for each of its two cores.

        Raises:
          PlanError: libtpu is missing, or knows no such topology.
        """
        libtpu.prepare_process()
        grid = "x".join(str(size) for size in self.grid)
        options: dict[str, Any] = {"num_slices": self.slices} if self.slices > 1 else {}
        if self.chip.name == "v4":  # its two cores are one device, as JAX has them on a real one
            options["chip_config_name"] = "megacore"
        try:
            found = topologies.get_topology_desc(
                platform="tpu", topology_name=f"{self.chip.name}:{grid}", **options
            ).devices
        except RuntimeError as error:  # JAX's own errors are such as well
            if "not installed" in str(error):
                raise PlanError(f"The TPU's compiler, libtpu, is not installed. {_INSTALL}") from error
            raise PlanError(f"libtpu knows no topology {self}: {error}") from error
        return list(found)

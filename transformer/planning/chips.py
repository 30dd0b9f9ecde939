"""The accelerators that plans are made for: peak rates, memory and wires of each, and where the figures stand.

Rates are per chip and a second. A wire's rate is one way: what the sources call bidirectional is twice as much.
"""

import dataclasses

from transformer.planning.errors import PlanError

_TFLOPS, _GB, _GIB = 1e12, 1e9, 2**30
# Of data center networks, whose rates are given in bits.
_GBIT = 1e9 / 8

_CLOUD = "https://cloud.google.com/tpu/docs/"
_BOOK = "https://jax-ml.github.io/scaling-book/tpus (table of wires; 25 GB/s of data center network a host)"


@dataclasses.dataclass(frozen=True)
class Chip:
    """One kind of accelerator.

    Attributes:
      name: as it begins a topology, `v5e:4x4`.
      peak_flops: of products of bfloat16 factors, FLOP/s. A TPU multiplies float32 at JAX's default precision as fast.
      hbm_bytes: memory.
      hbm_bandwidth: between memory and the chip, bytes/s.
      link_bandwidth: of one wire to one neighbour, bytes/s one way.
      dimensions: of the grid that the wires make; there are two wires a dimension.
      full_axis: of a grid's side whose two ends are joined, so that it is a ring: its length, or what divides it.
      dcn_bandwidth: of a chip's share of its host's network, bytes/s one way.
      source: where the figures stand.
    """

    name: str
    peak_flops: float
    hbm_bytes: float
    hbm_bandwidth: float
    link_bandwidth: float
    dimensions: int
    full_axis: int
    dcn_bandwidth: float
    source: str

    @property
    def ici_bandwidth(self) -> float:
        """Of all wires of a chip together, bytes/s one way."""
        return 2 * self.dimensions * self.link_bandwidth

    def share(self, parts: int) -> "Chip":
        """An equal part of it, where JAX has a device for each of its cores."""
        figures = ("peak_flops", "hbm_bytes", "hbm_bandwidth", "link_bandwidth", "dcn_bandwidth")
        return dataclasses.replace(self, **{name: getattr(self, name) / parts for name in figures})


CHIPS = (
    Chip(
        name="v4",
        peak_flops=275 * _TFLOPS,
        hbm_bytes=32 * _GIB,
        hbm_bandwidth=1200 * _GB,
        link_bandwidth=45 * _GB,
        dimensions=3,
        full_axis=4,
        dcn_bandwidth=50 * _GBIT,  # 25 GB/s a host of four chips
        source=f"{_CLOUD}v4; {_BOOK}",
    ),
    Chip(
        name="v5e",
        peak_flops=197 * _TFLOPS,
        hbm_bytes=16 * _GIB,
        hbm_bandwidth=819 * _GB,
        link_bandwidth=50 * _GB,  # 400 GB/s: four wires, both ways
        dimensions=2,
        full_axis=16,
        dcn_bandwidth=25 * _GBIT,  # 6.4 Tbit/s a pod of 256
        source=f"{_CLOUD}v5e",
    ),
    Chip(
        name="v5p",
        peak_flops=459 * _TFLOPS,
        hbm_bytes=95 * _GIB,
        hbm_bandwidth=2765 * _GB,
        link_bandwidth=100 * _GB,  # 1200 GB/s: six wires, both ways
        dimensions=3,
        full_axis=4,
        dcn_bandwidth=50 * _GBIT,
        source=f"{_CLOUD}v5p",
    ),
    Chip(
        name="v6e",
        peak_flops=918 * _TFLOPS,
        hbm_bytes=32 * _GIB,
        hbm_bandwidth=1638 * _GB,
        link_bandwidth=100 * _GB,  # 800 GB/s: four wires, both ways
        dimensions=2,
        full_axis=16,
        dcn_bandwidth=100 * _GBIT,
        source=f"{_CLOUD}v6e; {_CLOUD}tpu7x (comparison)",
    ),
    Chip(
        name="tpu7x",
        peak_flops=2307 * _TFLOPS,
        hbm_bytes=192 * _GIB,
        hbm_bandwidth=7380 * _GB,
        link_bandwidth=100 * _GB,  # 1200 GB/s: six wires, both ways
        dimensions=3,
        full_axis=4,
        dcn_bandwidth=100 * _GBIT,
        source=f"{_CLOUD}tpu7x",
    ),
)


def chip_of(name: str) -> Chip:
    """The chip of that name.

    Raises:
      PlanError: there is none.
    """
    for chip in CHIPS:
        if chip.name == name.lower():
            return chip
    raise PlanError(f"No figures of a chip {name!r}. There are {', '.join(chip.name for chip in CHIPS)}.")

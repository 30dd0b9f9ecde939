"""Names of topologies, and the figures of their chips."""

import jax
import pytest
from jax.experimental import topologies

from transformer import sharding
from transformer.config import MeshConfig
from transformer.planning.chips import CHIPS, chip_of
from transformer.planning.errors import PlanError
from transformer.planning.topology import Topology


@pytest.mark.parametrize(
    ("text", "slices", "chip", "grid", "chips"),
    [
        ("v5e:16x16", 1, "v5e", (16, 16), 256),
        ("2xv5e:16x16", 2, "v5e", (16, 16), 512),
        ("v5p:4x4x4", 1, "v5p", (4, 4, 4), 64),
        ("4xTPU7x:2x2x1", 4, "tpu7x", (2, 2, 1), 16),
    ],
)
def test_names(text, slices, chip, grid, chips):
    topology = Topology.parse(text)
    assert (topology.slices, topology.chip.name, topology.grid, topology.chips) == (slices, chip, grid, chips)
    assert str(topology) == text.lower()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("16x16", "Write CHIP:GRID"),
        ("v5e-256", "Write CHIP:GRID"),
        ("v9:4x4", "There are v4, v5e, v5p, v6e, tpu7x"),
        ("v5e:2x2x2", "a grid AxB"),
        ("v5p:4x4", "a grid AxBxC"),
        ("v5e:3x4", "are even"),
        ("v5e:32x16", "the largest slice of v5e is 16x16"),
        ("0xv5e:4x4", "a grid AxB"),
    ],
)
def test_what_is_no_topology_is_told(text, told):
    with pytest.raises(PlanError, match=told):
        Topology.parse(text)


def test_without_libtpu_is_said_how_to_get_it(monkeypatch):
    def missing(**options):
        raise RuntimeError("JAX TPU support not installed; cannot generate TPU topology.")

    monkeypatch.setattr(topologies, "get_topology_desc", missing)
    with pytest.raises(PlanError, match="pip install libtpu"):
        Topology.parse("v5e:2x2").devices()


def test_figures_agree_with_each_other():
    """The sources give ICI per chip and both ways; DCN per chip in bits."""
    both_ways = {"v4": 540e9, "v5e": 400e9, "v5p": 1200e9, "v6e": 800e9, "tpu7x": 1200e9}
    assert {chip.name: 2 * chip.ici_bandwidth for chip in CHIPS} == both_ways
    assert 256 * chip_of("v5e").dcn_bandwidth * 8 == 6.4e12  # of a pod
    for chip in CHIPS:
        assert chip.source.startswith("https://")
        assert chip.dcn_bandwidth < chip.link_bandwidth < chip.hbm_bandwidth


def test_half_a_chip():
    half = chip_of("tpu7x").share(2)
    assert half.peak_flops == 2307e12 / 2
    assert half.hbm_bytes == 96 * 2**30
    assert half.dimensions == 3


@pytest.mark.parametrize(
    ("text", "mesh_config"),
    [
        ("v5e:4x4", MeshConfig()),
        ("v5e:4x4", MeshConfig(data=2, fsdp=-1)),
        ("v6e:4x4", MeshConfig(tensor=2)),  # half a side of the grid
        ("v5p:4x4x4", MeshConfig(sequence=4)),
    ],
)
def test_every_process_of_a_pod_has_rows(text, mesh_config, monkeypatch):
    """Hosts have squares of the grid of chips, which no mesh need lay out as neighbours."""
    devices = Topology.parse(text).devices()
    mesh = sharding.make_mesh(mesh_config, devices)
    needed = []
    for process in {device.process_index for device in devices}:
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        needed += sharding.data_share.__wrapped__(mesh).blocks
    assert set(needed) == set(range(sharding.row_shards(mesh)))

import dataclasses

import jax
import pytest

from transformer.training import peak


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_measures_a_plausible_rate_in_little_time(dtype):
    measured = peak.measure(dtype, jax.devices())
    assert 1e9 < measured.flops < 1e15
    assert dtype in str(measured)


def test_devices_of_a_cpu_are_measured_together_and_not_multiplied(monkeypatch):
    measured_on = []
    monkeypatch.setattr(peak, "_product_rate", lambda dtype, devices: measured_on.append(devices) or 5e9)
    measured = peak.measure("float32", jax.devices("cpu"))
    assert (measured.flops, measured.multiplied_by) == (5e9, 1)
    assert measured_on == [jax.devices("cpu")]


def test_chips_are_measured_one_for_all(monkeypatch):
    measured_on = []
    monkeypatch.setattr(peak, "_product_rate", lambda dtype, devices: measured_on.append(devices) or 5e9)
    chips = [_Chip("tpu", "TPU v5e", process_index=index // 4) for index in range(8)]
    measured = peak.measure("bfloat16", chips)
    assert (measured.flops, measured.multiplied_by) == (40e9, 8)
    assert measured_on == [chips[:1]]


def test_measures_inside_the_mesh_of_a_run():
    devices = jax.devices()
    mesh = jax.make_mesh((len(devices),), ("data",), devices=devices)
    with jax.set_mesh(mesh):
        assert peak.measure("float32", devices).flops > 0
        assert jax.sharding.get_abstract_mesh().axis_names == ("data",)


@dataclasses.dataclass
class _Chip:
    platform: str
    device_kind: str
    process_index: int

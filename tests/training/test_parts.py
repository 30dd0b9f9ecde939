import jax
import pytest

from transformer.config import Config, MeshConfig
from transformer.sharding import make_mesh
from transformer.training import parts
from transformer.training.parts import parts_of


def config_of(d_model: int = 512, accumulate: int | None = None) -> Config:
    config = Config()
    config.model.d_model, config.training.accumulate = d_model, accumulate
    return config


def mesh_of(devices: int = 1, **sizes: int):
    return make_mesh(MeshConfig(**sizes), jax.devices()[:devices])


@pytest.mark.parametrize(
    ("cores", "devices", "d_model", "rows", "length", "expected"),
    [
        (2, 1, 512, 64, 32, 4),  # 512 positions a part
        (2, 1, 256, 128, 24, 4),  # 768: nearer to 1,024 than 1,536 are
        (2, 1, 128, 64, 32, 1),
        (2, 1, 4096, 64, 32, 4),  # wide models get no smaller ones
        (2, 2, 512, 64, 32, 8),  # each device has a core to itself
        (2, 8, 512, 64, 32, 8),  # no device has less than a core
        (16, 1, 512, 64, 32, 1),  # few enough for so many
        (2, 1, 512, 776, 32, 97),  # 8 rows each; of 97 there would be far too many in one
        (2, 1, 512, 31, 50, 1),  # a row is too little
        (2, 1, 512, 1, 5000, 1),
    ],
)
def test_a_cpu_takes_parts_that_its_caches_hold(cores, devices, d_model, rows, length, expected, monkeypatch):
    monkeypatch.setattr(parts, "cores", lambda: cores)
    assert parts_of(config_of(d_model), mesh_of(devices), rows, length) == expected


def test_what_is_set_counts():
    assert parts_of(config_of(accumulate=2), mesh_of(), 64, 32) == 2


def test_with_split_parameters_it_is_taken_whole(monkeypatch):
    monkeypatch.setattr(parts, "cores", lambda: 2)
    assert parts_of(config_of(), mesh_of(2), 64, 64) > 1
    assert parts_of(config_of(), mesh_of(2, fsdp=2), 64, 64) == 1


def test_other_devices_take_it_whole(monkeypatch):
    monkeypatch.setattr(parts.sharding, "platform_of", lambda mesh: "tpu")
    assert parts_of(config_of(), mesh_of(), 1024, 1024) == 1


def test_processes_whose_cores_may_differ_take_it_whole():
    class Mesh:
        """Two processes' CPUs."""

        devices, size, local_devices = mesh_of().devices, 2, jax.devices()[:1]
        shape = mesh_of().shape

    assert parts_of(config_of(), Mesh(), 1024, 1024) == 1

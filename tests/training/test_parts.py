import jax
import pytest

from transformer.config import Config, MeshConfig
from transformer.sharding import make_mesh
from transformer.training import parts
from transformer.training.parts import parts_of


def config_of(d_model: int, accumulate: int | None = None) -> Config:
    config = Config()
    config.model.d_model, config.training.accumulate = d_model, accumulate
    return config


@pytest.mark.parametrize(
    ("cores", "devices", "d_model", "rows", "length", "expected"),
    [
        (2, 1, 512, 64, 32, 4),  # 512 positions
        (2, 1, 512, 64, 33, 8),  # four parts would be of one more than fit
        (2, 1, 128, 64, 32, 1),
        (2, 2, 512, 64, 32, 8),  # each device has a core to itself
        (2, 8, 512, 64, 32, 8),  # no device has less than a core
        (16, 1, 512, 64, 32, 1),  # few enough for so many
        (2, 1, 512, 36, 100, 4),  # nine rows are not halved
        (2, 1, 512, 1, 5000, 1),
    ],
)
def test_a_cpu_takes_parts_that_its_caches_hold(cores, devices, d_model, rows, length, expected, monkeypatch):
    monkeypatch.setattr(parts, "cores", lambda: cores)
    mesh = make_mesh(MeshConfig(), jax.devices()[:devices])
    assert parts_of(config_of(d_model), mesh, rows, length) == expected
    assert parts_of(config_of(d_model, accumulate=2), mesh, rows, length) == 2


def test_other_devices_take_it_whole(monkeypatch):
    monkeypatch.setattr(parts.sharding, "platform_of", lambda mesh: "tpu")
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    assert parts_of(config_of(1024), mesh, 1024, 1024) == 1
    assert parts_of(config_of(1024, accumulate=8), mesh, 1024, 1024) == 8

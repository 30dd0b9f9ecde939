import jax
import pytest

from transformer.config import MeshConfig, TrainingConfig
from transformer.sharding import make_mesh
from transformer.training import parts
from transformer.training.parts import parts_of


@pytest.mark.parametrize(
    ("cores", "devices", "rows", "length", "expected"),
    [
        (2, 1, 64, 32, 4),  # 512 of at most 768
        (2, 1, 128, 24, 4),  # 768
        (2, 1, 128, 25, 8),
        (2, 2, 64, 32, 8),  # each device has a core to itself
        (2, 8, 64, 32, 8),  # no device has less than a core
        (16, 1, 64, 32, 1),  # few enough for so many
        (2, 1, 36, 100, 4),  # nine rows are not halved
        (2, 1, 1, 5000, 1),
    ],
)
def test_a_cpu_takes_parts_that_its_cores_are_fast_at(cores, devices, rows, length, expected, monkeypatch):
    monkeypatch.setattr(parts, "cores", lambda: cores)
    mesh = make_mesh(MeshConfig(), jax.devices()[:devices])
    assert parts_of(TrainingConfig(), mesh, rows, length) == expected
    assert parts_of(TrainingConfig(accumulate=2), mesh, rows, length) == 2


def test_other_devices_take_it_whole(monkeypatch):
    monkeypatch.setattr(parts.sharding, "platform_of", lambda mesh: "tpu")
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    assert parts_of(TrainingConfig(), mesh, 1024, 1024) == 1
    assert parts_of(TrainingConfig(accumulate=8), mesh, 1024, 1024) == 8

"""What a search sorts by: sums made by hand."""

import pytest

from transformer.config import Config, MeshConfig, ModelConfig
from transformer.data.rows import Shape
from transformer.planning.estimate import estimate
from transformer.planning.plan import model_flops
from transformer.planning.topology import Topology

FOUR = Topology.parse("v5e:2x2")


def config(**changes) -> Config:
    model = ModelConfig(d_model=128, num_heads=2, d_ff=256, num_encoder_layers=2, num_decoder_layers=4)
    model.architecture = changes.pop("architecture", "encoder_decoder")
    return Config(model=model, mesh=MeshConfig(**changes))


@pytest.mark.parametrize(
    ("architecture", "shape", "passed"),
    # Tokens of both sides on a chip, times the layers that each passes.
    [
        ("encoder_decoder", Shape(16, 64, 64), 16 * 128 / 4 * 3),
        ("language_model", Shape(16, 0, 64), 16 * 64 / 4 * 4),
    ],
)
def test_by_hand(architecture, shape, passed):
    parameters = 1_000_000
    settings = config(architecture=architecture, data=4)
    times = estimate(settings, shape, parameters, FOUR)
    assert times.compute == pytest.approx(model_flops(settings, shape) / 4 / 197e12)
    # Optimizer 7, gradients 4 of 4 bytes; products' weights 3 of 2 bytes; activations.
    moved = 7 * 4e6 + 4 * 4e6 + 3 * 2e6 + 60 * 2 * 128 * passed
    assert times.memory == pytest.approx(moved / 819e9)
    # Half of four wires; ten messages over half of two sides of two.
    assert times.ici == pytest.approx(2 * 4e6 * 3 / 4 / (2 * 50e9) + 10 * 2e-6)
    assert times.dcn == 0


def test_gathering_and_heads_have_messages_in_every_layer():
    shape, parameters = Shape(16, 64, 64), 1_000_000
    hop = 2e-6
    by_fsdp = estimate(config(data=1, fsdp=4), shape, parameters, FOUR)
    assert by_fsdp.ici == pytest.approx(3 * 4e6 * 3 / 4 / 100e9 + (10 + 30 * 6) * hop)
    by_tensor = estimate(config(data=1, tensor=4), shape, parameters, FOUR)
    activations = 2 * 128 * 16 * 128 * 3
    assert by_tensor.ici == pytest.approx(8 * activations * 3 / 4 / 100e9 + (10 + 12 * 6) * hop)

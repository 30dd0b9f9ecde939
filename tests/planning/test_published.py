"""Published step times: the shapes are right where the source gives its own utilisation, and none beats the bound."""

import pytest

from transformer.config import ModelConfig
from transformer.planning.published import PUBLISHED, decoder_encoder_parameters, table


def published(name: str):
    [found] = [each for each in PUBLISHED if each.name.startswith(name)]
    return found


def test_utilisation_is_the_one_the_source_gives():
    for name, given in (("Llama 3.1 8B", 0.4546), ("Llama 2 70B", 0.654)):
        each = published(name)
        assert each.flops / each.seconds / each.chip.peak_flops == pytest.approx(given, rel=0.03)


def test_no_published_step_is_shorter_than_the_bound():
    for each in PUBLISHED:
        assert 0.2 < each.predicted.step / each.seconds < 1


def test_the_bound_by_hand():
    """Big: 10.6 TFLOP/s and 8 GPUs. Multiply-adds a target token: 12 matrices of 1024 x 1024 in a decoder layer of
    which two read the source, 8 in one of the encoder, both with 2 x 1024 x 4096; the output; attention over 25."""
    big = published("Transformer big")
    layers = 6 * (8 + 4 + 8 + 8) * 1024**2 + 6 * 3 * 2 * 25 * 1024
    assert big.flops == pytest.approx(6 * 25_000 / 8 * (layers + 1024 * 37_000), rel=1e-3)
    assert big.predicted.step == big.flops / 10.6e12


def test_parameters_are_the_papers():
    big = ModelConfig(d_model=1024, num_heads=16, d_ff=4096)
    assert decoder_encoder_parameters(big, 37_000) == pytest.approx(214_171_648, rel=1e-3)
    assert decoder_encoder_parameters(ModelConfig(), 37_000) == pytest.approx(63_045_632, rel=1e-3)


def test_a_table_with_sources():
    text = table()
    assert "P100" in text and "v6e" in text and "v5p" in text
    assert "lower bound" in text and "1706.03762" in text

import jax.numpy as jnp
import numpy as np
import pytest

from transformer.config import fields
from transformer.decoding.length_penalty import FORMS, LengthPenalty


def test_the_values_of_the_papers_formula():
    lengths = jnp.array([1, 7, 13, 25])
    np.testing.assert_allclose(LengthPenalty(0.0)(lengths), 1.0)
    np.testing.assert_allclose(LengthPenalty(1.0)(lengths), [1.0, 2.0, 3.0, 5.0])
    np.testing.assert_allclose(LengthPenalty(0.6)(lengths), [1.0, 1.5157166, 1.9331820, 2.6265278], rtol=1e-6)


def test_a_power_of_the_length():
    lengths = jnp.array([0, 1, 4, 25])
    np.testing.assert_allclose(LengthPenalty(0.0, "power")(lengths), 1.0)
    np.testing.assert_allclose(LengthPenalty(1.0, "power")(lengths), [1.0, 1.0, 4.0, 25.0])
    np.testing.assert_allclose(LengthPenalty(0.5, "power")(lengths), [1.0, 1.0, 2.0, 5.0], rtol=1e-6)


def test_the_config_offers_these_forms():
    [info] = [info for info in fields() if info.name == "decoding.length_penalty_form"]
    assert (info.choices, info.default) == (FORMS, LengthPenalty(0.6).form)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("alpha", [0.0, 0.2, 0.6, 1.0, 2.0])
def test_longer_is_never_penalised_less(alpha, form):
    """What stopping early relies on, in float32 too."""
    assert (jnp.diff(LengthPenalty(alpha, form)(jnp.arange(2048))) >= 0).all()


@pytest.mark.parametrize(
    ("alpha", "form", "told"), [(-0.1, "gnmt", "length_penalty = -0.1"), (1.0, "Power", "one of gnmt, power")]
)
def test_what_cannot_be_is_refused(alpha, form, told):
    with pytest.raises(ValueError, match=told):
        LengthPenalty(alpha, form)

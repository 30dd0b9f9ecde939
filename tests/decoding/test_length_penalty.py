import jax.numpy as jnp
import numpy as np

from transformer.decoding.length_penalty import penalty


def test_the_values_of_the_formula():
    lengths = jnp.array([1, 7, 13, 25])
    np.testing.assert_allclose(penalty(lengths, 0.0), 1.0)
    np.testing.assert_allclose(penalty(lengths, 1.0), [1.0, 2.0, 3.0, 5.0])
    np.testing.assert_allclose(penalty(lengths, 0.6), [1.0, 1.5157166, 1.9331820, 2.6265278], rtol=1e-6)


def test_longer_is_never_penalised_less():
    """What stopping early relies on, in float32 too."""
    for alpha in (0.0, 0.2, 0.6, 1.0, 2.0):
        assert (jnp.diff(penalty(jnp.arange(2048), alpha)) >= 0).all()

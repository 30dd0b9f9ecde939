"""The paper's sinusoids; a learned table and its end."""

import jax.numpy as jnp
import numpy as np
import paper_reference
from flax import nnx
from tiny_model import tiny

from transformer.model.positions import LearnedPositions, sinusoids, tensor2tensor_sinusoids


def test_sinusoids_are_the_papers():
    positions_BT = np.array([[0, 1, 2, 0], [5, 99, 1000, 3]])
    ours = sinusoids(jnp.asarray(positions_BT), 16)
    assert ours.dtype == jnp.float32
    # float32 angles: at position 1000 the last bit is 6e-5.
    np.testing.assert_allclose(ours, paper_reference.sinusoids(positions_BT, 16), atol=1e-4)


def test_the_sinusoids_of_the_papers_code():
    """tensor2tensor/layers/common_attention.py, get_timing_signal_1d: timescales from 1 to 10000 in even steps."""
    places, waves = np.array([[0, 1, 2], [5, 99, 1000]]), 8
    step = np.log(10_000) / (waves - 1)
    angles_BTP = places[:, :, None] * np.exp(np.arange(waves) * -step)
    expected = np.concatenate([np.sin(angles_BTP), np.cos(angles_BTP)], axis=-1)
    np.testing.assert_allclose(tensor2tensor_sinusoids(jnp.asarray(places), 2 * waves), expected, atol=1e-4)


def test_learned_positions_are_rows_of_the_table_and_the_last_repeats():
    module = LearnedPositions(tiny(max_length=4), rngs=nnx.Rngs(params=0))
    found = module(jnp.asarray([[0, 3, 4, 100]]))
    np.testing.assert_array_equal(found[0], module.table[...][np.array([0, 3, 3, 3])])

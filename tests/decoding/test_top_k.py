import jax
import numpy as np
import pytest

from transformer.decoding.top_k import BLOCK, top_k


@pytest.mark.parametrize("width", [4, BLOCK * 4, 131, 1000, 1009, 45 * 7])
@pytest.mark.parametrize("distinct", [1, 3, 1000])
def test_top_k_is_that_of_a_stable_sort(width, distinct):
    """With few distinct values nearly all are equal, and -inf is one of them."""
    levels = np.concatenate([[-np.inf], np.arange(distinct - 1)]).astype(np.float32)
    values = np.random.default_rng(width).choice(levels, size=(5, 2, width))
    top, indices = jax.jit(top_k, static_argnums=1)(values, 4)
    expected = np.argsort(-values, axis=-1, kind="stable")[..., :4]
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_array_equal(top, np.take_along_axis(values, expected, axis=-1))

"""The masks of the docstrings, and of rows whose positions restart."""

import jax.numpy as jnp
import numpy as np

from transformer.model import masks


def picture(mask_B1TS) -> list[str]:
    assert mask_B1TS.dtype == bool
    assert mask_B1TS.shape[:2] == (1, 1)
    return ["".join(".x"[int(allowed)] for allowed in row) for row in np.asarray(mask_B1TS)[0, 0]]


def test_a_query_sees_real_keys_of_its_own_segment():
    queries, keys = jnp.asarray([[1, 1, 2, 0]]), jnp.asarray([[1, 2, 2, 3, 0]])
    assert picture(masks.same_segment(queries, keys)) == ["x....", "x....", ".xx..", "....."]


def test_a_query_sees_keys_at_or_before_it():
    positions = jnp.asarray([[0, 1, 2]])
    assert picture(masks.causal(positions, positions)) == ["x..", "xx.", "xxx"]


def test_positions_count_not_places():
    assert picture(masks.causal(jnp.asarray([[0, 1, 0]]), jnp.asarray([[0, 1, 0]]))) == ["x.x", "xxx", "x.x"]

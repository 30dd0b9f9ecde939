"""Masks against the pictures in their docstrings, and against each other."""

import inspect
import re

import jax.numpy as jnp
import numpy as np
import pytest

from transformer.model import masks
from transformer.model.masks import Causal, Chunk, Given, Mask, Padding, Places, Prompt, SameSegment, Window


def places(positions, segments=None, prompt=None) -> Places:
    segments = [1] * len(positions) if segments is None else segments
    flags = None if prompt is None else jnp.asarray([prompt], bool)
    return Places(jnp.asarray([positions]), jnp.asarray([segments]), flags)


def picture(mask: Mask, queries: Places, keys: Places | None = None) -> list[str]:
    allowed_B1TS = mask.allowed(queries, queries if keys is None else keys)
    assert allowed_B1TS.dtype == bool
    assert allowed_B1TS.shape[:2] == (1, 1)
    return ["".join(".x"[int(allowed)] for allowed in row) for row in np.asarray(allowed_B1TS)[0, 0]]


def drawn(mask_class: type) -> list[str]:
    """The picture in a docstring."""
    lines = [line.replace(" ", "") for line in inspect.getdoc(mask_class).splitlines()]
    return [line for line in lines if re.fullmatch(r"[x.]{4}", line)]


FOUR = places([0, 1, 2, 3], prompt=[1, 1, 0, 0])
SEGMENTS = places([0, 1, 0, 0], [1, 1, 2, 0])


@pytest.mark.parametrize(
    ("mask", "where", "shown_by"),
    [
        (Padding(), SEGMENTS, Padding),
        (SameSegment(), SEGMENTS, SameSegment),
        (Causal(), FOUR, Causal),
        (Causal() | Prompt(), FOUR, Prompt),
        (Causal() & Window(2), FOUR, Window),
        (Causal() & Chunk(2), FOUR, Chunk),
        (Given(~np.eye(4, dtype=bool)[None, None]), FOUR, Given),
    ],
)
def test_the_docstring_draws_what_it_does(mask, where, shown_by):
    assert picture(mask, where) == drawn(shown_by)


def test_same_segment_sees_real_keys_of_its_own_example_only():
    queries, keys = places([0, 0, 1, 0], [1, 2, 2, 0]), places([0, 0, 1, 2, 0][:5], [1, 2, 2, 3, 0])
    assert picture(SameSegment(), queries, keys) == ["x....", ".xx..", ".xx..", "....."]


def test_causal_goes_by_position_not_by_column():
    assert picture(Causal(), places([0, 1, 0])) == ["x.x", "xxx", "x.x"]


def test_a_window_of_the_whole_length_is_causal():
    assert picture(Causal() & Window(4), FOUR) == picture(Causal(), FOUR)
    assert picture(Causal() & Window(3), FOUR) != picture(Causal(), FOUR)


def test_a_chunk_of_the_whole_length_is_causal():
    assert picture(Causal() & Chunk(4), FOUR) == picture(Causal(), FOUR)


def test_without_a_prompt_a_prefix_mask_is_causal():
    where = places([0, 1, 2, 3])
    assert picture(Causal() | Prompt(), where) == picture(Causal(), where)


def test_masks_combine_as_sets_do():
    rng = np.random.default_rng(0)
    a, b, c = (Given(jnp.asarray(rng.integers(0, 2, (1, 1, 4, 4)), bool)) for _ in range(3))

    def array(mask):
        return np.asarray(mask.allowed(FOUR, FOUR))

    np.testing.assert_array_equal(array(a & b), array(a) & array(b))
    np.testing.assert_array_equal(array(a | b), array(a) | array(b))
    np.testing.assert_array_equal(array((a | b) & c), array((a & c) | (b & c)))
    assert masks.parts(a & b & c) == (a, b, c)


@pytest.mark.parametrize("contiguous", [True, False])
def test_distances_are_the_same_whether_told_by_column_or_by_position(contiguous):
    where = Places(jnp.arange(5)[None], jnp.ones((1, 5), jnp.int32), contiguous=contiguous)
    expected = np.arange(5)[None, None, :] - np.arange(5)[None, :, None]
    np.testing.assert_array_equal(masks.distances(where, where), expected)

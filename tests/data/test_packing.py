"""Packed rows: every example in one of them, none too full, little room left."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer.config import ConfigError
from transformer.data import packing
from transformer.data.packing import pack


def _check(rows, source, target, length):
    """Every example once; the rows' totals, [rows, 2]."""
    assert sorted(rows.examples) == list(range(len(source)))
    totals = np.stack([np.add.reduceat(side[rows.examples], rows.offsets[:-1]) for side in (source, target)], axis=1)
    assert (np.diff(rows.offsets) > 0).all()
    assert totals.max() <= length
    return totals


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 20), st.integers(1, 20)), min_size=1, max_size=150), st.integers(1, 4))
def test_every_example_is_in_one_row_and_no_row_overflows(pairs, lane_rows):
    source, target = np.array(pairs).T
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "LANE_ROWS", lane_rows)  # Several lanes even for few examples.
        rows = pack(source, target, 20, seed=1)
    _check(rows, source, target, 20)


def _lengths(count, seed=0):
    rng = np.random.default_rng(seed)
    source = np.exp(rng.normal(3.1, 0.65, count))
    target = source * np.exp(rng.normal(0.05, 0.2, count))
    return (np.clip(side.astype(np.int32), 1, 128) for side in (source, target))


def test_rows_are_nearly_full():
    source, target = _lengths(40_000)
    totals = _check(pack(source, target, 256, seed=0), source, target, 256)
    # The target is the longer side here; the source cannot fill what the target does not leave.
    assert totals[:, 1].mean() > 0.99 * 256


@pytest.mark.parametrize("longer", ["source", "target"])
def test_a_lane_that_needs_more_rows_than_planned_closes_the_fullest(longer):
    # No two fit together, so the rows are twice the number that the sum of lengths asks for.
    sides = {"source": np.ones(1000, int), "target": np.ones(1000, int)} | {longer: np.full(1000, 129)}
    rows = pack(sides["source"], sides["target"], 256, seed=0)
    _check(rows, sides["source"], sides["target"], 256)
    assert len(rows) == 1000


def test_long_rows_do_not_overflow_the_arithmetic():
    lengths = np.array([20_000, 20_000, 12_000, 12_000, 700])
    totals = _check(pack(lengths, lengths, 32_768, seed=0), lengths, lengths, 32_768)
    assert len(totals) == 2


def test_rows_follow_from_the_seed_and_the_corpus():
    source, target = _lengths(500)
    first = pack(source, target, 256, seed=5)
    assert np.array_equal(first.examples, pack(source, target, 256, seed=5).examples)
    assert not np.array_equal(first.examples, pack(source, target, 256, seed=6).examples)
    assert not np.array_equal(first.examples, pack(source, target, 256, seed=5, number=1).examples)


def test_an_example_longer_than_a_row_is_named():
    with pytest.raises(ConfigError, match="pack_length = 16: an example has 17 tokens. Raise it to 17"):
        pack(np.array([3, 17]), np.array([3, 3]), 16, seed=0)

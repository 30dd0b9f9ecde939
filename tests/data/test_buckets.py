"""Batch shapes: the cheapest there are, and every example in the first that holds it."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer.config import DataConfig
from transformer.data import buckets
from transformer.data.rows import Shape, batch_rows


def _config(**changes) -> DataConfig:
    return DataConfig(**{"batch_tokens": 12, "rows_multiple_of": 2, "num_buckets": 3} | changes)


def _tokens(chain, counts, data) -> int:
    """Tokens computed in an epoch, both sides, by looking at every example; counts: of every pair of lengths."""
    total, left = 0, dict(counts)
    for source, target in chain:
        fits = [pair for pair in left if pair[0] <= source and pair[1] <= target]
        rows = int(batch_rows(max(source, target), data))
        total += math.ceil(sum(left.pop(pair) for pair in fits) / rows) * rows * (source + target)
    assert not left
    return total


def _cheapest(counts, data) -> int:
    longest_source, longest_target = (max(side) for side in zip(*counts, strict=True))
    boxes = list(itertools.product(range(1, longest_source + 1), range(1, longest_target + 1)))
    best = math.inf
    for count in range(data.num_buckets):
        for inner in itertools.combinations(boxes[:-1], count):
            chain = [*inner, boxes[-1]]
            if all(a[0] <= b[0] and a[1] <= b[1] for a, b in itertools.pairwise(chain)):
                best = min(best, _tokens(chain, counts, data))
    return best


_PAIR = st.tuples(st.integers(1, 4), st.integers(1, 4))


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(_PAIR, st.integers(1, 40), min_size=1), st.integers(1, 3))
def test_no_chain_of_shapes_is_cheaper(counts, num_buckets):
    data = _config(num_buckets=num_buckets)
    pairs = np.array([pair for pair, count in counts.items() for _ in range(count)])
    shapes = buckets.choose_shapes(*pairs.T, np.ones(len(pairs)), data)
    chain = [(shape.source_length, shape.target_length) for shape in shapes]
    assert len(chain) <= num_buckets
    assert all(a[0] <= b[0] and a[1] <= b[1] for a, b in itertools.pairwise(chain))
    assert _tokens(chain, counts, data) == _cheapest(counts, data)


def test_weights_count_as_repetitions():
    pairs = np.array([(2, 2)] * 30 + [(4, 4)] * 30 + [(8, 8)] * 30)
    weights = np.repeat([1.0, 5.0, 2.0], 30)
    data = _config(num_buckets=2, batch_tokens=64)
    weighted = buckets.choose_shapes(*pairs.T, weights, data)
    repeated = np.repeat(pairs, weights.astype(int), axis=0)
    assert weighted == buckets.choose_shapes(*repeated.T, np.ones(len(repeated)), data)
    assert weighted != buckets.choose_shapes(*pairs.T, np.repeat([9.0, 1.0, 2.0], 30), data)


def test_fractional_weights_do_not_round_up_to_another_batch():
    # Weights that mean 6 short examples, one batch of 6, but add up to a little more in floating point.
    weights = np.concatenate([np.full(10, 0.6), [1e-12], [2.0]])
    assert weights[:11].cumsum()[-1] > 6
    lengths = np.array([4] * 11 + [8])
    data = _config(batch_tokens=24, rows_multiple_of=3)
    assert buckets.choose_shapes(lengths, lengths, weights, data) == [Shape(6, 4, 4), Shape(3, 8, 8)]


@pytest.mark.parametrize(("longest", "step"), [(1, 1), (32, 1), (33, 2), (64, 2), (128, 4), (200, 8)])
def test_the_grid_is_as_fine_as_the_lengths_allow(longest, step):
    assert buckets.grid_step(longest) == step


def test_shapes_keep_to_the_budget_and_the_multiple():
    rng = np.random.default_rng(0)
    source = rng.integers(1, 129, 5000)
    target = np.clip(source + rng.integers(-10, 30, 5000), 1, 128)
    shapes = buckets.choose_shapes(source, target, np.ones(5000), DataConfig())
    for shape in shapes:
        assert shape.rows % 8 == 0
        assert shape.rows * max(shape.source_length, shape.target_length) <= 4096
    assert (shapes[-1].source_length, shapes[-1].target_length) == (128, 128)


def test_a_shape_longer_than_the_budget_still_has_the_fewest_rows_allowed():
    assert batch_rows(5000, DataConfig(batch_tokens=4096, rows_multiple_of=8)) == 8


def test_sides_of_different_length_get_shapes_of_different_length():
    source = np.arange(1, 31).repeat(20)
    shapes = buckets.choose_shapes(source, 2 * source, np.ones(600), DataConfig())
    assert all(shape.target_length > 1.5 * shape.source_length for shape in shapes)


@given(st.lists(_PAIR, min_size=1))
def test_the_first_shape_that_holds_an_example(pairs):
    shapes = [Shape(8, 1, 2), Shape(8, 3, 2), Shape(8, 4, 4)]
    found = buckets.bucket_of(*np.array(pairs).T, shapes)
    for (source, target), index in zip(pairs, found, strict=True):
        holds = [source <= shape.source_length and target <= shape.target_length for shape in shapes]
        assert index == (holds.index(True) if any(holds) else len(shapes))


def test_a_chain_grows_only_when_an_example_is_too_long():
    shapes = [Shape(8, 4, 4), Shape(8, 8, 12)]
    assert buckets.extend_shapes(shapes, np.array([8, 1]), np.array([2, 12]), DataConfig()) == shapes
    longer = buckets.extend_shapes(shapes, np.array([3]), np.array([41]), DataConfig())
    assert longer == [*shapes, Shape(96, 8, 42)]

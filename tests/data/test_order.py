"""Orders: from the seed alone, the same for ever, and fair."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformer.data.order import Purpose, below, permutation, window
from transformer.data.rows import Pool


@given(st.integers(0, 300), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_a_permutation_has_everything_once(size, seed, time):
    assert sorted(permutation(size, seed, Purpose.ROWS, 3, time)) == list(range(size))


@pytest.mark.parametrize("bound", [1, 7, 512])
def test_a_number_below_is_any_of_them_and_always_the_same(bound):
    drawn = [below(bound, seed, Purpose.PHASE, number, 2) for seed in range(100) for number in range(100)]
    assert set(drawn) == set(range(bound))
    assert drawn[5] == below(bound, 0, Purpose.PHASE, 5, 2)


def test_each_part_of_the_key_changes_the_order():
    keys = [(0, Purpose.ROWS, 0, 0), (1, Purpose.ROWS, 0, 0), (0, Purpose.PASS, 0, 0)]
    keys += [(0, Purpose.ROWS, 1, 0), (0, Purpose.ROWS, 0, 1), (2**32 - 1, Purpose.ROWS, 0, 0)]
    orders = {tuple(permutation(50, *key)) for key in keys}
    assert len(orders) == len(keys)


def test_all_orders_are_equally_likely():
    counts = Counter(tuple(permutation(3, seed, Purpose.ROWS)) for seed in range(6000))
    assert len(counts) == 6
    # Chi-squared with 5 degrees of freedom: 25 is exceeded once in 7,000 times; the seeds are fixed.
    assert sum((count - 1000) ** 2 / 1000 for count in counts.values()) < 25


def test_orders_stay_what_they_are():
    # A run resumes with another NumPy and has to go on in the same order: these values must never change.
    assert permutation(12, 1234, Purpose.ROWS, 5, 6).tolist() == [7, 3, 6, 9, 4, 10, 2, 1, 11, 5, 0, 8]


@given(st.integers(1, 20), st.sampled_from([0.1, 0.25, 0.5, 0.7, 1.0, 1.5, 2.0, 3.3]))
def test_over_the_epochs_everything_is_taken_equally_often(size, weight):
    pool = Pool.weighted(size, weight)
    taken = np.zeros(size, int)
    for epoch in range(12):
        rows = window(pool, seed=7, number=0, epoch=epoch)
        assert len(rows) == pool.taken
        np.add.at(taken, rows, 1)
        assert taken.max() - taken.min() <= 1


def test_every_pass_has_an_order_of_its_own():
    pool = Pool.weighted(40, 0.5)
    first_halves = {tuple(sorted(window(pool, 7, 0, 2 * number))) for number in range(4)}
    assert len(first_halves) == 4


def test_a_whole_weight_takes_everything_so_often_every_epoch():
    for epoch, weight in itertools.product(range(3), (1, 2)):
        assert Counter(window(Pool.weighted(9, weight), 0, 0, epoch)) == dict.fromkeys(range(9), weight)


@pytest.mark.parametrize(("size", "weight", "taken"), [(10, 1.0, 10), (10, 0.26, 3), (3, 0.01, 1), (0, 2.0, 0)])
def test_what_an_epoch_takes_of_a_pool(size, weight, taken):
    assert Pool.weighted(size, weight) == Pool(size, taken)

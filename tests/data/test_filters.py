"""Filters: what counts as too long, uneven or seen before, and how it is reported."""

import random

import pytest

from transformer.config import DataConfig
from transformer.data.filters import FilterReport, SeenPairs, fits, within_ratio


@pytest.mark.parametrize(("ratio", "inside", "outside"), [(2.0, "a b c d", "a b c d e"), (1.5, "a b c", "a b c d")])
def test_ratio_counts_words_and_has_no_favourite_side(ratio, inside, outside):
    data = DataConfig(max_length_ratio=ratio)
    assert within_ratio("x  y", inside, data) and within_ratio(inside, "x  y", data)
    assert not within_ratio("x y", outside, data) and not within_ratio(outside, "x y", data)


def test_ratio_zero_keeps_everything():
    assert within_ratio("x", "a " * 100, DataConfig(max_length_ratio=0.0))


def test_longest_sentence_has_room_for_its_end():
    data = DataConfig(max_length=4)
    assert fits([1] * 3, [1] * 3, data)
    assert not fits([1] * 4, [1], data) and not fits([1], [1] * 4, data)


def test_report():
    report = FilterReport(kept=28_000, empty=7) + FilterReport(kept=990, empty=1, length_ratio=1_234, too_long=3)
    assert report.text() == "kept 28,990 of 30,235 pairs; dropped: 8 empty, 1,234 length ratio, 3 too long"
    assert FilterReport(kept=5).text() == "kept 5 of 5 pairs"


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_seen_pairs_agree_with_a_set(chunk):
    rng = random.Random(0)
    pairs = [(f"a{rng.randrange(20)}", f"b{rng.randrange(20)}") for _ in range(1000)]
    seen, known = SeenPairs(), set()
    for begin in range(0, len(pairs), chunk):
        for pair, new in zip(pairs[begin : begin + chunk], seen.add(pairs[begin : begin + chunk]), strict=True):
            assert new == (pair not in known)
            known.add(pair)


def test_sides_are_not_mixed_up():
    assert SeenPairs().add([("a", "b"), ("b", "a"), ("a b", ""), ("", "a b")]).all()

"""What is kept is exactly what the settings say."""

import math

import pytest

from transformer.config import CheckpointConfig
from transformer.training import retention

STEPS = [100, 200, 300, 400, 500, 600]
SCORES = {200: 20.0, 300: 35.0, 500: 30.0}


def kept(metric="bleu", scores=SCORES, **settings):
    nothing_else = {"every": 100, "keep_every": 0, "keep_best": 0, "average": 0}
    return retention.kept(STEPS, scores, CheckpointConfig(**{**nothing_else, **settings}), metric)


def test_newest():
    assert kept(keep_last=2) == {500, 600}
    assert kept(keep_last=9) == set(STEPS)


def test_as_many_as_are_averaged():
    assert kept(keep_last=1, average=3) == {400, 500, 600}
    assert kept(keep_last=2, average=1) == {500, 600}


def test_what_a_signal_saved_in_between_is_not_averaged():
    steps = [100, 200, 250, 300]
    assert retention.to_average(steps, 100, 3) == [100, 200, 300]
    assert retention.to_average(steps, 100, 9) == [100, 200, 300]
    assert retention.to_average([100, 200, 250], 100, 2) == [200, 250]
    settings = CheckpointConfig(every=100, keep_last=1, keep_best=0, average=2)
    assert retention.kept([100, 200, 250], {}, settings, "bleu") == {100, 200, 250}


def test_multiples():
    assert kept(keep_last=1, keep_every=300) == {300, 600}


def test_best_by_bleu_is_the_highest():
    assert kept(keep_last=1, keep_best=1) == {300, 600}
    assert kept(keep_last=1, keep_best=2) == {300, 500, 600}


def test_best_by_loss_is_the_lowest():
    assert kept("loss", keep_last=1, keep_best=1) == {200, 600}


def test_steps_without_the_metric_are_never_best():
    assert kept(keep_last=1, keep_best=9) == {200, 300, 500, 600}
    assert kept(scores={}, keep_last=1, keep_best=1) == {600}
    assert kept(scores={100: math.nan, 200: 1.0}, keep_last=1, keep_best=1) == {200, 600}


def test_order_of_steps_does_not_matter():
    settings = CheckpointConfig(keep_last=2, keep_best=0)
    assert retention.kept([5, 1, 3], {}, settings, "bleu") == {3, 5}


def test_of_equals_the_older_is_better():
    assert retention.best_first({3: 1.0, 1: 1.0, 2: 1.0}, "bleu") == [1, 2, 3]
    assert retention.best_first({3: 1.0, 1: 1.0, 2: 1.0}, "loss") == [1, 2, 3]


def test_unknown_metric_fails():
    with pytest.raises(KeyError):
        retention.best_first({1: 1.0}, "accuracy")

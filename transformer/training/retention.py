"""Which checkpoints stay: the newest, every Mth, and the best."""

import math
from collections.abc import Iterable, Mapping

from transformer.config import CheckpointConfig

# How a metric of `evaluation.metric` orders checkpoints.
_SIGN = {"bleu": 1.0, "loss": -1.0}


def best_first(scores: Mapping[int, float], metric: str) -> list[int]:
    """Steps from best to worst: high BLEU, low loss. Equals go by age, the older first; NaN is no score."""
    scored = [step for step, score in scores.items() if not math.isnan(score)]
    return sorted(scored, key=lambda step: (-_SIGN[metric] * scores[step], step))


def to_average(steps: Iterable[int], every: int, count: int) -> list[int]:
    """The newest `count` steps that are multiples of `every`, or the very newest; fewer where there are no more.

    A checkpoint saved in between by a signal would make the mean of a run depend on its having been interrupted.
    """
    steps = sorted(steps)
    regular = [step for step in steps if step % every == 0 or step == steps[-1]]
    return regular[max(0, len(regular) - count) :]


def kept(steps: Iterable[int], scores: Mapping[int, float], settings: CheckpointConfig, metric: str) -> set[int]:
    """Those of `steps` that `settings` keeps. `scores` has an entry only for the steps that were evaluated.

    What is to be averaged at the end is among them.
    """
    steps = sorted(steps)
    newest = steps[-settings.keep_last :]
    regular = [step for step in steps if step % settings.every == 0]
    averaged = regular[max(0, len(regular) - settings.average) :]
    periodic = [step for step in steps if settings.keep_every and step % settings.keep_every == 0]
    best = best_first(scores, metric)[: settings.keep_best]
    return {*newest, *averaged, *periodic, *best}

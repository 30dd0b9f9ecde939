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


def kept(steps: Iterable[int], scores: Mapping[int, float], settings: CheckpointConfig, metric: str) -> set[int]:
    """Those of `steps` that `settings` keeps. `scores` has an entry only for the steps that were evaluated.

    What is to be averaged at the end counts among the newest.
    """
    steps = sorted(steps)
    newest = steps[-max(settings.keep_last, settings.average) :]
    periodic = [step for step in steps if settings.keep_every and step % settings.keep_every == 0]
    best = best_first(scores, metric)[: settings.keep_best]
    return {*newest, *periodic, *best}

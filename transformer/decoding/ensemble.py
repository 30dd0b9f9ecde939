"""Several models as one: their probabilities averaged at every step."""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from transformer.decoding.step import Cache, Step


def ensemble(steps: Sequence[Step]) -> Step:
    """A step function whose next-token probabilities are the mean of those of `steps`.

    Its cache is the tuple of their caches. The vocabulary has to be the same; nothing else of the models does.

    Raises:
      ValueError: without any step function.
    """
    if not steps:
        raise ValueError("An ensemble needs at least one step function.")

    def step(
        tokens_BK: jax.Array, position: jax.Array, slots_BKT: jax.Array, caches: tuple[Cache, ...]
    ) -> tuple[jax.Array, tuple[Cache, ...]]:
        outputs = [member(tokens_BK, position, slots_BKT, cache) for member, cache in zip(steps, caches, strict=True)]
        log_probabilities = [jax.nn.log_softmax(logits_BKV) for logits_BKV, _ in outputs]
        # The mean in log space: probabilities themselves underflow.
        mean_BKV = functools.reduce(jnp.logaddexp, log_probabilities) - math.log(len(steps))
        return mean_BKV, tuple(cache for _, cache in outputs)

    return step

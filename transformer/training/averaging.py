"""The mean of several checkpoints' parameters (section 6.1: the last 5 of the base model, 20 of the big one)."""

import operator
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np


def mean(trees: Iterable[Any]) -> Any:
    """The float32 mean of trees of arrays. One of them at a time is in memory beside the running sum.

    Raises:
      ValueError: for no trees at all.
    """
    total, count = None, 0
    for tree in trees:
        tree = jax.tree.map(lambda leaf: leaf.astype(np.float32), tree)
        total = tree if total is None else jax.tree.map(operator.add, total, tree)
        count += 1
    if total is None:
        raise ValueError("There is no checkpoint to average.")
    return jax.tree.map(lambda leaf: leaf / count, total)

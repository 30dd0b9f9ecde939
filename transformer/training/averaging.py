"""The mean of several checkpoints' parameters (section 6.1: the last 5 of the base model, 20 of the big one)."""

import operator
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from transformer.training.checkpoint import CheckpointReader


def average(checkpoints: CheckpointReader, steps: Sequence[int], abstract: Any = None, subtree: str = "params") -> Any:
    """The float32 mean over `steps` of what `CheckpointReader.restore_params` gives for `abstract` and `subtree`.

    One checkpoint is in memory at a time beside the running sum.

    Raises:
      CheckpointError: if one of them is damaged or missing.
      ValueError: for no steps at all.
    """
    if not steps:
        raise ValueError("There is no checkpoint to average.")
    total = None
    for step in steps:
        params = checkpoints.restore_params(step, abstract, subtree)
        params = jax.tree.map(lambda leaf: leaf.astype(np.float32), params)
        total = params if total is None else jax.tree.map(operator.add, total, params)
    return jax.tree.map(lambda leaf: leaf / len(steps), total)

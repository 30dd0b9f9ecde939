"""What happens when the loss or the gradient is not finite. That no update is made of it, the step itself sees to."""

import dataclasses

from transformer.training.checkpoint import Checkpoints
from transformer.training.run import Run, like
from transformer.training.step import TrainState


class NonFiniteError(Exception):
    """The loss or the gradient is not finite: says at which step, and what can be done."""


def save_and_describe(
    run: Run, checkpoints: Checkpoints, bad_step: int, state: TrainState, started: int
) -> NonFiniteError:
    """Saves the state from before `bad_step`, and returns the error that ends the run.

    Args:
      bad_step: the first step that was not finite.
      state: the newest one. Under "stop" nothing but its counters has moved since the step before `bad_step`.
      started: the newest step that was started.
    """
    good_step = bad_step - 1
    checkpoints.wait()
    if good_step > (checkpoints.latest() or 0):
        skipped = int(state.skipped) - (started - good_step)
        good = dataclasses.replace(state, bad_step=like(state.bad_step, 0), skipped=like(state.skipped, skipped))
        run.save(checkpoints, good_step, good, metrics={})
        checkpoints.wait()
    layout = run.batches.layout(good_step)
    saved = f"Step {good_step} is saved in {run.workdir.checkpoints}." if good_step else "There is no step before it."
    return NonFiniteError(
        f"Step {bad_step}: the loss or the gradient is not finite. Its batch is number {good_step}: {layout.shape}, "
        f"{len(layout.examples)} examples, the first is pair {int(layout.examples[0])} of those kept for training. "
        f"{saved} Lower config.optimizer.learning_rate, set config.optimizer.clip_norm, or pass over such batches with "
        "--config.training.non_finite=skip."
    )

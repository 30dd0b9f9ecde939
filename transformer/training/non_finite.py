"""What happens when the loss or the gradient is not finite. That no update is made of it, the step itself sees to."""

import dataclasses

from transformer.training.checkpoint import Checkpoints
from transformer.training.journal import Journal
from transformer.training.run import Run, like
from transformer.training.step import Report, TrainState

# Under "skip": a run that has skipped so many steps one after the other will not recover.
GIVE_UP_AFTER = 20


class NonFiniteError(Exception):
    """The loss or the gradient is not finite: says at which step, and what can be done."""


class FiniteCheck:
    """Reads the reports of a run's steps in order, and ends it or says what was skipped, as the config wants."""

    def __init__(self, run: Run, checkpoints: Checkpoints, journal: Journal):
        self._run = run
        self._checkpoints = checkpoints
        self._journal = journal
        self._skipped_in_a_row = 0

    def __call__(self, step: int, report: Report, state: TrainState, started: int) -> None:
        """Reads what `step` reported.

        Args:
          state: the newest one.
          started: the newest step that was started.

        Raises:
          NonFiniteError: the run ends here; all before the first step that was not finite is saved.
        """
        bad_step = int(report.bad_step)
        if bad_step and self._run.config.training.non_finite == "stop":
            raise self._stopped(bad_step, state, started)
        if bad_step != step:
            self._skipped_in_a_row = 0
            return
        self._journal.say(f"warning: step {step}: the loss or the gradient is not finite; it is skipped.")
        self._skipped_in_a_row += 1
        if self._skipped_in_a_row == GIVE_UP_AFTER:
            self._save(started, state)
            raise NonFiniteError(
                f"The loss or the gradient was not finite in {GIVE_UP_AFTER} steps one after the other, the last of "
                f"them step {step}. The parameters from before are saved as step {started} in "
                f"{self._run.workdir.checkpoints}. "
                "Go on with a lower config.optimizer.learning_rate, or with config.optimizer.clip_norm set."
            )

    def _stopped(self, bad_step: int, state: TrainState, started: int) -> NonFiniteError:
        """Saves the state from before `bad_step`: nothing but the counters of `state` has moved since."""
        good_step = bad_step - 1
        skipped = int(state.skipped) - (started - good_step)
        good = dataclasses.replace(state, bad_step=like(state.bad_step, 0), skipped=like(state.skipped, skipped))
        self._save(good_step, good)
        layout = self._run.batches.layout(good_step)
        checkpoints = self._run.workdir.checkpoints
        saved = f"Step {good_step} is saved in {checkpoints}." if good_step else "There is no step before it."
        return NonFiniteError(
            f"Step {bad_step}: the loss or the gradient is not finite. Its batch is number {good_step}: "
            f"{layout.shape}, {len(layout.examples)} examples, the first is pair {int(layout.examples[0])} of those "
            f"kept for training. {saved} Lower config.optimizer.learning_rate, set config.optimizer.clip_norm, or pass "
            "over such batches with --config.training.non_finite=skip."
        )

    def _save(self, step: int, state: TrainState) -> None:
        self._checkpoints.wait()
        if step > (self._checkpoints.latest() or 0):
            self._journal.settle()
            self._run.save(self._checkpoints, step, state, metrics={})
            self._checkpoints.wait()

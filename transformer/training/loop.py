"""The training loop: from a config to a trained, scored model in a work directory."""

import collections
import dataclasses
import functools
import shlex
from pathlib import Path

import jax
from absl import logging

from transformer import sharding
from transformer.config import Config, code_flag
from transformer.evaluation.search_programs import LATE
from transformer.model.products import computed_in
from transformer.training import flops, peak
from transformer.training.compilations import Compilations
from transformer.training.finish import finish
from transformer.training.journal import open_journal, training_fields
from transformer.training.non_finite import FiniteCheck, NonFiniteError
from transformer.training.processes import StopVote
from transformer.training.profile import Profile
from transformer.training.rates import Rates
from transformer.training.run import Run
from transformer.training.step import Report
from transformer.training.stopping import StopSignal, reason_to_end
from transformer.training.summary import Summary
from transformer.training.task import task_of
from transformer.training.workdir import Workdir

__all__ = ["NonFiniteError", "train"]

# Steps the host may be ahead of the device: enough that neither waits, few enough that a bad loss is heard of soon.
AHEAD = 2


def train(config: Config, workdir: str | Path) -> Summary | None:
    """Trains to `config.training.steps`, from the newest checkpoint in `workdir` when there is one.

    Returns:
      What the run came to; None when a signal stopped it (all is saved, and the same call goes on).

    Raises:
      ConfigError, DataError, EvaluationError, WorkdirError, StorageError, CheckpointError: before anything is written,
        for what cannot work.
      StorageError, CheckpointError: an object store, or a disk, did not take what the run has to keep.
      NonFiniteError: the loss or the gradient was not finite; the state before is saved.
    """
    run = Run.open(config, Workdir(workdir))
    config, trainer = run.config, run.trainer
    with jax.set_mesh(run.mesh), run.open_checkpoints() as checkpoints, StopSignal() as stop:
        state = run.start(checkpoints)
        task = task_of(run)
        top = peak.measure(computed_in(config.model.dtype), list(run.mesh.devices.flat))
        if top.dtype != config.model.dtype:
            logging.info(
                "This processor has no instructions for %s: factors are rounded so, and multiplied in %s. "
                "--config.model.dtype=%s is about as fast here, and rounds nothing.",
                config.model.dtype,
                top.dtype,
                top.dtype,
            )
        logging.info("%s", top)

        with (
            open_journal(run.workdir, run.resume_step, config.training.steps) as journal,
            Compilations(journal.say, LATE) as compilations,
            run.open_loader() as batches,
            Profile(run.workdir.profile, run.resume_step, config.training.profile_steps) as profile,
        ):
            model_flops = functools.partial(
                flops.training_flops,
                config.model,
                run.prepared.tokenizers.target.size,
                changing=trainer.trainable.gradients,
            )
            stopping = StopVote(run.mesh, AHEAD)
            check_finite = FiniteCheck(run, checkpoints, journal)
            rates = Rates(model_flops, top.flops, journal.elapsed)
            unread: collections.deque[tuple[int, Report]] = collections.deque()
            step = run.resume_step
            ended = reason_to_end(step, journal.records, config)
            stopped = False

            while ended is None:
                # The step is only started here; the device may be a few behind.
                step += 1
                with rates.waiting():
                    batch = next(batches)
                arrays = sharding.to_global(batch, run.mesh)
                shapes = tuple(array.shape for array in batch.values())
                with (
                    compilations.watch(step, "the training step", *shapes) as warm,
                    # Tracing makes constants; after it nothing but the batch may come from the host.
                    jax.transfer_guard_host_to_device("disallow" if warm else "allow"),
                ):
                    state, report = trainer.train_step(state, arrays)
                unread.append((step, report))
                rates.step(flops.count(batch) * (run.share.count / len(run.share.blocks)))
                journal.advance()
                profile.after(step, report)

                # Reports are read late, so that the device need not wait; but all of them before anything is written.
                due = Due.after(step, config, stopping=stopping(stop.received is not None))
                while len(unread) > (0 if due.anything else AHEAD):
                    check_finite(*unread.popleft(), state, started=step)

                # One record a step: what training measured since the one before, what validation measures now.
                fields, metrics = {}, {}
                if due.log:
                    fields = training_fields(report) | rates.take()
                if due.validation:
                    with rates.paused(), compilations.watch(step, "validation"):
                        validation = task.validate(trainer.used(state))
                    metrics = validation.metrics
                    journal.show(step, validation.samples)
                if due.log or due.validation:
                    journal.write(step, fields | metrics)

                # After the record, so that a run resumed from this checkpoint has every record before it.
                if due.save:
                    with rates.paused():
                        journal.settle()  # not only written: there, whatever happens
                        run.save(checkpoints, step, state, metrics)
                # A signal during validation is heard here, not a step later.
                stopped = due.stop or (due.validation and stopping.now(stop.received is not None))
                if stopped:
                    break
                if due.validation:
                    ended = reason_to_end(step, journal.records, config)

        checkpoints.wait()
        stopped = stopped or stopping.now(stop.received is not None)
        if not stopped:
            with stop.leaving_off(stopping) as between:
                return finish(run, checkpoints, task, compilations, ended, between)
    logging.info(
        "Stopped by %s after step %s; all is saved. Go on with:\n  transformer train --workdir=%s%s",
        stop.received or "a signal to another process",
        f"{step:,}",
        shlex.quote(str(run.workdir.root)),
        code_flag(config),
    )
    return None


@dataclasses.dataclass(frozen=True)
class Due:
    """What is to be done after a step."""

    log: bool
    validation: bool
    save: bool
    stop: bool

    @classmethod
    def after(cls, step: int, config: Config, *, stopping: bool) -> "Due":
        """The last step has everything; every validation a checkpoint, which may be the best."""
        last = step == config.training.steps
        validation = last or step % config.evaluation.every == 0
        return cls(
            log=last or step % config.training.log_every == 0,
            validation=validation,
            save=validation or stopping or step % config.checkpoint.every == 0,
            stop=stopping,
        )

    @property
    def anything(self) -> bool:
        return self.log or self.save

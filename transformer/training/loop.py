"""The training loop: from a config to a trained, scored model in a work directory."""

import collections
import dataclasses
import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
from absl import logging
from jax.sharding import Mesh

from transformer import config as config_module
from transformer import sharding
from transformer.config import Config
from transformer.data.batches import Batches, WeightedStore, training_batches
from transformer.data.loader import Loader
from transformer.data.prepare import Prepared, prepare
from transformer.data.progress import ProgressBar
from transformer.data.tokenizer import Tokenizers
from transformer.evaluation.search import Search
from transformer.model import blueprint as blueprint_module
from transformer.model.blueprint import Blueprint, Params
from transformer.training import flops, metrics_log, peak
from transformer.training.checkpoint import Checkpoints
from transformer.training.compilations import Compilations
from transformer.training.finish import finish
from transformer.training.metrics_log import MetricsLog
from transformer.training.profile import Profile
from transformer.training.progress import Progress
from transformer.training.rates import Rates
from transformer.training.samples import as_markdown, as_text
from transformer.training.step import Report, Trainer, TrainState
from transformer.training.stopping import StopSignal, metric_field, out_of_patience
from transformer.training.summary import Summary
from transformer.training.tensorboard_log import TensorBoardLog
from transformer.training.validation import Validator
from transformer.training.workdir import Workdir

# Steps the host may be ahead of the device: enough that neither waits, few enough that a bad loss is heard of soon.
AHEAD = 2


class NonFiniteError(Exception):
    """The loss or the gradient stopped being finite: says at which step, and what can be done."""


def train(config: Config, workdir: str) -> Summary | None:
    """Trains to `config.training.steps`, from the newest checkpoint in `workdir` when there is one.

    Returns:
      What the run came to; None when a signal stopped it (all is saved, and the same call goes on).

    Raises:
      ConfigError, DataError: before anything is written, for what cannot work.
      NonFiniteError: the loss or the gradient was not finite; the state before is saved.
    """
    run = Run.open(config, Workdir(Path(workdir)))
    with jax.set_mesh(run.mesh), Checkpoints(
        run.workdir.checkpoints, config.checkpoint, metric=metric_field(config.evaluation).removeprefix("val/")
    ) as checkpoints:
        return run.train(checkpoints)


@dataclasses.dataclass(frozen=True)
class Run:
    """Everything a run is made of, ready to step."""

    config: Config
    workdir: Workdir
    mesh: Mesh
    prepared: Prepared
    batches: Batches
    trainer: Trainer
    resume_step: int  # 0: from the start

    @classmethod
    def open(cls, config: Config, workdir: Workdir) -> "Run":
        """Checks all that can be checked, prepares the data, and only then creates the work directory."""
        config = config_module.validate(config)
        mesh = sharding.make_mesh(config.mesh)
        sharding.check_batch(mesh, config.data.rows_multiple_of, config.training.accumulate)
        saved = _newest(workdir, config)
        tokenizers = None if saved is None else Tokenizers.from_files(saved.tokenizer_files)
        with ProgressBar() as progress:
            prepared = prepare(config, tokenizers=tokenizers, progress=progress)
        logging.info("%s", prepared.summary())

        sizes = (prepared.tokenizers.source.size, prepared.tokenizers.target.size)
        sharding.check_model(mesh, config.model.d_model, sizes)
        batches = training_batches(
            [WeightedStore(corpus.store, corpus.weight) for corpus in prepared.train], config.data, config.seed
        )
        logging.info("%s", batches.statistics)
        blueprint = Blueprint.of(config.model, *sizes)
        logging.info(
            "%s parameters; mesh %s", f"{blueprint_module.count(blueprint.shapes()):,}", dict(mesh.shape)
        )
        workdir.create()
        workdir.write_config(config)
        trainer = Trainer.of(config, blueprint, mesh)
        return cls(config, workdir, mesh, prepared, batches, trainer, 0 if saved is None else saved.step)

    def train(self, checkpoints: Checkpoints) -> Summary | None:
        """Makes the steps that are left, then scores the result."""
        config, trainer = self.config, self.trainer
        state = self._start_state(checkpoints)
        records = metrics_log.read(self.workdir.metrics) if self.resume_step and self.workdir.metrics.exists() else []
        records = [record for record in records if record["step"] <= self.resume_step]
        search = Search(trainer.blueprint, self.mesh)
        validate = Validator(trainer, self.prepared.validation, self.prepared.tokenizers, search, self.batches.shapes)
        top = peak.measure(config.model.dtype, list(self.mesh.devices.flat))
        logging.info("%s", top)

        with (
            StopSignal() as stop,
            MetricsLog(self.workdir.metrics, self.resume_step) as log,
            TensorBoardLog(self.workdir.tensorboard, self.resume_step) as board,
            Progress(config.training.steps, self.resume_step) as progress,
            Compilations(progress.say) as compilations,
            Loader(
                self.batches,
                self.resume_step,
                config.training.steps,
                read_ahead=config.data.read_ahead,
                process_index=jax.process_index(),
                process_count=jax.process_count(),
            ) as batches,
            Profile(self.workdir.profile, self.resume_step, config.training.profile_steps) as profile,
        ):
            model_flops = functools.partial(
                flops.training_flops, config.model, self.prepared.tokenizers.target.size
            )
            elapsed = next((r["time/elapsed_s"] for r in reversed(records) if "time/elapsed_s" in r), 0.0)
            rates = Rates(model_flops, top.flops, elapsed)
            pending: collections.deque[tuple[int, Report]] = collections.deque()
            reason = "all steps were done before" if self.resume_step >= config.training.steps else "all steps done"
            if out_of_patience(records, config.evaluation):
                reason, last = "validation did not get better", self.resume_step
            else:
                last = config.training.steps

            for step in range(self.resume_step + 1, last + 1):
                with rates.waiting():
                    batch = next(batches)
                shapes = (batch["source"].shape, batch["targets"].shape)
                with compilations.watch(step, "the training step", shapes):
                    state, report = trainer.train_step(state, sharding.to_global(batch, self.mesh))
                pending.append((step, report))
                rates.step(flops.count(batch))
                progress.advance()
                profile.after(step, report)

                # The device is ahead of what is read here, so reading does not make it wait.
                if len(pending) > AHEAD:
                    self._check_finite(*pending.popleft(), state, checkpoints, progress)

                at_end = step == config.training.steps
                validates = at_end or step % config.evaluation.every == 0
                logs = at_end or step % config.training.log_every == 0
                stops = stop.received is not None
                saves = at_end or validates or stops or step % config.checkpoint.every == 0
                if not (logs or saves):
                    continue

                while pending:
                    self._check_finite(*pending.popleft(), state, checkpoints, progress)
                values = {}
                if logs:
                    values |= _means(report.window) | {
                        "train/learning_rate": float(trainer.schedule(jnp.int32(step - 1 - int(report.skipped)))),
                        "train/skipped": int(report.skipped),
                    }
                    values |= rates.take()
                metrics = {}
                if validates:
                    with rates.paused(), compilations.watch(step, "validation"):
                        validation = validate(_decoding_params(state))
                    metrics = validation.metrics
                    values |= metrics
                    if validation.samples:
                        progress.say(as_text(validation.samples))
                        board.text("samples", as_markdown(validation.samples), step)
                if values:
                    record = log.append(step, values)
                    records.append(record)
                    board.scalars(record)
                    progress.report(record)
                # After the log, so that a run resumed from this checkpoint has every line before it.
                if saves:
                    with rates.paused():
                        self._save(checkpoints, step, state, metrics)
                if stops:
                    checkpoints.wait()
                    progress.say(
                        f"Stopped by {stop.received} after step {step:,}; all is saved. Go on with:\n"
                        f"  transformer train --workdir={self.workdir.root}"
                    )
                    return None
                if validates and out_of_patience(records, config.evaluation):
                    reason = f"no better {metric_field(config.evaluation)} in {config.evaluation.patience} validations"
                    break
        checkpoints.wait()
        return finish(self, checkpoints, search, rates, compilations, reason)

    # --- parts ---

    def _start_state(self, checkpoints: Checkpoints) -> TrainState:
        if not self.resume_step:
            return self.trainer.init()
        restored = checkpoints.restore(self.trainer.abstract_state(), self.resume_step)
        logging.info("Resuming from step %d in %s.", restored.step, self.workdir.checkpoints)
        return restored.state

    def _save(self, checkpoints: Checkpoints, step: int, state: TrainState, metrics: dict[str, float]) -> None:
        checkpoints.save(
            step,
            state,
            data_position={"next_index": step},
            config_json=config_module.to_json(self.config),
            tokenizer_files=self.prepared.tokenizers.to_files(),
            metrics={name.removeprefix("val/"): value for name, value in metrics.items()},
        )

    def _check_finite(
        self, step: int, report: Report, state: TrainState, checkpoints: Checkpoints, progress: Progress
    ) -> None:
        """Waits for a step's report. Under "stop", ends the run if its loss or gradient was not finite."""
        bad_step = int(report.bad_step)
        if not bad_step or self.config.training.non_finite == "skip":
            if bad_step == step:
                progress.say(f"warning: step {step}: the loss or the gradient is not finite; its update is skipped.")
            return
        # The state has not moved since the step before.
        good = dataclasses.replace(state, bad_step=state.bad_step * 0, skipped=state.skipped * 0)
        if bad_step - 1 > (checkpoints.latest() or 0):
            self._save(checkpoints, bad_step - 1, good, {})
            checkpoints.wait()
        batch = self.batches.layout(bad_step - 1)
        raise NonFiniteError(
            f"Step {bad_step}: the loss or the gradient is not finite. The batch is number {bad_step - 1} "
            f"({len(batch.examples)} examples, the first is {int(batch.examples[0])}, shape {batch.shape}). "
            f"The state of step {bad_step - 1} is saved in {self.workdir.checkpoints}. Lower "
            "config.optimizer.learning_rate, set config.optimizer.clip_norm, or pass over such batches with "
            "--config.training.non_finite=skip."
        )


def _newest(workdir: Workdir, config: Config):
    """The newest sound checkpoint's small files; None for a fresh run. Says which settings changed since."""
    checkpoints = Checkpoints(workdir.checkpoints, config.checkpoint, metric="loss")
    if not checkpoints.steps():
        return None
    saved = checkpoints.read_metadata()
    before, now = json.loads(saved.config_json), dataclasses.asdict(config)
    for info in config_module.fields():
        old, new = (functools.reduce(dict.__getitem__, info.name.split("."), tree) for tree in (before, now))
        if old != (list(new) if isinstance(new, tuple) else new):
            logging.info("config.%s was %r when step %d was saved, now it is %r.", info.name, old, saved.step, new)
    return saved


def _decoding_params(state: TrainState) -> Params:
    return state.params if state.ema is None else state.ema


def _means(window) -> dict[str, float]:
    tokens = int(window.sums.tokens)
    return {
        "train/loss": float(window.sums.loss) / tokens,
        "train/nll": float(window.sums.nll) / tokens,
        "train/accuracy": int(window.sums.correct) / tokens,
        "train/gradient_norm": float(window.gradient_norms) / int(window.steps),
        "train/target_tokens": tokens,
        "train/source_tokens": int(window.source_tokens),
    }

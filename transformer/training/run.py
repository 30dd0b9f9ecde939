"""What a run is made of: checked and put together before its first step, saved and restored."""

import dataclasses
from collections.abc import Mapping

import jax
import numpy as np
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
from transformer.evaluation.scores import bleu_metric
from transformer.model import kernel_choice
from transformer.model.attention import attention_class
from transformer.model.blueprint import Blueprint
from transformer.training import processes, resume, storage
from transformer.training.checkpoint import CheckpointReader, Checkpoints, check_place
from transformer.training.metadata import Metadata
from transformer.training.origin import Origin
from transformer.training.sizes import Sizes
from transformer.training.step import Trainer, TrainState
from transformer.training.stopping import checkpoint_metric
from transformer.training.taken_over import warn_of_what_stays
from transformer.training.trainable import Trainable
from transformer.training.workdir import Workdir, WorkdirError


@dataclasses.dataclass(frozen=True)
class Run:
    """A config, and everything that follows from it."""

    config: Config
    workdir: Workdir
    mesh: Mesh
    prepared: Prepared
    batches: Batches
    trainer: Trainer
    resume_step: int  # 0: from the start
    origin: Origin | None  # where a run that is not resumed starts from

    @classmethod
    def open(cls, config: Config, workdir: Workdir) -> "Run":
        """Checks all that can be checked, and prepares the data. The work directory is only read.

        Raises:
          ConfigError, DataError, EvaluationError, WorkdirError, CheckpointError, ProcessesDifferError: for what cannot
            work.
        """
        config = config_module.validate(config)
        workdir.check()
        check_place(workdir.checkpoints)
        if config.model.architecture == "encoder_decoder":
            bleu_metric(config.data.target_language)
        attention_class(config.model)
        mesh = sharding.make_mesh(config.mesh)
        sharding.check_batch(mesh, config.data, config.training.parts)
        kernel_choice.check(config.model, sharding.platform_of(mesh))
        Trainable.of(config.transfer, _any_blueprint(config))  # before the data is prepared
        saved = _newest(workdir)
        _check_alike(config, workdir, saved)
        if saved is not None:
            resume.check_settings(saved, config)
        tokenizers = None if saved is None else Tokenizers.from_files(saved.tokenizer_files)
        origin = _origin(config) if saved is None and config.transfer.init_from else None
        if origin is not None:
            tokenizers = origin.vocabulary(config.model)
        sharding.check_model(mesh, config.model, _known_sizes(config, tokenizers))
        if saved is not None and tokenizers is not None:
            resume.check_arrays(saved, config, (tokenizers.source.size, tokenizers.target.size), mesh)
        prepared = _prepare(config, tokenizers)
        logging.info("%s", prepared.summary())

        corpora = [WeightedStore(corpus.store, corpus.weight) for corpus in prepared.train]
        batches = training_batches(corpora, config.data, config.seed)
        logging.info("%s", batches.statistics)
        _warn_of_small_batches(config)
        processes.check_same(
            "The prepared training data",
            f"{batches.fingerprint} {sorted(prepared.tokenizers.to_files().items())}",
            "Put the same files on every host, or the text and config.data.cache_dir on a disk that all of them see.",
        )
        if saved is not None:
            resume.check_examples(saved, batches)
        sizes = (prepared.tokenizers.source.size, prepared.tokenizers.target.size)
        sharding.check_model(mesh, config.model, sizes)
        blueprint = Blueprint.of(config.model, *sizes)
        logging.info("%s", kernel_choice.explain(config.model, sharding.platform_of(mesh)))
        trainer = Trainer.of(config, blueprint, mesh)
        logging.info("%s; mesh %s", Sizes.of(trainer), dict(mesh.shape))
        if saved is None:
            kept = {} if origin is None else origin.kept(blueprint, prepared.tokenizers)
            warn_of_what_stays(trainer.trainable, kept)
        resume_step = 0 if saved is None else saved.data_position["next_index"]
        return cls(config, workdir, mesh, prepared, batches, trainer, resume_step, origin)

    @property
    def share(self) -> sharding.Share:
        """The rows of every batch that this process loads."""
        return sharding.data_share(self.mesh)

    def open_checkpoints(self) -> Checkpoints:
        """Where this run saves; open while it trains."""
        metric = checkpoint_metric(self.config.evaluation)
        return Checkpoints(self.workdir.checkpoints, self.config.checkpoint, metric=metric)

    def open_loader(self) -> Loader:
        """This process' rows of the batches that are left. The position in the data is the step."""
        return Loader(
            self.batches,
            self.resume_step,
            max(self.resume_step, self.config.training.steps),
            read_ahead=self.config.data.read_ahead,
            blocks=self.share.blocks,
            count=self.share.count,
        )

    def start(self, checkpoints: Checkpoints) -> TrainState:
        """The state to go on from; with it nothing can fail any more, and the config is written.

        Raises:
          CheckpointError: the checkpoint does not fit the config.
          WorkdirError: the work directory cannot be written to.
          ProcessesDifferError: it is not the same one for all processes.
        """
        state = self._restored(checkpoints) if self.resume_step else self._begun()
        if processes.speaks():
            self.workdir.create()
            self.workdir.write_config(self.config)
        processes.wait_for_all("the work directory")
        if not storage.in_store(self.workdir.root):  # a bucket is the same for all
            processes.check_shared(self.workdir.root, _SHARE)
        return state

    def save(self, checkpoints: Checkpoints, step: int, state: TrainState, metrics: Mapping[str, float]) -> None:
        """Begins to save; `metrics` are fields of the log."""
        checkpoints.save(
            step,
            state,
            data_position={"next_index": step, "examples": self.batches.fingerprint},
            config_json=config_module.to_json(self.config),
            tokenizer_files=self.prepared.tokenizers.to_files(),
            metrics={name.removeprefix("val/"): value for name, value in metrics.items()},
        )

    def _begun(self) -> TrainState:
        if self.origin is None:
            return self.trainer.init()
        tokenizers = self.prepared.tokenizers
        return self.trainer.init(lambda fresh: self.origin.take_over(fresh, self.trainer.blueprint, tokenizers))

    def _restored(self, checkpoints: Checkpoints) -> TrainState:
        state = checkpoints.restore(self.trainer.abstract_state(), self.resume_step).state
        logging.info("Resuming from step %d in %s.", self.resume_step, self.workdir.checkpoints)
        if self.config.training.non_finite == "stop":
            # A batch that was passed over under "skip" is no reason to stop now.
            state = dataclasses.replace(state, bad_step=like(state.bad_step, 0))
        return state


def like(scalar: jax.Array, value: int) -> jax.Array:
    """`value` where and as `scalar` is, so that nothing is compiled anew for it."""
    return jax.device_put(np.asarray(value, scalar.dtype), scalar.sharding)


def _newest(workdir: Workdir) -> Metadata | None:
    """The newest sound checkpoint's small files; None for a fresh run."""
    reader = CheckpointReader(workdir.checkpoints)
    if reader.steps():
        newest = reader.read_metadata()
        if "next_index" not in newest.data_position:
            raise WorkdirError(
                f"--workdir={workdir.root} holds parameters alone, as `transformer merge` writes them: no training "
                f"to go on with. Start another run from it with --config.transfer.init_from={workdir.root}"
            )
        return newest
    for step in reader.cut_short():
        logging.warning("%s has no manifest: its save was cut short. It is not used, and removed.", reader.path(step))
    return None


def _origin(config: Config) -> Origin:
    """The run to start from, which is known to fit."""
    origin = Origin.open(config.transfer)
    processes.check_same("The checkpoint to start from", str(origin.saved.path), "Let every host see the same files.")
    origin.plan(_any_blueprint(config))
    origin.warn_of_another_model(config.model)
    return origin


def _any_blueprint(config: Config) -> Blueprint:
    """The model with a vocabulary of any size, as far as its parameters' names go."""
    return Blueprint.of(config.model, 1, 1)


_SHARE = "Put --workdir on a disk that all hosts see, such as an NFS share, or in a bucket."


def _check_alike(config: Config, workdir: Workdir, saved: Metadata | None) -> None:
    """Raises ProcessesDifferError where processes would go different ways from here."""
    processes.check_same("--workdir", str(workdir.root), "Give every process the same.")
    processes.check_same("The config", config_module.to_json(config), "Give every process the same flags.")
    newest = "none" if saved is None else f"step {saved.step}"
    processes.check_same(f"The newest checkpoint in {workdir.checkpoints}", newest, _SHARE)


def _prepare(config: Config, tokenizers: Tokenizers | None) -> Prepared:
    try:
        if not processes.speaks():
            return prepare(config, tokenizers=tokenizers)
        with ProgressBar() as progress:
            return prepare(config, tokenizers=tokenizers, progress=progress)
    except KeyboardInterrupt:
        logging.info("Stopped while the data was prepared. The same command goes on where it stopped.")
        raise


# Of the paper's 25,000 tokens a side (section 5.1).
_SMALL_BATCH = 12_500


def _warn_of_small_batches(config: Config) -> None:
    if config.optimizer.schedule == "paper" and config.data.batch_tokens < _SMALL_BATCH:
        logging.warning(
            "The paper's schedule is for batches of 25,000 tokens a side; config.data.batch_tokens is %s. With so few "
            "runs commonly stay 2 to 13 BLEU below the paper's. Raise it, with config.training.accumulate if memory "
            "does not allow, or choose another config.optimizer.schedule.",
            f"{config.data.batch_tokens:,}",
        )


def _known_sizes(config: Config, tokenizers: Tokenizers | None) -> tuple[int, ...]:
    """The vocabularies' sizes as far as they are known before the data is prepared."""
    if tokenizers is not None:
        return (tokenizers.source.size, tokenizers.target.size)
    known = config.tokenizer.known_size
    return () if known is None else (known,)

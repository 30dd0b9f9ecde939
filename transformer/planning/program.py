"""The training step of a config, compiled for devices that need not be there. No text is read, nothing computed."""

import contextlib
import dataclasses
import re
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from transformer import config as config_module
from transformer import sharding
from transformer.config import Config
from transformer.data.rows import Shape, batch_rows
from transformer.model import kernel_choice
from transformer.model.attention import attention_class
from transformer.model.blueprint import Blueprint
from transformer.planning.errors import DoesNotFitError, PlanError
from transformer.planning.memory import advice, of_packed_rows, on_a_chip
from transformer.training.parts import parts_of
from transformer.training.step import Trainer, TrainState

_OF_SOURCE = ("source", "source_segments", "source_positions")
_OF_TARGET = ("target_inputs", "targets", "target_segments", "target_positions")
_OF_DOCUMENTS = (*_OF_TARGET, "target_prompt")


@dataclasses.dataclass(frozen=True)
class Task:
    """A config on a mesh, checked, before it is compiled.

    Attributes:
      shape: of the batch planned with: the longest, or that of packed rows.
    """

    config: Config
    mesh: Mesh
    shape: Shape
    trainer: Trainer

    @classmethod
    def of(cls, config: Config, devices: list[jax.Device]) -> "Task":
        """Raises ConfigError for what no run could be made of either."""
        config = config_module.validate(config)
        attention_class(config.model)
        mesh = sharding.make_mesh(config.mesh, devices)
        sharding.check_batch(mesh, config.data, config.training.parts)
        kernel_choice.check(config.model, sharding.platform_of(mesh))
        sizes = vocabulary(config)
        sharding.check_model(mesh, config.model, sizes)
        shape = longest_shape(config)
        # As the step will find it, so that advice can name more.
        own = shape.rows // sharding.row_shards(mesh), shape.target_length // mesh.shape["sequence"]
        training = dataclasses.replace(config.training, accumulate=parts_of(config, mesh, *own))
        config = dataclasses.replace(config, training=training)
        trainer = Trainer.of(config, Blueprint.of(config.model, *sizes), mesh)
        return cls(config, mesh, shape, trainer)

    @property
    def splits(self) -> bool:
        """Whether there are devices with memory of their own to split parameters over. Those of a CPU share it."""
        return self.mesh.size > 1 and sharding.platform_of(self.mesh) != "cpu"

    def batch(self) -> dict[str, jax.ShapeDtypeStruct]:
        """The arrays of a batch without values."""
        where = NamedSharding(self.mesh, sharding.USED.spec(("batch", "length")))

        def arrays(names: tuple[str, ...], length: int) -> dict[str, jax.ShapeDtypeStruct]:
            return {name: jax.ShapeDtypeStruct((self.shape.rows, length), np.int32, sharding=where) for name in names}

        if self.config.model.architecture == "language_model":
            return arrays(_OF_DOCUMENTS, self.shape.target_length)
        return arrays(_OF_SOURCE, self.shape.source_length) | arrays(_OF_TARGET, self.shape.target_length)

    def compile(self) -> "CompiledStep":
        """Takes a TPU's compiler a minute or two.

        Raises:
          DoesNotFitError: it needs more memory than there is.
          PlanError: the compiler refuses for another reason.
        """
        # Before the mesh is set: what is computed on the way would be put on its devices, which are not there.
        state, step = self.trainer.abstract_state(), self.trainer.train_step
        with jax.set_mesh(self.mesh):
            lowered = step.lower(state, self.batch())
        try:
            with _nothing_cached():
                compiled = lowered.compile()
        except jax.errors.JaxRuntimeError as error:
            fixed = on_a_chip((state.params, state.optimizer, state.ema))
            raise _refusal(error, self.config, fixed, splits=self.splits) from error
        return CompiledStep(state, compiled.as_text(), compiled.memory_analysis())


@contextlib.contextmanager
def _nothing_cached() -> Iterator[None]:
    """Without a TPU, JAX can write a program for one into its cache, but not read it again."""
    before = jax.config.jax_persistent_cache_min_compile_time_secs
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1e9)
    try:
        yield
    finally:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", before)


@dataclasses.dataclass(frozen=True)
class CompiledStep:
    """What the compiler made of it: the state's shapes and shardings, the program's text and its sizes in memory."""

    state: TrainState
    text: str
    sizes: Any  # XLA's CompiledMemoryStats


# "Used 23.4G of 15.75G hbm", and "(49.02G) exceeds available HBM (15.75G)".
_TOO_MUCH = (
    re.compile(r"Used ([\d.]+)([KMGT]) of ([\d.]+)([KMGT]) hbm"),
    re.compile(r"\(([\d.]+)([KMGT])\) exceeds available HBM \(([\d.]+)([KMGT])\)"),
)
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def _refusal(error: Exception, config: Config, fixed: int, *, splits: bool = True) -> PlanError:
    for pattern in _TOO_MUCH:
        match = pattern.search(str(error))
        if match:
            needed, unit, available, unit_available = match.groups()
            needed, available = float(needed) * _UNITS[unit], float(available) * _UNITS[unit_available]
            helpful = advice(config, fixed, needed - fixed, available, splits=splits)
            return DoesNotFitError(needed, available, fixed, helpful)
    return PlanError(f"The compiler refuses the step: {error}")


def vocabulary(config: Config) -> tuple[int, int]:
    """Pieces of the source and of the target, as the config asks for; where it cannot tell, tokenizer.vocab_size."""
    asked = config.tokenizer.vocab_size if vocabulary_from(config) else config.tokenizer.known_size
    return asked, asked


def vocabulary_from(config: Config) -> str | None:
    """What decides how many pieces a run has, which a plan does not read; None: the config alone."""
    if config.transfer.init_from is not None and config.transfer.vocabulary == "same":
        return f"transfer.init_from = {config.transfer.init_from}"
    if config.tokenizer.model is not None:
        return f"tokenizer.model = {config.tokenizer.model}"
    return "the characters of the training text" if config.tokenizer.known_size is None else None


def longest_shape(config: Config) -> Shape:
    """Of the shapes the batches of a run have, the largest: a step of it needs the most memory.

    But for a CPU, which takes batches in parts by itself: there one whose rows divide badly may need more.
    """
    data, alone = config.data, config.model.architecture == "language_model"
    length = data.pack_length if of_packed_rows(config) else data.max_length
    length = -(-length // data.lengths_multiple_of) * data.lengths_multiple_of
    return Shape(int(batch_rows(length, data)), 0 if alone else length, length)

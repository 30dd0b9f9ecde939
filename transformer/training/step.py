"""The training step: state and batch in, state out, one jitted and donated function.

Letters: B rows of a batch, A parts it is split into.
"""

import dataclasses
import functools
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from absl import logging
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from transformer import sharding
from transformer.config import Config
from transformer.model.blueprint import Blueprint, Params, matrices
from transformer.model.dropout import DropoutKey
from transformer.model.products import compiler_options
from transformer.model.transformer import Batch
from transformer.training.loss import LossSums, smoothed_cross_entropy
from transformer.training.optimizer import make_optimizer, make_schedule
from transformer.training.parts import parts_of
from transformer.training.trainable import Trainable


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Window:
    """Sums since the last line of the metrics log. They live in the state so that a resumed run logs the same means."""

    sums: LossSums
    source_tokens: jax.Array  # int32
    gradient_norms: jax.Array  # sum over steps, float32
    steps: jax.Array  # int32

    @classmethod
    def empty(cls) -> "Window":
        zero, none = jnp.float32(0), jnp.int32(0)
        return cls(LossSums(zero, zero, none, none), none, zero, none)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """All that a step changes, as one pytree of arrays: what a checkpoint holds."""

    step: jax.Array  # int32: batches consumed
    params: Params  # the model's and those of adapters, see `trainable`
    optimizer: Any  # of what trains
    ema: Params | None  # of what trains
    window: Window
    bad_step: jax.Array  # int32: the step whose loss or gradient was not finite (the last such, when skipping); 0: none
    skipped: jax.Array  # int32: steps whose update was not made


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Report:
    """What the host may read of a step at any time: copies, which later steps do not overwrite."""

    window: Window
    learning_rate: jax.Array  # of this step's update
    bad_step: jax.Array
    skipped: jax.Array


@dataclasses.dataclass(frozen=True)
class Trainer:
    """The functions of a run. `state_shardings` says where every array of the state is stored."""

    blueprint: Blueprint
    config: Config
    mesh: Mesh
    trainable: Trainable
    schedule: Callable[[jax.Array], jax.Array]
    optimizer: optax.GradientTransformation

    @classmethod
    def of(cls, config: Config, blueprint: Blueprint, mesh: Mesh) -> "Trainer":
        trainable = Trainable.of(config.transfer, blueprint)
        schedule = make_schedule(config.optimizer, config.model.d_model, config.training.steps)
        optimizer = make_optimizer(config.optimizer, schedule, matrices(trainable.trained_axes(blueprint.names())))
        return cls(blueprint, config, mesh, trainable, schedule, optimizer)

    def init(self, change: Callable[[Params], Params] = lambda params: params) -> TrainState:
        """The state before the first step, on the mesh.

        Args:
          change: puts other parameters in the place of the model's fresh ones.
        """
        params = change(self.blueprint.init(self.config.seed, self.config.model, self.mesh))
        return jax.jit(self._around, out_shardings=self.state_shardings())(params)

    def abstract_state(self) -> TrainState:
        """The state's shapes, types and shardings without values: what a checkpoint is restored into."""
        shapes = jax.eval_shape(self._around, self.blueprint.shapes())
        return jax.tree.map(
            lambda shape, where: jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=where),
            shapes,
            self.state_shardings(),
        )

    def state_shardings(self) -> TrainState:
        """Moments and averages lie where their parameter lies; scalars everywhere."""
        everywhere = self._everywhere
        names = self.blueprint.names()
        params = sharding.stored_shardings(self.mesh, self.trainable.axes(names))
        trained = sharding.stored_shardings(self.mesh, self.trainable.trained_axes(names))
        shapes = jax.eval_shape(self._around, self.blueprint.shapes())
        optimizer = optax.tree.map_params(
            self.optimizer, lambda _, where: where, shapes.optimizer, trained, transform_non_params=lambda _: everywhere
        )
        rest = jax.tree.map(lambda _: everywhere, dataclasses.replace(shapes, params=None, optimizer=None, ema=None))
        ema = None if shapes.ema is None else trained
        return dataclasses.replace(rest, params=params, optimizer=optimizer, ema=ema)

    def _around(self, params: Params) -> TrainState:
        """The state before the first step, of the model's parameters."""
        transfer = self.config.transfer
        params = self.trainable.with_adapters(params, self.blueprint.names(), transfer.lora_rank, self.config.seed)
        trained = self.trainable.trained(params)
        ema = jax.tree.map(jnp.copy, trained) if self.config.training.ema_decay else None
        zero = jnp.int32(0)
        return TrainState(zero, params, self.optimizer.init(trained), ema, Window.empty(), zero, zero)

    def used(self, state: TrainState) -> Params:
        """The model's parameters to be judged and translated with: averaged where the run averages, adapters added."""
        if self.trainable.is_all:
            return state.params if state.ema is None else state.ema
        return self.trainable.model(state.params, self._changing(state.params, state.ema))

    @functools.cached_property
    def _changing(self) -> Callable[[Params, Params | None], Params]:
        def changing(params: Params, ema: Params | None) -> Params:
            return self.trainable.changing(params, self.trainable.trained(params) if ema is None else ema)

        names = self.trainable.changing_axes(self.blueprint.names())
        return jax.jit(changing, out_shardings=sharding.stored_shardings(self.mesh, names))

    @functools.cached_property
    def train_step(self) -> Callable[[TrainState, Batch], tuple[TrainState, Report]]:
        """One update. The state given is donated: it must not be used again.

        On a CPU it cannot be called within another `jax.jit`: it has options of its own for the compiler.
        """
        return jax.jit(
            self._train_step,
            donate_argnums=0,
            out_shardings=(self.state_shardings(), None),
            compiler_options=compiler_options(sharding.platform_of(self.mesh), os.environ.get("XLA_FLAGS", "")),
        )

    @functools.cached_property
    def loss_step(self) -> Callable[[Params, Batch, LossSums], LossSums]:
        """The loss sums of a validation batch, without dropout, added to others: see `no_loss`.

        To add them up outside took a CPU as long as to compute them, for a small model.
        """
        return jax.jit(
            lambda params, batch, before: before + self._loss_sums(params, batch, None), out_shardings=self._everywhere
        )

    @functools.cached_property
    def no_loss(self) -> Callable[[], LossSums]:
        """Zeros, on the mesh."""
        return jax.jit(lambda: Window.empty().sums, out_shardings=self._everywhere)

    @property
    def _everywhere(self) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec())

    def _train_step(self, state: TrainState, batch: Batch) -> tuple[TrainState, Report]:
        gradients, sums = self._gradients(state, batch)
        gradients = jax.tree.map(lambda gradient: gradient / jnp.maximum(sums.tokens, 1), gradients)
        gradient_norm = optax.tree.norm(gradients)

        # The update is made everywhere or nowhere. Under "stop" nothing moves after the first bad step either, so that
        # the state saved is the one before it, however late the host hears of it.
        finite = jnp.isfinite(sums.loss) & jnp.isfinite(gradient_norm)
        stop = self.config.training.non_finite == "stop"
        keep = finite | (state.bad_step > 0) if stop else finite
        bad_step = jnp.where(keep, state.bad_step, state.step + 1)
        update = (bad_step == 0) if stop else finite

        trained = self.trainable.trained(state.params)
        updates, optimizer = self.optimizer.update(gradients, state.optimizer, trained, made=update)
        before = self._window_before(state)
        updates_before = state.step - state.skipped

        def choose(new: Any, old: Any) -> Any:
            return jax.tree.map(lambda new, old: jnp.where(update, new, old), new, old)

        new_trained = choose(optax.apply_updates(trained, updates), trained)
        new = TrainState(
            step=state.step + (update.astype(jnp.int32) if stop else 1),
            params=self.trainable.joined(state.params, new_trained),
            optimizer=optimizer,
            ema=choose(self._averaged(state.ema, new_trained, updates_before), state.ema),
            window=choose(_added(before, sums, batch, gradient_norm), before),
            bad_step=bad_step,
            skipped=state.skipped + jnp.where(update, 0, 1),
        )
        return new, Report(new.window, self.schedule(updates_before), new.bad_step, new.skipped)

    def _gradients(self, state: TrainState, batch: Batch) -> tuple[Params, LossSums]:
        """Gradients of the summed loss for what trains, and the sums, over the parts of the batch in turn."""
        shapes = [sharding.shard_shape(batch[side]) for side in ("source", "targets") if side in batch]
        parts = parts_of(self.config, self.mesh, *max(shapes))
        batch_size = batch["targets"].shape[0]
        if parts > 1 and self.config.training.accumulate is None:
            logging.info("Batches of %s rows are taken in %s parts, for less memory.", batch_size, parts)
        rows_B = sharding.place(jax.lax.iota(jnp.uint32, batch_size), "batch")

        # Adapters are added once a step, and the gradient of the sums is led back to them once a step.
        trained = self.trainable.trained(state.params)
        changing, lead_back = jax.vjp(functools.partial(self.trainable.changing, state.params), trained)
        names = self.trainable.changing_axes(self.blueprint.names())
        copies = sharding.copies(changing, names)

        def of_part(batch: Batch, rows_B: jax.Array) -> tuple[Params, LossSums]:
            key = DropoutKey.of(self.config.seed, state.step, sharding.place(rows_B, "batch"))

            def loss(changing: Params) -> tuple[jax.Array, LossSums]:
                sums = self._loss_sums(self.trainable.model(state.params, changing), batch, key)
                return sums.loss, sums

            (_, sums), gradients = jax.value_and_grad(loss, has_aux=True)(copies)
            return gradients, sums

        if parts == 1:
            gradients, sums = of_part(batch, rows_B)
            return lead_back(sharding.stored(gradients, names))[0], sums

        # Row r goes to part r mod A: each device's rows are split evenly without moving any.
        def in_parts(array: jax.Array) -> jax.Array:
            shape = (batch_size // parts, parts, *array.shape[1:])
            split = sharding.like(array, 0, None, *range(1, array.ndim))
            return jnp.moveaxis(jnp.reshape(array, shape, out_sharding=split), 1, 0)

        def turn(total, part):
            return jax.tree.map(jnp.add, total, of_part(*part)), None

        start = (sharding.no_gradient(changing, names), Window.empty().sums)
        (gradients, sums), _ = jax.lax.scan(turn, start, jax.tree.map(in_parts, (batch, rows_B)))
        return lead_back(sharding.stored(gradients, names))[0], sums

    def _loss_sums(self, params: Params, batch: Batch, key: DropoutKey | None) -> LossSums:
        model = self.blueprint.bind(params)
        return smoothed_cross_entropy(
            model(batch, key),
            model.output_table(),
            batch["targets"],
            _scored(batch),
            smoothing=self.config.training.label_smoothing,
            dtype=self.config.model.dtype,
            chunk_mb=self.config.training.loss_chunk_mb,
        )

    def _averaged(self, ema: Params | None, params: Params, updates_before: jax.Array) -> Params | None:
        if ema is None:
            return None
        # Shorter at first, as in TensorFlow's ExponentialMovingAverage: else a short run's is mostly initial values.
        decay = jnp.minimum(self.config.training.ema_decay, (2 + updates_before) / (11 + updates_before))
        return jax.tree.map(lambda mean, new: decay * mean + (1 - decay) * new, ema, params)

    def _window_before(self, state: TrainState) -> Window:
        """The sums this step adds to; zero in the step after a line was logged."""
        begin = state.step % self.config.training.log_every == 0
        return jax.tree.map(lambda total: jnp.where(begin, jnp.zeros_like(total), total), state.window)


def _scored(batch: Batch) -> jax.Array:
    """The targets whose prediction counts, bool [B, T]: real ones, and not those of a prompt."""
    real_BT = batch["target_segments"] > 0
    return real_BT & (batch["target_prompt"] == 0) if "target_prompt" in batch else real_BT


def _added(window: Window, sums: LossSums, batch: Batch, gradient_norm: jax.Array) -> Window:
    # A language model's batch has no source.
    source_tokens = jnp.sum(batch["source_segments"] > 0, dtype=jnp.int32) if "source" in batch else jnp.int32(0)
    return Window(
        window.sums + sums,
        window.source_tokens + source_tokens,
        window.gradient_norms + gradient_norm,
        window.steps + 1,
    )

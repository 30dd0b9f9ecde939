"""Adam and the learning rate's course (section 5.3), from Optax."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from transformer.config import OptimizerConfig

Schedule = Callable[[jax.Array], jax.Array]


def make_schedule(config: OptimizerConfig, d_model: int, steps: int) -> Schedule:
    """The learning rate by the number of updates already made: 0 before the first, which is the paper's step 1."""
    peak, warmup = config.learning_rate, config.warmup_steps
    if config.schedule == "cosine":
        cosine = optax.warmup_cosine_decay_schedule(0.0, peak, warmup, steps, peak * config.final_scale)
        return lambda count: cosine(count + 1)

    def rate(count: jax.Array) -> jax.Array:
        step = count.astype(jnp.float32) + 1
        rising = step / warmup
        if config.schedule == "constant":
            return peak * jnp.minimum(1.0, rising)
        if config.schedule == "inverse_sqrt":
            return peak * jnp.minimum(rising, jnp.sqrt(warmup / step))
        return peak * d_model**-0.5 * jnp.minimum(step**-0.5, step * warmup**-1.5)

    return rate


def make_optimizer(config: OptimizerConfig, schedule: Schedule, matrices: Any) -> optax.GradientTransformationExtraArgs:
    """Clipping, Adam, decoupled weight decay, the learning rate: each where the config asks for it.

    Its `update` takes `made`, a bool scalar: where it is false the state stays as it was, and the updates mean nothing.

    Args:
      matrices: a tree of bools like the parameters: which of them multiply. Only these decay, not norms and biases.
    """
    # What is off keeps its place: the state, and so a checkpoint, is the same with and without it.
    off = optax.identity()
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else off,
        _adam(config.beta1, config.beta2, config.epsilon),
        optax.add_decayed_weights(config.weight_decay, mask=matrices) if config.name == "adamw" else off,
        _by_schedule(schedule),
    )


def _adam(beta1: float, beta2: float, epsilon: float) -> optax.GradientTransformationExtraArgs:
    """`optax.scale_by_adam` whose moments are updated where they lie.

    Optax's updates can be computed from the old moments as well as from the new, and XLA does: so it copies all old
    moments first: 6 to 8% of a step of `shakespeare_char` on a CPU.
    Here nothing reads the old ones but the new.
    """

    def update(updates, state, params=None, *, made: jax.Array | bool = True):
        del params

        def moment(decay: float, power: int) -> Callable[[jax.Array, jax.Array], jax.Array]:
            return lambda old, gradient: jnp.where(made, decay * old + (1 - decay) * gradient**power, old)

        mu = jax.tree.map(moment(beta1, 1), state.mu, updates)
        nu = jax.tree.map(moment(beta2, 2), state.nu, updates)
        mu, nu = jax.lax.optimization_barrier((mu, nu))
        count = state.count + 1
        bias1, bias2 = 1 - beta1**count, 1 - beta2**count
        updates = jax.tree.map(lambda mu, nu: mu / bias1 / (jnp.sqrt(nu / bias2) + epsilon), mu, nu)
        return updates, optax.ScaleByAdamState(jnp.where(made, count, state.count), mu, nu)

    return optax.GradientTransformationExtraArgs(optax.scale_by_adam().init, update)


def _by_schedule(schedule: Schedule) -> optax.GradientTransformationExtraArgs:
    """`optax.scale_by_learning_rate`, whose count is of the updates made."""

    def update(updates, state, params=None, *, made: jax.Array | bool = True):
        del params
        rate = schedule(state.count)
        updates = jax.tree.map(lambda update: -rate * update, updates)
        return updates, optax.ScaleByScheduleState(jnp.where(made, state.count + 1, state.count))

    return optax.GradientTransformationExtraArgs(optax.scale_by_schedule(schedule).init, update)

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


def make_optimizer(config: OptimizerConfig, schedule: Schedule, matrices: Any) -> optax.GradientTransformation:
    """Clipping, Adam, decoupled weight decay, the learning rate: each where the config asks for it.

    Args:
      matrices: a tree of bools like the parameters: which of them multiply. Only these decay, not norms and biases.
    """
    # What is off keeps its place: the state, and so a checkpoint, is the same with and without it.
    off = optax.identity()
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else off,
        optax.scale_by_adam(config.beta1, config.beta2, config.epsilon),
        optax.add_decayed_weights(config.weight_decay, mask=matrices) if config.name == "adamw" else off,
        optax.scale_by_learning_rate(schedule),
    )

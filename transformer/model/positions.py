"""Positions that are added to the embeddings (section 3.5). For the others see `relative_positions`.

Letters: B batch, T length, D model, P positions.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from transformer import sharding
from transformer.config import ModelConfig


def sinusoids(positions_BT: jax.Array, d_model: int) -> jax.Array:
    """The paper's position encodings [B, T, D], float32: sines at even features, cosines at odd ones.

    PE(pos, 2i) = sin(pos / 10000^(2i / d_model)), PE(pos, 2i+1) = cos of the same angle (section 3.5).
    """
    exponents = np.arange(0, d_model, 2, dtype=np.float64) / d_model
    rates = jnp.asarray(10000.0**-exponents, jnp.float32)
    angles_BTP = positions_BT[:, :, None].astype(jnp.float32) * rates[None, None, :]
    pairs = jnp.stack([jnp.sin(angles_BTP), jnp.cos(angles_BTP)], axis=-1)
    return pairs.reshape(*positions_BT.shape, d_model)


def tensor2tensor_sinusoids(positions_BT: jax.Array, d_model: int) -> jax.Array:
    """The encodings of the paper's code, [B, T, D] float32: all sines, then all cosines; its slowest wave is one of
    10000 exactly, as exponents are divided by d_model / 2 - 1. A model is as good with either.
    """
    waves = d_model // 2
    rates = jnp.asarray(10000.0 ** -(np.arange(waves, dtype=np.float64) / max(waves - 1, 1)), jnp.float32)
    angles_BTP = positions_BT[:, :, None].astype(jnp.float32) * rates[None, None, :]
    return jnp.concatenate([jnp.sin(angles_BTP), jnp.cos(angles_BTP)], axis=-1)


class SinusoidalPositions(nnx.Module):
    """Adds `sinusoids`; no parameters, no longest length."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        del rngs
        self.d_model = config.d_model

    def __call__(self, positions_BT: jax.Array) -> jax.Array | float:
        return sinusoids(positions_BT, self.d_model)


class Tensor2TensorPositions(SinusoidalPositions):
    """Adds `tensor2tensor_sinusoids`."""

    def __call__(self, positions_BT: jax.Array) -> jax.Array | float:
        return tensor2tensor_sinusoids(positions_BT, self.d_model)


class LearnedPositions(nnx.Module):
    """Adds a learned vector a position (Table 3, row E). Positions beyond `config.max_length` repeat the last one."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        scale = config.d_model**-0.5
        table_PD = scale * jax.random.normal(rngs.params(), (config.max_length, config.d_model))
        self.table = nnx.Param(table_PD, axes=(None, "embed"))

    def __call__(self, positions_BT: jax.Array) -> jax.Array | float:
        table_PD = sharding.gather(self.table[...], (None, "embed"))
        return table_PD.at[positions_BT].get(mode="clip", out_sharding=sharding.like(positions_BT, 0, 1, None))


class NoPositions(nnx.Module):
    """Adds nothing: positions enter in the attention, or not at all (a decoder can tell order from its mask)."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        del config, rngs

    def __call__(self, positions_BT: jax.Array) -> jax.Array | float:
        return 0.0


KINDS = {
    "sinusoidal": SinusoidalPositions,
    "sinusoidal_t2t": Tensor2TensorPositions,
    "learned": LearnedPositions,
}


def added_positions(config: ModelConfig, *, rngs: nnx.Rngs) -> nnx.Module:
    """What `config.positions` adds to embeddings."""
    return KINDS.get(config.positions, NoPositions)(config, rngs=rngs)

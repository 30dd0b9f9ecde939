"""Positions that enter where queries meet keys: rotary, T5's buckets, Shaw's vectors, ALiBi.

Cross-attention has none of them: positions of two texts have no distance.

Letters: B batch, T query length, S key length, N heads, H head size, R distances told apart. X is B or 1: see
`masks.distances`. Distances are the key's position less the query's.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from transformer import sharding
from transformer.config import ModelConfig
from transformer.model.products import activation_dtype, activation_product


class RelativePositions(nnx.Module):
    """Nothing. The others override what they change; your own may too."""

    # Whether `scores` or `values` add anything. Kernels that never hold the scores can serve only those that do not.
    touches_scores = False

    def __init__(self, config: ModelConfig, *, causal: bool, rngs: nnx.Rngs):
        del config, causal, rngs

    def rotate(self, x_BTNH: jax.Array, positions_BT: jax.Array) -> jax.Array:
        """Queries or keys, changed by where they stand."""
        del positions_BT
        return x_BTNH

    def scores(self, scores_BNTS: jax.Array, q_BTNH: jax.Array, distances_XTS: jax.Array) -> jax.Array:
        """Scores, changed by how far each key is from its query; `q_BTNH` is already divided by sqrt(d_k)."""
        del q_BTNH, distances_XTS
        return scores_BNTS

    def values(self, heads_BTNH: jax.Array, weights_BNTS: jax.Array, distances_XTS: jax.Array) -> jax.Array:
        """What the queries found, changed by how far away they found it."""
        del weights_BNTS, distances_XTS
        return heads_BTNH


class Rotary(RelativePositions):
    """Feature pairs turned by angles that grow with the position, so that scores know distances (Su et al. 2021).

    Feature i of the first half and of the second half are a pair, as in GPT-NeoX and LLaMA. It turns by
    position * base^(-2i / H). For longer texts than were trained on: "linear" divides positions by the factor (Chen et
    al. 2023); "ntk" raises the base by factor^(H / (H - 2)), which keeps the fastest angles and divides the slowest by
    the factor (bloc97 2023).
    """

    def __init__(self, config: ModelConfig, *, causal: bool, rngs: nnx.Rngs):
        del causal, rngs
        size = config.key_size
        base, stretch = config.rotary_base, 1.0
        if config.rotary_scaling == "linear":
            stretch = config.rotary_factor
        elif config.rotary_scaling == "ntk":
            base *= config.rotary_factor ** (size / (size - 2))
        rates = base ** -(np.arange(0, size, 2, dtype=np.float64) / size) / stretch
        self.rates = tuple(rates.tolist())

    def rotate(self, x_BTNH: jax.Array, positions_BT: jax.Array) -> jax.Array:
        rates = jnp.asarray(self.rates, jnp.float32)
        angles_BT1P = (positions_BT[:, :, None].astype(jnp.float32) * rates[None, None, :])[:, :, None, :]
        cosines, sines = jnp.cos(angles_BT1P), jnp.sin(angles_BT1P)
        first, second = jnp.split(x_BTNH.astype(jnp.float32), 2, axis=-1)
        turned = jnp.concatenate([first * cosines - second * sines, second * cosines + first * sines], axis=-1)
        return turned.astype(x_BTNH.dtype)


class Alibi(RelativePositions):
    """Scores fall with distance, in every head at its own fixed rate (Press et al. 2022)."""

    touches_scores = True

    def __init__(self, config: ModelConfig, *, causal: bool, rngs: nnx.Rngs):
        del causal, rngs
        self.slopes = tuple(alibi_slopes(config.num_heads))

    def scores(self, scores_BNTS: jax.Array, q_BTNH: jax.Array, distances_XTS: jax.Array) -> jax.Array:
        del q_BTNH
        slopes_N = sharding.place(jnp.asarray(self.slopes, jnp.float32), "heads")
        far_X1TS = jnp.abs(distances_XTS).astype(jnp.float32)[:, None]
        return scores_BNTS - slopes_N[None, :, None, None] * far_X1TS


def alibi_slopes(heads: int) -> list[float]:
    """2^(-8/n), 2^(-16/n), ... for a power of two n of heads; for other numbers every second one of 2n's is added."""
    power = 2 ** math.floor(math.log2(heads))
    slopes = [2.0 ** (-8.0 * (head + 1) / power) for head in range(power)]
    return slopes + [2.0 ** (-4.0 * (head + 1) / power) for head in range(0, 2 * (heads - power), 2)]


class T5Buckets(RelativePositions):
    """A learned number a head for each bucket of distances (Raffel et al. 2020, section 2.1).

    Near distances have a bucket each, farther ones share them by logarithm, up to `config.t5_max_distance`; in an
    encoder the two directions have half of the buckets each. Every layer has numbers of its own; T5's layers share
    theirs.
    """

    touches_scores = True

    def __init__(self, config: ModelConfig, *, causal: bool, rngs: nnx.Rngs):
        self.buckets, self.max_distance, self.causal = config.t5_buckets, config.t5_max_distance, causal
        shape = (config.t5_buckets, config.num_heads)
        # As wide as scores are at the start: about 1.
        self.table = nnx.Param(jax.random.normal(rngs.params(), shape), axes=(None, "heads"))

    def scores(self, scores_BNTS: jax.Array, q_BTNH: jax.Array, distances_XTS: jax.Array) -> jax.Array:
        del q_BTNH
        buckets_XTS = t5_bucket(distances_XTS, self.buckets, self.max_distance, causal=self.causal)
        # A product with a one-hot array: the gradient of a lookup is a slow scatter.
        hot_XTSR = jax.nn.one_hot(buckets_XTS, self.buckets, dtype=jnp.float32)
        bias_XNTS = jnp.einsum("XTSR,RN->XNTS", hot_XTSR, self.table[...], precision=jax.lax.Precision.HIGHEST)
        return scores_BNTS + bias_XNTS


def t5_bucket(distances: jax.Array, buckets: int, max_distance: int, *, causal: bool) -> jax.Array:
    """The bucket of each distance (key less query), int32 of the same shape."""
    if causal:
        side, back = jnp.zeros_like(distances), jnp.maximum(-distances, 0)
    else:
        buckets //= 2
        side, back = jnp.where(distances > 0, buckets, 0), jnp.abs(distances)
    exact = buckets // 2
    ratio = jnp.log(jnp.maximum(back, exact).astype(jnp.float32) / exact) / math.log(max_distance / exact)
    far = jnp.minimum(exact + (ratio * (buckets - exact)).astype(jnp.int32), buckets - 1)
    return side + jnp.where(back < exact, back, far)


class Shaw(RelativePositions):
    """Learned vectors for distances, added to keys and to values (Shaw et al. 2018, equations 3 and 4).

    Distances beyond `config.shaw_distance` count as that. Heads share the vectors.
    """

    touches_scores = True

    def __init__(self, config: ModelConfig, *, causal: bool, rngs: nnx.Rngs):
        del causal
        self.farthest = config.shaw_distance

        def vectors(size: int) -> nnx.Param:
            table_RH = size**-0.5 * jax.random.normal(rngs.params(), (2 * self.farthest + 1, size))
            return nnx.Param(table_RH, axes=(None, None))

        self.key_vectors = vectors(config.key_size)
        self.value_vectors = vectors(config.value_size)
        self.dtype = config.dtype

    def scores(self, scores_BNTS: jax.Array, q_BTNH: jax.Array, distances_XTS: jax.Array) -> jax.Array:
        q_BTNR = activation_product("BTNH,RH->BTNR", q_BTNH, self.key_vectors[...], self.dtype)
        hot_XTSR = self._one_hot(distances_XTS)
        if len(hot_XTSR) == 1:
            return scores_BNTS + activation_product("BTNR,TSR->BNTS", q_BTNR, hot_XTSR[0], self.dtype)
        return scores_BNTS + activation_product("BTNR,BTSR->BNTS", q_BTNR, hot_XTSR, self.dtype)

    def values(self, heads_BTNH: jax.Array, weights_BNTS: jax.Array, distances_XTS: jax.Array) -> jax.Array:
        hot_XTSR = self._one_hot(distances_XTS)
        if len(hot_XTSR) == 1:
            weights_BTNR = activation_product("BNTS,TSR->BTNR", weights_BNTS, hot_XTSR[0], self.dtype)
        else:
            weights_BTNR = activation_product("BNTS,BTSR->BTNR", weights_BNTS, hot_XTSR, self.dtype)
        return heads_BTNH + activation_product("BTNR,RH->BTNH", weights_BTNR, self.value_vectors[...], self.dtype)

    def _one_hot(self, distances_XTS: jax.Array) -> jax.Array:
        clipped_XTS = jnp.clip(distances_XTS, -self.farthest, self.farthest) + self.farthest
        return jax.nn.one_hot(clipped_XTS, 2 * self.farthest + 1, dtype=activation_dtype(self.dtype))


KINDS = {"rotary": Rotary, "t5": T5Buckets, "shaw": Shaw, "alibi": Alibi}


def relative_positions(config: ModelConfig, role: str, *, rngs: nnx.Rngs) -> RelativePositions:
    """What `config.positions` means for an attention of this role (see `attention.Role`)."""
    kind = RelativePositions if role == "cross" else KINDS.get(config.positions, RelativePositions)
    return kind(config, causal=role == "decoder", rngs=rngs)

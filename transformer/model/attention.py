"""Multi-head attention (section 3.2), and the interface your own attention follows.

An attention turns a sequence into keys and values once (`keys_values`), and lets queries read them (`__call__`).
Training, cached decoding and cross-attention differ only in whose keys and values are passed. To change how attention
is scored, subclass `MultiHeadAttention` and override `scores`; to change anything else, write a class with the same
constructor and the methods `keys_values`, `__call__` and `weights`. Name it in `config.model.attention`.

Letters: B batch, T query length, S key length, D model, N heads, H head size, L layers.
"""

import dataclasses
import importlib
import math

import jax
import jax.numpy as jnp
from flax import nnx

from transformer import sharding
from transformer.config import ConfigError, ModelConfig
from transformer.model.products import activation_product, product

# Low enough to vanish in the softmax, finite so that a query with nothing to attend to gives no NaN.
MASKED = -1e30


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class KeysValues:
    """What queries read: keys and values of every position of a sequence, a head each, and where each stands in it."""

    keys_BSNH: jax.Array
    values_BSNH: jax.Array
    positions_BS: jax.Array


def attention_weights(scores_BNTS: jax.Array, mask_B1TS: jax.Array) -> jax.Array:
    """softmax over the keys the mask allows, in float32: bfloat16 loses the tail of long rows."""
    scores_BNTS = jnp.where(mask_B1TS, scores_BNTS.astype(jnp.float32), MASKED)
    return jax.nn.softmax(scores_BNTS, axis=-1)


class MultiHeadAttention(nnx.Module):
    """Concat(head_1, ..., head_h) W^O with head_i = Attention(Q W_i^Q, K W_i^K, V W_i^V) (section 3.2.2).

    The projections have no biases, as the paper's matrices have none. All heads are one product: the paper's W_i^Q side
    by side are `query` [D, N, H].
    """

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        width, heads, key_size, value_size = config.d_model, config.num_heads, config.key_size, config.value_size

        def projection(head_size: int) -> nnx.Param:
            weights_DNH = glorot(rngs, (width, heads, head_size), width, heads * head_size)
            return nnx.Param(weights_DNH, axes=("embed", "heads", None))

        self.query = projection(key_size)
        self.key = projection(key_size)
        self.value = projection(value_size)
        output_NHD = glorot(rngs, (heads, value_size, width), heads * value_size, width)
        self.output = nnx.Param(output_NHD, axes=("heads", None, "embed"))
        self.dtype = config.dtype

    def keys_values(self, y_BSD: jax.Array, positions_BS: jax.Array) -> KeysValues:
        """The sequence as queries will see it. Position i of the result depends on position i of `y_BSD` alone."""
        keys_BSNH, values_BSNH = self._project(y_BSD, self.key), self._project(y_BSD, self.value)
        # Queries may be split by position; what they read is whole.
        names = ("batch", None, "heads", None)
        return KeysValues(
            sharding.place(keys_BSNH, *names),
            sharding.place(values_BSNH, *names),
            sharding.place(positions_BS, "batch", None),
        )

    def __call__(
        self, x_BTD: jax.Array, positions_BT: jax.Array, memory: KeysValues, mask_B1TS: jax.Array
    ) -> jax.Array:
        """What each query finds: [B, T, D]. `mask_B1TS` is True where a query may look."""
        weights_BNTS = self.weights(x_BTD, positions_BT, memory, mask_B1TS)
        heads_BTNH = activation_product("BNTS,BSNH->BTNH", weights_BNTS, memory.values_BSNH, self.dtype)
        output_NHD = sharding.gather(self.output[...], ("heads", None, "embed"))
        return product("BTNH,NHD->BTD", heads_BTNH, output_NHD, self.dtype, sharding.like(x_BTD, 0, 1, None))

    def weights(self, x_BTD: jax.Array, positions_BT: jax.Array, memory: KeysValues, mask_B1TS: jax.Array) -> jax.Array:
        """The share of each key in what each query finds: float32 [B, N, T, S], every row sums to 1."""
        q_BTNH = self._project(x_BTD, self.query)
        return attention_weights(self.scores(q_BTNH, positions_BT, memory), mask_B1TS)

    def scores(self, q_BTNH: jax.Array, positions_BT: jax.Array, memory: KeysValues) -> jax.Array:
        """How well each query matches each key, [B, N, T, S]: Q K^T / sqrt(d_k) (equation 1)."""
        del positions_BT
        q_BTNH = q_BTNH / math.sqrt(q_BTNH.shape[-1])
        return activation_product("BTNH,BSNH->BNTS", q_BTNH, memory.keys_BSNH, self.dtype)

    def _project(self, x_BTD: jax.Array, weights: nnx.Param) -> jax.Array:
        weights_DNH = sharding.gather(weights[...], ("embed", "heads", None))
        return product("BTD,DNH->BTNH", x_BTD, weights_DNH, self.dtype)


def glorot(rngs: nnx.Rngs, shape: tuple[int, ...], fan_in: int, fan_out: int) -> jax.Array:
    """Uniform with variance 2 / (fan_in + fan_out) (Glorot and Bengio 2010), which Tensor2Tensor initialises with."""
    limit = math.sqrt(6 / (fan_in + fan_out))
    return jax.random.uniform(rngs.params(), shape, jnp.float32, -limit, limit)


def attention_class(config: ModelConfig) -> type:
    """The class `config.attention` names, `package.module:Class`. Importing a module runs it.

    Raises:
      ConfigError: when there is no such module or class.
    """
    module_name, _, class_name = config.attention.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ConfigError(
            "model.attention", config.attention, str(error), "Put the module's folder on PYTHONPATH, or install it."
        ) from error
    try:
        found = getattr(module, class_name)
    except AttributeError as error:
        raise ConfigError(
            "model.attention", config.attention, str(error), "Name a class that the module defines."
        ) from error
    if not isinstance(found, type):
        raise ConfigError(
            "model.attention", config.attention, f"is {type(found).__name__}, not a class", "Name a class."
        )
    return found

"""Multi-head attention (section 3.2), and the interface your own attention follows.

An attention turns a sequence into keys and values once (`keys_values`), and lets queries read them (`__call__`).
Training, cached decoding and cross-attention differ only in whose keys and values are passed. To change how attention
is scored, subclass `MultiHeadAttention` and override `scores`; to change anything else, write a class with the same
constructor and the methods `keys_values`, `__call__` and `weights`. Name it in `config.model.attention`.

Letters: B batch, T query length, S key length, D model, N heads, K key-value heads, G query heads that share one of
them, H head size (V where it is that of values only), L layers.
"""

import dataclasses
import importlib
import math
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from transformer import sharding
from transformer.config import ConfigError, ModelConfig
from transformer.model.dropout import DropoutKey, dropout
from transformer.model.kernels import Call, Kernels, attend
from transformer.model.masks import Mask, Places, distances
from transformer.model.norms import RMSNorm
from transformer.model.products import activation_product, product
from transformer.model.relative_positions import relative_positions

# Low enough to vanish in the softmax, finite so that a query with nothing to attend to gives no NaN.
MASKED = -1e30

# Whose attention it is: an encoder's or a decoder's to itself, or a decoder's to the encoder.
Role = Literal["encoder", "decoder", "cross"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class KeysValues:
    """What queries read: keys and values of every position of a sequence, and where each stands in it."""

    keys_BSKH: jax.Array
    values_BSKH: jax.Array
    places: Places


def attention_weights(scores_BNTS: jax.Array, mask_B1TS: jax.Array) -> jax.Array:
    """softmax over the keys the mask allows, in float32: bfloat16 loses the tail of long rows."""
    scores_BNTS = jnp.where(mask_B1TS, scores_BNTS.astype(jnp.float32), MASKED)
    return jax.nn.softmax(scores_BNTS, axis=-1)


class MultiHeadAttention(nnx.Module):
    """Concat(head_1, ..., head_h) W^O with head_i = Attention(Q W_i^Q, K W_i^K, V W_i^V) (section 3.2.2).

    The projections have no biases, as the paper's matrices have none. All heads are one product: the paper's W_i^Q side
    by side are `query` [D, N, H]. By config: fewer heads for keys and values, each shared by a group of query heads
    (Ainslie et al. 2023; one: multi-query, Shazeer 2019); queries and keys normalised (Dehghani et al. 2023); scores
    capped, cap * tanh(score / cap) (Gemma 2); dropout on the weights; any of `relative_positions`.
    """

    def __init__(self, config: ModelConfig, *, role: Role, rngs: nnx.Rngs):
        width, key_size, value_size = config.d_model, config.key_size, config.value_size

        def projection(heads: int, head_size: int) -> nnx.Param:
            weights_DNH = glorot(rngs, (width, heads, head_size), width, heads * head_size)
            return nnx.Param(weights_DNH, axes=("embed", "heads", None))

        self.query = projection(config.num_heads, key_size)
        self.key = projection(config.key_value_heads, key_size)
        self.value = projection(config.key_value_heads, value_size)
        output_NHD = glorot(rngs, (config.num_heads, value_size, width), config.num_heads * value_size, width)
        self.output = nnx.Param(output_NHD, axes=("heads", None, "embed"))
        self.query_norm = RMSNorm(key_size) if config.qk_norm else None
        self.key_norm = RMSNorm(key_size) if config.qk_norm else None
        self.relative = relative_positions(config, role, rngs=rngs)
        self.kernels = Kernels.of(config, role)
        self.role = role
        self.soft_cap = config.logit_soft_cap
        self.dropout = config.attention_dropout
        self.dtype = config.dtype

    def keys_values(self, y_BSD: jax.Array, places: Places) -> KeysValues:
        """The sequence as queries will see it. Position i of the result depends on position i of `y_BSD` alone."""
        keys_BSKH, values_BSKH = self._project(y_BSD, self.key), self._project(y_BSD, self.value)
        if self.key_norm is not None:
            keys_BSKH = self.key_norm(keys_BSKH)
        keys_BSKH = self.relative.rotate(keys_BSKH, places.positions_BT)
        # Queries may be split by position; what they read is whole.
        names = ("batch", None, "heads", None)
        return KeysValues(sharding.place(keys_BSKH, *names), sharding.place(values_BSKH, *names), places.whole())

    def __call__(
        self, x_BTD: jax.Array, places: Places, memory: KeysValues, mask: Mask, key: DropoutKey | None = None
    ) -> jax.Array:
        """What each query finds: [B, T, D]. `mask` says where a query may look; with a key, weights are dropped."""
        call = Call(mask, places, memory.places, own=self.role != "cross")
        usual = scored_as_usual(type(self)) and not self.relative.touches_scores
        kernel = self.kernels.choose(call) if usual else "xla"
        if kernel == "xla":
            heads_BTNH = self._plain_heads(x_BTD, places, memory, mask, key)
        else:
            q_BTNH = self._queries(x_BTD, places)
            heads_BTNH = attend(kernel, q_BTNH, memory.keys_BSKH, memory.values_BSKH, call, self.soft_cap)
        names, split = ("heads", None, "embed"), sharding.like(x_BTD, 0, 1, None)
        # What is summed over has letters in the order of its axes: einsum sorts them, and would swap those of both.
        return product("BTNV,NVD->BTD", heads_BTNH, self.output[...], names, self.dtype, split)

    def weights(self, x_BTD: jax.Array, places: Places, memory: KeysValues, mask: Mask) -> jax.Array:
        """The share of each key in what each query finds: float32 [B, N, T, S], every row sums to 1."""
        scores_BNTS = self.scores(self._queries(x_BTD, places), places, memory)
        if self.soft_cap:
            scores_BNTS = self.soft_cap * jnp.tanh(scores_BNTS / self.soft_cap)
        return attention_weights(scores_BNTS, mask.allowed(places, memory.places))

    def scores(self, q_BTNH: jax.Array, places: Places, memory: KeysValues) -> jax.Array:
        """How well each query matches each key, [B, N, T, S]: Q K^T / sqrt(d_k) (equation 1), and how far it is."""
        q_BTNH = q_BTNH / math.sqrt(q_BTNH.shape[-1])
        scores_BNTS = self._match(q_BTNH, memory)
        if self.relative.touches_scores:
            scores_BNTS = self.relative.scores(scores_BNTS, q_BTNH, distances(places, memory.places))
        return scores_BNTS

    def _queries(self, x_BTD: jax.Array, places: Places) -> jax.Array:
        q_BTNH = self._project(x_BTD, self.query)
        if self.query_norm is not None:
            q_BTNH = self.query_norm(q_BTNH)
        return self.relative.rotate(q_BTNH, places.positions_BT)

    def _plain_heads(
        self, x_BTD: jax.Array, places: Places, memory: KeysValues, mask: Mask, key: DropoutKey | None
    ) -> jax.Array:
        weights_BNTS = dropout(self.weights(x_BTD, places, memory, mask), self.dropout, key)
        heads_BTNH = self._read(weights_BNTS, memory)
        if not self.relative.touches_scores:
            return heads_BTNH
        return self.relative.values(heads_BTNH, weights_BNTS, distances(places, memory.places))

    def _match(self, q_BTNH: jax.Array, memory: KeysValues) -> jax.Array:
        batch_size, length, heads, size = q_BTNH.shape
        groups = memory.keys_BSKH.shape[2]
        if groups == heads:
            return activation_product("BTNH,BSNH->BNTS", q_BTNH, memory.keys_BSKH, self.dtype)
        shape = (batch_size, length, groups, heads // groups, size)
        q_BTKGH = jnp.reshape(q_BTNH, shape, out_sharding=sharding.like(q_BTNH, 0, 1, 2, None, 3))
        scores_BKGTS = activation_product("BTKGH,BSKH->BKGTS", q_BTKGH, memory.keys_BSKH, self.dtype)
        shape, split = (batch_size, heads, length, -1), sharding.like(scores_BKGTS, 0, 1, 3, 4)
        return jnp.reshape(scores_BKGTS, shape, out_sharding=split)

    def _read(self, weights_BNTS: jax.Array, memory: KeysValues) -> jax.Array:
        batch_size, heads, length, _ = weights_BNTS.shape
        groups = memory.values_BSKH.shape[2]
        if groups == heads:
            # Heads and positions are swapped afterwards: else XLA swaps the factors, which costs a step of decoding on
            # a CPU more than all the rest of its attention.
            heads_BNTH = activation_product("BNTS,BSNH->BNTH", weights_BNTS, memory.values_BSKH, self.dtype)
            return heads_BNTH.swapaxes(1, 2)
        shape = (batch_size, groups, heads // groups, length, weights_BNTS.shape[-1])
        weights_BKGTS = jnp.reshape(weights_BNTS, shape, out_sharding=sharding.like(weights_BNTS, 0, 1, None, 2, 3))
        heads_BKGTH = activation_product("BKGTS,BSKH->BKGTH", weights_BKGTS, memory.values_BSKH, self.dtype)
        heads_BTKGH = heads_BKGTH.transpose(0, 3, 1, 2, 4)
        shape, split = (batch_size, length, heads, -1), sharding.like(heads_BTKGH, 0, 1, 2, 4)
        return jnp.reshape(heads_BTKGH, shape, out_sharding=split)

    def _project(self, x_BTD: jax.Array, weights: nnx.Param) -> jax.Array:
        return product("BTD,DNH->BTNH", x_BTD, weights[...], ("embed", "heads", None), self.dtype)


def scored_as_usual(attention: type) -> bool:
    """Whether a kernel that never holds scores computes what this class says of them, which may be your own."""
    usual = (MultiHeadAttention.scores, MultiHeadAttention.weights)
    return issubclass(attention, MultiHeadAttention) and (attention.scores, attention.weights) == usual


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

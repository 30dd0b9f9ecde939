"""Queries, keys and values at random, rows of two examples and padding, and attention as plain as it can be written.

Letters: B batch, T query length, S key length, N heads, K key-value heads, G query heads of one of them, H head size.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding

from transformer import sharding
from transformer.model.attention import attention_weights
from transformer.model.masks import Causal, Chunk, Mask, Padding, Places, SameSegment, Window

SEGMENTED_CAUSAL = SameSegment() & Causal()
MASKS = {
    "segments": SameSegment(),
    "padding": Padding(),
    "causal": SEGMENTED_CAUSAL,
    "window": SameSegment() & Window(7),
    "causal window": SEGMENTED_CAUSAL & Window(7),
    "chunk": SameSegment() & Chunk(5),
    "causal chunk": SEGMENTED_CAUSAL & Chunk(5),
}


def places(rows: int, length: int) -> Places:
    """A third of each row is its first example, five columns are padding."""
    cut, end = length // 3, length - 5
    segments = np.repeat([1, 2, 0], [cut, end - cut, 5])
    positions = np.concatenate([np.arange(cut), np.arange(end - cut), np.zeros(5, int)])
    both = (np.tile(each, (rows, 1)).astype(np.int32) for each in (positions, segments))
    return Places(*map(jnp.asarray, both))


@dataclasses.dataclass(frozen=True)
class Case:
    """Arrays of a call. `weights_BTNH`: the loss is their product with what real queries find, so no two are alike."""

    q_BTNH: jax.Array
    keys_BSKH: jax.Array
    values_BSKH: jax.Array
    queries: Places
    keys: Places
    weights_BTNH: jax.Array

    @classmethod
    def random(cls, length=40, key_length=40, *, rows=2, heads=2, key_heads=2, size=8, value_size=8, dtype="float32"):
        rng = np.random.default_rng(0)

        def numbers(*shape):
            return jnp.asarray(rng.standard_normal(shape), dtype)

        return cls(
            numbers(rows, length, heads, size),
            numbers(rows, key_length, key_heads, size),
            numbers(rows, key_length, key_heads, value_size),
            places(rows, length),
            places(rows, key_length),
            jnp.asarray(rng.standard_normal((rows, length, heads, value_size)), jnp.float32),
        )

    @property
    def arrays(self):
        return self.q_BTNH, self.keys_BSKH, self.values_BSKH

    def of_real(self, heads_BTNH: jax.Array) -> jax.Array:
        """Zero for padding, whose result nobody uses."""
        return jnp.where((self.queries.segments_BT > 0)[:, :, None, None], heads_BTNH, 0)

    def split(self, mesh: Mesh) -> "Case":
        """The same, lying on the devices as a model's attention has it."""

        def put(array, *names):
            return jax.device_put(array, NamedSharding(mesh, sharding.USED.spec(names)))

        of_queries, of_keys = ("batch", "length", "heads", None), ("batch", None, "heads", None)
        return Case(
            put(self.q_BTNH, *of_queries),
            put(self.keys_BSKH, *of_keys),
            put(self.values_BSKH, *of_keys),
            jax.tree.map(lambda array: put(array, "batch", "length"), self.queries),
            jax.tree.map(lambda array: put(array, "batch", None), self.keys),
            put(self.weights_BTNH, *of_queries),
        )

    def found(self, attend):
        """What every query finds, and the gradients of the loss: ([B, T, N, H], those of the three arrays)."""

        def loss(arrays, case):
            heads_BTNH = attend(*arrays, case.queries, case.keys)
            return jnp.sum(case.of_real(heads_BTNH).astype(jnp.float32) * case.weights_BTNH), heads_BTNH

        def both(case):
            (_, heads_BTNH), gradients = jax.value_and_grad(loss, has_aux=True)(case.arrays, case)
            return heads_BTNH, gradients

        return both


jax.tree_util.register_dataclass(Case)


def plain(mask: Mask, soft_cap: float = 0.0):
    """Equation 1, in float32."""

    def attend(q_BTNH, keys_BSKH, values_BSKH, queries, keys):
        q_BTNH, keys_BSKH, values_BSKH = (each.astype(jnp.float32) for each in (q_BTNH, keys_BSKH, values_BSKH))
        group = q_BTNH.shape[2] // keys_BSKH.shape[2]
        keys_BSNH, values_BSNH = jnp.repeat(keys_BSKH, group, axis=2), jnp.repeat(values_BSKH, group, axis=2)
        scores_BNTS = jnp.einsum("BTNH,BSNH->BNTS", q_BTNH, keys_BSNH) / math.sqrt(q_BTNH.shape[-1])
        if soft_cap:
            scores_BNTS = soft_cap * jnp.tanh(scores_BNTS / soft_cap)
        weights_BNTS = attention_weights(scores_BNTS, mask.allowed(queries, keys))
        return jnp.einsum("BNTS,BSNH->BTNH", weights_BNTS, values_BSNH)

    return attend

"""What a decoder remembers of the tokens before, while it goes on a token at a time.

Letters: B batch, S positions, K key-value heads, H head size, P prompt length, C cache columns.
"""

import dataclasses

import jax
import jax.numpy as jnp

from transformer import sharding
from transformer.model.attention import KeysValues
from transformer.model.masks import Places


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LayerCache:
    """One layer's keys and values, heads before columns: a product of one query with all keys of a head reads them in
    a row. With columns first XLA transposes the whole cache for every token; attention took 14 times longer on a CPU.
    """

    keys_BKCH: jax.Array
    values_BKCH: jax.Array
    places: Places

    @classmethod
    def empty(cls, one: KeysValues, places: Places) -> "LayerCache":
        """Zeros for all of `places`; `one` says what shape and type the keys and values of a position have."""
        columns = places.positions_BT.shape[1]

        def zeros(leaf: jax.Array | jax.ShapeDtypeStruct) -> jax.Array:
            batch_size, _, heads, size = leaf.shape
            zeros_BKCH = jnp.zeros((batch_size, heads, columns, size), leaf.dtype)
            return sharding.place(zeros_BKCH, "batch", "heads", None, None)

        return cls(zeros(one.keys_BSKH), zeros(one.values_BSKH), places)

    def put(self, new: KeysValues, column: jax.Array | int) -> "LayerCache":
        """With these in the columns from `column` on."""

        def put(cached_BKCH: jax.Array, new_BSKH: jax.Array) -> jax.Array:
            return jax.lax.dynamic_update_slice_in_dim(cached_BKCH, new_BSKH.swapaxes(1, 2), column, axis=2)

        return LayerCache(put(self.keys_BKCH, new.keys_BSKH), put(self.values_BKCH, new.values_BSKH), self.places)

    def read(self) -> KeysValues:
        """As attention takes them. Nothing is moved: products swap the axes back."""
        return KeysValues(self.keys_BKCH.swapaxes(1, 2), self.values_BKCH.swapaxes(1, 2), self.places)

    def grown(self, columns: int) -> "LayerCache":
        """With that many columns more, whose positions go on."""

        def longer(cached_BKCH: jax.Array) -> jax.Array:
            return jnp.pad(cached_BKCH, ((0, 0), (0, 0), (0, columns), (0, 0)))

        more_1C = jnp.arange(1, columns + 1, dtype=jnp.int32)[None]
        positions_BC = sharding.place(self.places.positions_BT, "batch", None)
        more_BC = sharding.place(positions_BC[:, -1:] + more_1C, "batch", None)
        positions_BC = jnp.concatenate([positions_BC, more_BC], axis=1)
        places = Places(positions_BC, jnp.ones_like(positions_BC), contiguous=False).whole()
        return LayerCache(longer(self.keys_BKCH), longer(self.values_BKCH), places)

"""How the search's arrays lie on the devices: as the batch does."""

import jax
from jax.sharding import PartitionSpec


def split_like_batch(array: jax.Array, example_B: jax.Array) -> jax.Array:
    """`array` [B, ...] split over devices along B as `example_B` is, and along nothing else.

    The mesh is read from the type of `example_B`; without one this is the identity.
    """
    sharding = jax.typeof(example_B).sharding
    if sharding.mesh.empty:
        return array
    spec = PartitionSpec(sharding.spec[0], *[None] * (array.ndim - 1))
    return jax.sharding.reshard(array, spec)

"""Attention by the TPU kernel of JAX's Pallas library, splash attention: scores are never in main memory.

The kernel goes through blocks of queries and of keys. Of a mask it wants two things:

- a band of columns around each query, known beforehand: blocks outside of it are not visited;
- a number for each token: only those with the same number see each other.

The masks that `kernels.serves` lets through can be told so; see `band` and `groups`. What is filled up here to whole
blocks has a number of its own.

Letters: B batch, T query length, S key length, N heads, K key-value heads, H head size.
"""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.pallas.ops.tpu import splash_attention as pallas
from jax.sharding import NamedSharding

from transformer import sharding
from transformer.model.masks import Causal, Chunk, Mask, Padding, Places, SameSegment, Window, parts

# Columns of a TPU's registers: blocks are multiples of it.
LANES = 128
# In lanes. Larger blocks take more of the fast memory than every chip has.
_LARGEST_BLOCK = 4
# No token of ours has this number: `groups` are 0 and above.
_NOTHING = -1


@dataclasses.dataclass(frozen=True)
class Band:
    """A query sees keys from `before` columns before its own to `after` columns after it. None: without end."""

    before: int | None = None
    after: int | None = None

    def visits(self, first_query: int, last_query: int, first_key: int, last_key: int) -> bool:
        """Whether any of these queries sees any of these keys."""
        return (self.before is None or last_key >= first_query - self.before) and (
            self.after is None or first_key <= last_query + self.after
        )


def band(mask: Mask) -> Band:
    """The narrowest band that holds all that the mask allows."""
    reach = [part.size - 1 for part in parts(mask) if isinstance(part, (Window, Chunk))]
    causal = any(isinstance(part, Causal) for part in parts(mask))
    return Band(min(reach, default=None), 0 if causal else min(reach, default=None))


def groups(mask: Mask, queries: Places, keys: Places) -> tuple[jax.Array, jax.Array]:
    """Numbers of queries, int32 [B, T], and of keys [B, S]. Within the band those with equal ones see each other.

    Padding is 0: only padding sees it, or a query of which nobody wants the result.
    """
    queries_BT, keys_BS = queries.segments_BT, keys.segments_BT
    if not any(isinstance(part, SameSegment) for part in parts(mask)):
        padded = any(isinstance(part, Padding) for part in parts(mask))
        queries_BT = jnp.ones_like(queries_BT)
        keys_BS = (keys_BS != 0).astype(jnp.int32) if padded else jnp.ones_like(keys_BS)
    for part in parts(mask):
        if isinstance(part, Chunk):
            chunks = keys_BS.shape[1] // part.size + 1
            queries_BT = queries_BT * chunks + queries.positions_BT // part.size
            keys_BS = keys_BS * chunks + keys.positions_BT // part.size
    return queries_BT, keys_BS


@dataclasses.dataclass(frozen=True)
class Blocks:
    """How a sequence is cut."""

    count: int
    size: int

    @classmethod
    def of(cls, length: int) -> "Blocks":
        """As few and as equal as can be."""
        lanes = math.ceil(length / LANES)
        count = math.ceil(lanes / _LARGEST_BLOCK)
        return cls(count, LANES * math.ceil(lanes / count))

    @property
    def length(self) -> int:
        return self.count * self.size


def attend(
    q_BTNH: jax.Array,
    keys_BSKH: jax.Array,
    values_BSKH: jax.Array,
    mask: Mask,
    queries: Places,
    keys: Places,
    *,
    soft_cap: float = 0.0,
    interpret: bool = False,
) -> jax.Array:
    """What each query finds, [B, T, N, H of the values]; `mask` is one that `kernels.serves`.

    Args:
      soft_cap: scores become cap * tanh(score / cap); 0: they stay.
      interpret: the kernel is computed without a TPU, slowly.
    """
    shards = sharding.parts(q_BTNH, 1)
    kernel = _kernel(band(mask), q_BTNH.shape[1], keys_BSKH.shape[1], shards, soft_cap, interpret)
    numbers_BT, numbers_BS = groups(mask, queries, keys)

    def of_device(q_BTNH, keys_BSKH, values_BSKH, numbers_BT, numbers_BS, kernel):
        length = q_BTNH.shape[1]
        q_BNTH = _whole_blocks(q_BTNH / math.sqrt(q_BTNH.shape[-1])).swapaxes(1, 2)
        keys_BKSH, values_BKSH = (_whole_blocks(array).swapaxes(1, 2) for array in (keys_BSKH, values_BSKH))
        ids = pallas.SegmentIds(_whole_blocks(numbers_BT), _whole_blocks(numbers_BS, _NOTHING))
        heads_BNTH = jax.vmap(kernel)(q_BNTH, keys_BKSH, values_BKSH, ids)
        return heads_BNTH.swapaxes(1, 2)[:, :length]

    with jax.named_scope(visits(band(mask), q_BTNH.shape[1], keys_BSKH.shape[1], shards)):
        return sharding.on_each_device(of_device, q_BTNH, keys_BSKH, values_BSKH, numbers_BT, numbers_BS, kernel)


def _whole_blocks(array_BT: jax.Array, filling: int = 0) -> jax.Array:
    """Filled up along the sequence. Arrays may have more dimensions."""
    length = array_BT.shape[1]
    missing = Blocks.of(length).length - length
    return jnp.pad(array_BT, ((0, 0), (0, missing)) + ((0, 0),) * (array_BT.ndim - 2), constant_values=filling)


def _columns(length: int, shards: int) -> np.ndarray:
    """Where every query of every device stands in the row, those that were filled up as the last: int32."""
    part = length // shards
    own = np.minimum(np.arange(Blocks.of(part).length), part - 1)
    return np.concatenate([shard * part + own for shard in range(shards)]).astype(np.int32)


def _kernel(
    band: Band, length: int, key_length: int, shards: int, soft_cap: float, interpret: bool
) -> Callable[..., jax.Array]:
    """The kernel of all heads of a row. Of several devices that share a row each has a part of it."""
    if band == Band():  # the same on each of them
        length, shards = length // shards, 1
    columns, of_keys = _columns(length, shards), Blocks.of(key_length)
    shape = (len(columns), of_keys.length)
    if band == Band():
        mask = pallas.FullMask(shape)
    else:
        mask = pallas.LocalMask(shape, (band.before, band.after), offset=0)
        mask.q_sequence = columns
    # One mask is every head's.
    kernel = pallas.make_splash_mha(
        pallas.MultiHeadMask([mask]),
        block_sizes=_block_sizes(Blocks.of(length // shards), of_keys),
        head_shards=1,
        q_seq_shards=shards,
        attn_logits_soft_cap=soft_cap or None,
        interpret=interpret,
    )
    if shards == 1:
        return kernel
    where = NamedSharding(jax.sharding.get_abstract_mesh(), sharding.used(None, "length"))
    return jax.tree.map(jax.sharding.reshard, kernel, kernel.manual_sharding_spec(where))


def _block_sizes(queries: Blocks, keys: Blocks) -> pallas.BlockSizes:
    forward = {"block_q": queries.size, "block_kv": keys.size}
    backward = {"block_q_dkv": queries.size, "block_kv_dkv": keys.size}
    if keys.count == 1:
        # One pass for the gradients of queries, keys and values; with more blocks their parts would be in main memory.
        return pallas.BlockSizes(**forward, **backward, use_fused_bwd_kernel=True)
    return pallas.BlockSizes(**forward, **backward, block_q_dq=queries.size, block_kv_dq=keys.size)


def visits(band: Band, length: int, key_length: int, shards: int) -> str:
    """`blocks_3_of_4`: how many a device visits at most. `transformer plan` reads it in the compiled program."""
    columns = _columns(length, shards).reshape(shards, -1, Blocks.of(length // shards).size)
    keys = Blocks.of(key_length)
    visited = [
        sum(
            band.visits(int(block[0]), int(block[-1]), key * keys.size, (key + 1) * keys.size - 1)
            for block in blocks
            for key in range(keys.count)
        )
        for blocks in columns
    ]
    return f"blocks_{max(visited)}_of_{columns.shape[1] * keys.count}"

"""Who may attend to whom, as values that are combined with `&` and `|` and made into arrays only where that is needed.

A mask is asked about two `Places`: where the queries stand and where the keys stand. The answer is bool, True = attend,
[B, 1, T, S]. A kernel that knows a mask's parts (see `parts`) need not have the array at all.

A segment numbers the examples of a packed row from 1; 0 is padding. In a row of one example all real tokens are segment
1. The same masks therefore serve padded and packed batches.

Letters: B batch, T query length, S key length.
"""

import dataclasses
import functools
import operator

import jax
import jax.numpy as jnp

from transformer import sharding
from transformer.config import ModelConfig


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Places:
    """Where tokens stand.

    `contiguous`: positions of a segment rise by one along the row, so that two tokens of one segment are as far apart
    as their columns. True of training batches, not of a cache, where the columns of several hypotheses alternate.
    """

    positions_BT: jax.Array  # int32, from 0 in every segment
    segments_BT: jax.Array  # int32
    prompt_BT: jax.Array | None = None  # bool: part of a prompt, which `Prompt` lets be seen whole; None: nothing is
    contiguous: bool = dataclasses.field(default=True, metadata={"static": True})

    def whole(self) -> "Places":
        """The same, of all positions on every device: as keys are read."""
        return jax.tree.map(lambda array_BS: sharding.place(array_BS, "batch", None), self)


def distances(queries: Places, keys: Places) -> jax.Array:
    """How far behind its query each key stands (negative: before it), int32 [B or 1, T, S]; of one segment's tokens."""
    length = keys.positions_BT.shape[1]
    if queries.contiguous and keys.contiguous and queries.positions_BT.shape[1] == length:
        rows_1TS = sharding.like(queries.positions_BT, None, 1, None)
        query_1TS = jax.lax.broadcasted_iota(jnp.int32, (1, length, length), 1, out_sharding=rows_1TS)
        return jax.lax.broadcasted_iota(jnp.int32, (1, length, length), 2, out_sharding=rows_1TS) - query_1TS
    return keys.positions_BT[:, None, :] - queries.positions_BT[:, :, None]


class Mask:
    """What every mask can do. Your own: a frozen dataclass with `allowed`, registered as JAX's pytree."""

    def allowed(self, queries: Places, keys: Places) -> jax.Array:
        """[B, 1, T, S]: True where the query may see the key."""
        raise NotImplementedError

    def __and__(self, other: "Mask") -> "Mask":
        return All((*parts(self), *parts(other)))

    def __or__(self, other: "Mask") -> "Mask":
        return Either((self, other))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class All(Mask):
    """What every one of several masks allows. `a & b` makes it."""

    masks: tuple[Mask, ...]

    def allowed(self, queries: Places, keys: Places) -> jax.Array:
        return functools.reduce(operator.and_, (mask.allowed(queries, keys) for mask in self.masks))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Either(Mask):
    """What at least one of several masks allows. `a | b` makes it."""

    masks: tuple[Mask, ...]

    def allowed(self, queries: Places, keys: Places) -> jax.Array:
        return functools.reduce(operator.or_, (mask.allowed(queries, keys) for mask in self.masks))


def parts(mask: Mask) -> tuple[Mask, ...]:
    """The masks all of which must allow: those of an `All`, else the mask itself."""
    return mask.masks if isinstance(mask, All) else (mask,)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Padding(Mask):
    """Real keys, of whatever segment.

    key segments 1 1 2 0:

        x x x .
        x x x .
        x x x .
        x x x .
    """

    def allowed(self, queries: Places, keys: Places) -> jax.Array:
        return jnp.broadcast_to(_of_keys(keys.segments_BT) != 0, _shape(queries, keys))


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class SameSegment(Mask):
    """Real keys of the query's own example.

    query segments 1 1 2 0, key segments 1 1 2 0:

        x x . .
        x x . .
        . . x .
        . . . .
    """

    def allowed(self, queries: Places, keys: Places) -> jax.Array:
        segments_B11S = _of_keys(keys.segments_BT)
        return (_of_queries(queries.segments_BT) == segments_B11S) & (segments_B11S != 0)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Causal(Mask):
    """Keys at or before the query (section 3.2.3): "prevent leftward information flow".

    positions 0 1 2 3:

        x . . .
        x x . .
        x x x .
        x x x x
    """

    def allowed(self, queries: Places, keys: Places) -> jax.Array:
        return _of_queries(queries.positions_BT) >= _of_keys(keys.positions_BT)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Prompt(Mask):
    """Keys of a prompt. `Causal() | Prompt()` is the mask of a prefix language model (Raffel et al. 2020, figure 4).

    Causal() | Prompt(), positions 0 1 2 3 of which 0 and 1 are the prompt:

        x x . .
        x x . .
        x x x .
        x x x x
    """

    def allowed(self, queries: Places, keys: Places) -> jax.Array:
        if keys.prompt_BT is None:
            return jnp.zeros(_shape(queries, keys), bool)
        return jnp.broadcast_to(_of_keys(keys.prompt_BT), _shape(queries, keys))


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Window(Mask):
    """Keys fewer than `size` positions away, on either side (Beltagy et al. 2020); with `Causal()` the last `size`.

    Causal() & Window(2), positions 0 1 2 3:

        x . . .
        x x . .
        . x x .
        . . x x
    """

    size: int

    def allowed(self, queries: Places, keys: Places) -> jax.Array:
        return jnp.abs(_of_queries(queries.positions_BT) - _of_keys(keys.positions_BT)) < self.size


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Chunk(Mask):
    """Keys of the query's own chunk, where positions are cut into chunks of `size`.

    Causal() & Chunk(2), positions 0 1 2 3:

        x . . .
        x x . .
        . . x .
        . . x x
    """

    size: int

    def allowed(self, queries: Places, keys: Places) -> jax.Array:
        return _of_queries(queries.positions_BT) // self.size == _of_keys(keys.positions_BT) // self.size


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Given(Mask):
    """Any array of your own: bool [B or 1, 1, T, S].

    Given(~eye(4)), what is not the query itself:

        . x x x
        x . x x
        x x . x
        x x x .
    """

    allowed_B1TS: jax.Array

    def allowed(self, queries: Places, keys: Places) -> jax.Array:
        return self.allowed_B1TS


def reach(config: ModelConfig) -> tuple[Mask, ...]:
    """How far `config` lets any self-attention look."""
    window = () if config.attention_window is None else (Window(config.attention_window),)
    chunk = () if config.attention_chunk is None else (Chunk(config.attention_chunk),)
    return (*window, *chunk)


def encoder(config: ModelConfig) -> Mask:
    """Who sees whom in an encoder."""
    return All((SameSegment(), *reach(config)))


def decoder(config: ModelConfig) -> Mask:
    """Who sees whom in a decoder, when all its inputs are given at once."""
    order = {"causal": Causal(), "prefix": Causal() | Prompt()}[config.mask]
    return All((SameSegment(), order, *reach(config)))


def _shape(queries: Places, keys: Places) -> tuple[int, int, int, int]:
    batch_size, length = queries.positions_BT.shape
    return batch_size, 1, length, keys.positions_BT.shape[1]


def _of_queries(of_queries_BT: jax.Array) -> jax.Array:
    return of_queries_BT[:, None, :, None]


def _of_keys(of_keys_BS: jax.Array) -> jax.Array:
    return of_keys_BS[:, None, None, :]

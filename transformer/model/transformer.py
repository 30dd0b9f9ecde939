"""What both models are made of: a layer, and a decoder that predicts the next token (section 3, figure 1).

Letters: B batch, T query length, S key length, K hypotheses, P prompt length, D model, N heads, V vocabulary, L layers,
C cache columns.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from transformer import sharding
from transformer.config import ModelConfig
from transformer.model import masks
from transformer.model.attention import KeysValues, Role, attention_class
from transformer.model.compact import Compact, compact_product
from transformer.model.decoder_cache import LayerCache
from transformer.model.dropout import DropoutKey, dropout
from transformer.model.layers import Embedding, FeedForward, Residual, Stack
from transformer.model.masks import Mask, Places
from transformer.model.norms import make_norm
from transformer.model.positions import added_positions
from transformer.model.products import activation_dtype, float32_product

# A training batch: the arrays of int32 that transformer/data describes.
Batch = dict[str, jax.Array]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Source:
    """What a layer's cross-attention reads, and who may read what."""

    memory: KeysValues
    mask: Mask


def attend(attention: nnx.Module, *inputs, key: DropoutKey | None = None) -> jax.Array:
    """How a layer calls its attentions."""
    return attention(*inputs, key)


class Watch:
    """Calls attentions as `attend` does, and keeps the weights of each, [B, N, T, S], in the order of the calls."""

    def __init__(self):
        self.weights: list[jax.Array] = []

    def __call__(self, attention: nnx.Module, *inputs, key: DropoutKey | None = None) -> jax.Array:
        self.weights.append(attention.weights(*inputs))
        return attention(*inputs, key)


class Layer(nnx.Module):
    """Self-attention, attention to a source where there is one, a feed-forward network, each with its residual.

    An encoder's layer, a decoder's, and one of a language model, which is a decoder's without a source.
    """

    def __init__(self, config: ModelConfig, *, role: Role, cross: bool, rngs: nnx.Rngs):
        attention = attention_class(config)
        self.self_attention = attention(config, role=role, rngs=rngs)
        self.self_attention_residual = Residual(config)
        self.cross_attention = attention(config, role="cross", rngs=rngs) if cross else None
        self.cross_attention_residual = Residual(config) if cross else None
        self.feed_forward = FeedForward(config, rngs=rngs)
        self.feed_forward_residual = Residual(config)

    def __call__(
        self,
        x_BTD: jax.Array,
        places: Places,
        mask: Mask,
        source: Source | None = None,
        key: DropoutKey | None = None,
        remember: Callable[[KeysValues], KeysValues] = lambda own: own,
        attend: Callable[..., jax.Array] = attend,
    ) -> tuple[jax.Array, KeysValues]:
        """The layer's output, and the keys and values its self-attention read.

        Args:
          remember: turns the keys and values of the positions given here into those of all positions to read: the
            identity in training, where all are given at once; joined to a cache in decoding.
          attend: calls an attention; see `Watch`.
        """
        y_BTD = self.self_attention_residual.before(x_BTD)
        own = remember(self.self_attention.keys_values(y_BTD, places))
        y_BTD = attend(self.self_attention, y_BTD, places, own, mask, key=site(key, 3))
        x_BTD = self.self_attention_residual.after(x_BTD, y_BTD, site(key, 0))

        if source is not None:
            y_BTD = self.cross_attention_residual.before(x_BTD)
            y_BTD = attend(self.cross_attention, y_BTD, places, source.memory, source.mask, key=site(key, 4))
            x_BTD = self.cross_attention_residual.after(x_BTD, y_BTD, site(key, 1))

        y_BTD = self.feed_forward(self.feed_forward_residual.before(x_BTD))
        return self.feed_forward_residual.after(x_BTD, y_BTD, site(key, 2)), own


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SourceCache:
    """A layer's `Source` while decoding."""

    memory: LayerCache
    mask: Mask

    @classmethod
    def of(cls, source: Source) -> "SourceCache":
        return cls(LayerCache.of(source.memory), source.mask)

    def read(self) -> Source:
        return Source(self.memory.read(), self.mask)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DecoderCache:
    """What decoding remembers.

    Columns C of a layer's own keys and values are those of the prompt, then (position, slot): slot k of generated
    position t is column P + t * K + k.
    """

    own: list[LayerCache]  # an entry a layer
    source: list[SourceCache | None]  # an entry a layer; the same at every step
    prompt_BP: jax.Array  # bool: the prompt's columns that hold a token
    starts_B: jax.Array  # int32: the position of the first token generated

    def generated_columns(self, num_slots: int) -> int:
        """How many tokens of a hypothesis there is room for."""
        return (self.own[0].keys_BKHC.shape[3] - self.prompt_BP.shape[1]) // num_slots

    def grown(self, positions: int, num_slots: int) -> "DecoderCache":
        """With room for that many more tokens of each hypothesis."""
        return dataclasses.replace(self, own=[layer.grown(positions, num_slots) for layer in self.own])


class Decoder(nnx.Module):
    """A stack that predicts the next token, from what it has seen of its own text and, maybe, of another.

    The softmax is left to who needs it: see `output_table`.

    Args:
      config: the network.
      vocab_size: pieces.
      cross: whether the layers attend to a source.
    """

    def __init__(self, config: ModelConfig, vocab_size: int, *, cross: bool, rngs: nnx.Rngs):
        self.config = config
        # The tied matrix has one owner, here, and is passed down.
        self.target_embedding = Embedding(vocab_size, config, rngs=rngs)
        self.output = Embedding(vocab_size, config, rngs=rngs) if config.tied_embeddings == "none" else None
        self.target_positions = added_positions(config, rngs=rngs)
        self.decoder = Stack(
            lambda rngs: Layer(config, role="decoder", cross=cross, rngs=rngs),
            config.num_decoder_layers,
            config,
            rngs=rngs,
        )
        # Pre-norm leaves the stack's sum unnormalised.
        self.decoder_norm = make_norm(config) if config.norm == "pre" else None

    def output_table(self) -> jax.Array:
        """The matrix [V, D] whose product with the decoder's output is the logits."""
        return (self.target_embedding if self.output is None else self.output).whole()

    def decode(
        self,
        tokens_BT: jax.Array,
        places: Places,
        source_of: Callable[[Layer], Source | None],
        key: DropoutKey | None = None,
    ) -> jax.Array:
        """The decoder's output [B, T, D] for every position of inputs that are all known."""
        mask = masks.decoder(self.config)

        def turn(layer: Layer, x_BTD: jax.Array, key: DropoutKey | None):
            x_BTD, _ = layer(x_BTD, places, mask, source_of(layer), key)
            return x_BTD, None

        x_BTD, _ = self.decoder.scan(turn, self.embed_target(tokens_BT, places, key), key)
        return finish(self.decoder_norm, x_BTD)

    def watch_decoding(
        self, tokens_BT: jax.Array, places: Places, source_of: Callable[[Layer], Source | None]
    ) -> list[jax.Array]:
        """The weights [L, B, N, T, S] of each attention of a layer, its own first. No dropout."""
        mask = masks.decoder(self.config)

        def turn(layer: Layer, x_BTD: jax.Array, key: None):
            watch = Watch()
            x_BTD, _ = layer(x_BTD, places, mask, source_of(layer), key, attend=watch)
            return x_BTD, watch.weights

        return self.decoder.scan(turn, self.embed_target(tokens_BT, places, None), None)[1]

    def embed_target(self, tokens_BT: jax.Array, places: Places, key: DropoutKey | None) -> jax.Array:
        """Embeddings with positions [B, T, D]."""
        return embed(self.target_embedding, self.target_positions, tokens_BT, places, self.config.dropout, key)

    # --- decoding a token at a time ---

    def empty_cache(
        self,
        layers: list[Layer],
        source: list[SourceCache | None],
        prompt: Places,
        num_slots: int,
        max_length: int,
    ) -> DecoderCache:
        """Room for a prompt and `max_length` more tokens of `num_slots` hypotheses a row, all zeros."""
        batch_size = len(prompt.positions_BT)
        starts_B = jnp.sum(prompt.segments_BT > 0, axis=1, dtype=jnp.int32)
        steps_1C = jnp.arange(max_length * num_slots, dtype=jnp.int32)[None, :] // num_slots
        positions_BC = jnp.concatenate([prompt.positions_BT, starts_B[:, None] + steps_1C], axis=1)
        places = Places(positions_BC, jnp.ones_like(positions_BC), contiguous=False).whole()

        def empty(layer: Layer) -> LayerCache:
            # One position's keys and values say what shape and type the cache's columns have.
            x_B1D = sharding.place(
                jnp.zeros((batch_size, 1, self.config.d_model), activation_dtype(self.config.dtype)),
                "batch",
                None,
                None,
            )
            first = Places(positions_BC[:, :1], positions_BC[:, :1], contiguous=False)
            one = jax.eval_shape(layer.self_attention.keys_values, x_B1D, first)

            return LayerCache.empty(one, places)

        return DecoderCache([empty(layer) for layer in layers], source, prompt.segments_BT > 0, starts_B)

    def step_of(self, layers: list[Layer], num_slots: int, output_DV: jax.Array | Compact | None = None) -> Callable:
        """The function that decodes one token further: step(tokens_BK, position, slots_BKT, cache) ->
        (logits_BKV float32, cache).

        The cache only grows: at each position every slot writes its own column, and `slots_BKT` says whose column at
        each earlier position belongs to a hypothesis' past. The hypotheses of a row are so many queries of one
        sequence, which is why they share the prompt's and the source's keys and values.

        Args:
          output_DV: the output table as `decoding_weights.prepare` makes it; unset: made here, which copies it.
        """
        if output_DV is None:
            output_DV = self.output_table().T.astype(activation_dtype(self.config.dtype))
        reach = masks.reach(self.config)

        def step(tokens_BK, position, slots_BKT, cache: DecoderCache):
            positions_BK = jnp.broadcast_to((cache.starts_B + position)[:, None], tokens_BK.shape)
            places = Places(positions_BK, jnp.ones_like(tokens_BK), contiguous=False)
            prompt_B1KP = jnp.broadcast_to(
                cache.prompt_BP[:, None, None, :], (len(tokens_BK), 1, num_slots, cache.prompt_BP.shape[1])
            )
            past = masks.Given(jnp.concatenate([prompt_B1KP, _past_columns(slots_BKT, position)], axis=-1))
            column = cache.prompt_BP.shape[1] + position * num_slots
            x_BKD = self.embed_target(tokens_BK, places, None)
            own = []

            def remember(new: KeysValues) -> KeysValues:
                own.append(cache.own[len(own)].put(new, column))
                return own[-1].read()

            for layer, source in zip(layers, cache.source, strict=True):
                read = None if source is None else source.read()
                x_BKD, _ = layer(x_BKD, places, masks.All((past, *reach)), read, remember=remember)
            x_BKD = finish(self.decoder_norm, x_BKD)
            return self._logits(x_BKD, output_DV), dataclasses.replace(cache, own=own)

        return step

    def _logits(self, x_BKD: jax.Array, output_DV: jax.Array | Compact) -> jax.Array:
        if isinstance(output_DV, Compact):
            return compact_product(x_BKD, output_DV, (None, "vocabulary"), jnp.dtype(jnp.float32))
        return float32_product("BKD,DV->BKV", x_BKD, output_DV, output_DV.dtype.name)


def embed(
    embedding: Embedding,
    added: nnx.Module,
    tokens_BT: jax.Array,
    places: Places,
    rate: float,
    key: DropoutKey | None,
) -> jax.Array:
    """What a stack is fed (section 3.4 and 3.5): dropout(embeddings + positions), [B, T, D]."""
    x_BTD = embedding(tokens_BT)
    x_BTD = (x_BTD + added(places.positions_BT)).astype(x_BTD.dtype)
    # Layers are folded by their number from 0: the embedding's site takes a number no depth reaches.
    return dropout(x_BTD, rate, site(key, 1_000_000))


def finish(norm: nnx.Module | None, x_BTD: jax.Array) -> jax.Array:
    """A stack's output."""
    return x_BTD if norm is None else norm(x_BTD)


def site(key: DropoutKey | None, number: int) -> DropoutKey | None:
    """The dropout key of one place in a layer."""
    return None if key is None else key.fold(number)


def _past_columns(slots_BKT: jax.Array, position: jax.Array) -> jax.Array:
    """[B, 1, K, T * K]: which generated columns belong to the past of each hypothesis, its newest token included."""
    num_slots, max_length = slots_BKT.shape[1:]
    slots_BKT1 = slots_BKT[:, :, :, None]
    mine_BKTK = slots_BKT1 == jnp.arange(num_slots, dtype=slots_BKT.dtype)[None, None, None, :]
    past_BKTK = mine_BKTK & (jnp.arange(max_length) <= position)[None, None, :, None]
    shape = (*slots_BKT.shape[:2], max_length * num_slots)
    return jnp.reshape(past_BKTK, shape, out_sharding=sharding.like(slots_BKT, 0, 1, None))[:, None]

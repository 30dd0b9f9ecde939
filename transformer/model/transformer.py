"""The encoder-decoder of "Attention Is All You Need" (section 3, figure 1).

Letters: B batch, T target or query length, S source or key length, K hypotheses, D model, N heads, H head size,
V vocabulary, L layers, C cache columns.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from transformer import sharding
from transformer.config import ModelConfig
from transformer.model import masks, positions
from transformer.model.attention import KeysValues, attention_class
from transformer.model.dropout import DropoutKey, dropout
from transformer.model.layers import Embedding, FeedForward, LayerNorm, Residual, Stack
from transformer.model.products import activation_dtype, float32_product

# A training batch: the arrays of int32 that transformer/data/batches.py describes.
Batch = dict[str, jax.Array]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Memory:
    """What the decoder reads of one sequence through cross-attention."""

    hidden_BSD: jax.Array
    segments_BS: jax.Array
    positions_BS: jax.Array


class EncoderLayer(nnx.Module):
    """Self-attention, then a feed-forward network, each with its residual (section 3.1)."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        self.self_attention = attention_class(config)(config, rngs=rngs)
        self.self_attention_residual = Residual(config)
        self.feed_forward = FeedForward(config, rngs=rngs)
        self.feed_forward_residual = Residual(config)

    def __call__(self, x_BSD, positions_BS, mask_B1SS, key: DropoutKey | None) -> jax.Array:
        y_BSD = self.self_attention_residual.before(x_BSD)
        memory = self.self_attention.keys_values(y_BSD, positions_BS)
        y_BSD = self.self_attention(y_BSD, positions_BS, memory, mask_B1SS)
        x_BSD = self.self_attention_residual.after(x_BSD, y_BSD, _site(key, 0))

        y_BSD = self.feed_forward(self.feed_forward_residual.before(x_BSD))
        return self.feed_forward_residual.after(x_BSD, y_BSD, _site(key, 1))

    def attention_weights(self, x_BSD, positions_BS, mask_B1SS) -> jax.Array:
        """This layer's self-attention weights [B, N, S, S] for its input, computed plainly."""
        y_BSD = self.self_attention_residual.before(x_BSD)
        memory = self.self_attention.keys_values(y_BSD, positions_BS)
        return self.self_attention.weights(y_BSD, positions_BS, memory, mask_B1SS)


class DecoderLayer(nnx.Module):
    """Causal self-attention, attention to the encoder's output, a feed-forward network (section 3.1)."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        self.self_attention = attention_class(config)(config, rngs=rngs)
        self.self_attention_residual = Residual(config)
        self.cross_attention = attention_class(config)(config, rngs=rngs)
        self.cross_attention_residual = Residual(config)
        self.feed_forward = FeedForward(config, rngs=rngs)
        self.feed_forward_residual = Residual(config)

    def __call__(
        self,
        x_BTD: jax.Array,
        positions_BT: jax.Array,
        mask_B1TS: jax.Array,
        source: KeysValues,
        source_mask_B1TS: jax.Array,
        key: DropoutKey | None = None,
        remember: Callable[[KeysValues], KeysValues] = lambda own: own,
    ) -> tuple[jax.Array, KeysValues]:
        """The layer's output, and the keys and values its self-attention read.

        `remember` turns the keys and values of the positions given here into those of all positions to read: the
        identity in training, where all are given at once; joined to a cache in decoding.
        """
        y_BTD = self.self_attention_residual.before(x_BTD)
        own = remember(self.self_attention.keys_values(y_BTD, positions_BT))
        y_BTD = self.self_attention(y_BTD, positions_BT, own, mask_B1TS)
        x_BTD = self.self_attention_residual.after(x_BTD, y_BTD, _site(key, 0))

        y_BTD = self.cross_attention_residual.before(x_BTD)
        y_BTD = self.cross_attention(y_BTD, positions_BT, source, source_mask_B1TS)
        x_BTD = self.cross_attention_residual.after(x_BTD, y_BTD, _site(key, 1))

        y_BTD = self.feed_forward(self.feed_forward_residual.before(x_BTD))
        return self.feed_forward_residual.after(x_BTD, y_BTD, _site(key, 2)), own

    def source_keys_values(self, memory: Memory) -> KeysValues:
        """The encoder's output as this layer's cross-attention reads it: the same at every step of decoding."""
        return self.cross_attention.keys_values(memory.hidden_BSD, memory.positions_BS)

    def attention_weights(
        self, x_BTD, positions_BT, mask_B1TS, source, source_mask_B1TS
    ) -> tuple[jax.Array, jax.Array]:
        """This layer's self- and cross-attention weights [B, N, T, S] for its input, computed plainly."""
        y_BTD = self.self_attention_residual.before(x_BTD)
        own = self.self_attention.keys_values(y_BTD, positions_BT)
        self_weights = self.self_attention.weights(y_BTD, positions_BT, own, mask_B1TS)
        y_BTD = self.self_attention(y_BTD, positions_BT, own, mask_B1TS)
        x_BTD = self.self_attention_residual.after(x_BTD, y_BTD, None)
        y_BTD = self.cross_attention_residual.before(x_BTD)
        return self_weights, self.cross_attention.weights(y_BTD, positions_BT, source, source_mask_B1TS)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class AttentionWeights:
    """Weights of every head of every layer, float32; each row over the last axis sums to 1."""

    encoder_LBNSS: jax.Array
    decoder_LBNTT: jax.Array
    cross_LBNTS: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DecoderCache:
    """What decoding remembers: one entry a layer. Columns C are (position, slot): slot k of position t is t * K + k."""

    own: list[KeysValues]
    source: list[KeysValues]
    source_segments_BS: jax.Array


class EncoderDecoder(nnx.Module):
    """Figure 1. The output's softmax is left to who needs it: see `output_table`.

    Args:
      config: the network.
      source_vocab_size, target_vocab_size: pieces of each side; equal when `config.tied_embeddings` is "all".
    """

    def __init__(self, config: ModelConfig, source_vocab_size: int, target_vocab_size: int, *, rngs: nnx.Rngs):
        if config.tied_embeddings == "all" and source_vocab_size != target_vocab_size:
            raise ValueError(f"Tied embeddings need one vocabulary, not {source_vocab_size} and {target_vocab_size}.")
        self.config = config
        # The tied matrix has one owner, here, and is passed down.
        self.target_embedding = Embedding(target_vocab_size, config, rngs=rngs)
        self.source_embedding = (
            None if config.tied_embeddings == "all" else Embedding(source_vocab_size, config, rngs=rngs)
        )
        self.output = Embedding(target_vocab_size, config, rngs=rngs) if config.tied_embeddings == "none" else None
        make_positions = positions.KINDS[config.positions]
        self.source_positions = make_positions(config, rngs=rngs)
        self.target_positions = make_positions(config, rngs=rngs)
        self.encoder = Stack(lambda rngs: EncoderLayer(config, rngs=rngs), config.num_encoder_layers, config, rngs=rngs)
        self.decoder = Stack(lambda rngs: DecoderLayer(config, rngs=rngs), config.num_decoder_layers, config, rngs=rngs)
        # Pre-norm leaves each stack's sum unnormalised.
        pre = config.norm == "pre"
        self.encoder_norm = LayerNorm(config.d_model) if pre else None
        self.decoder_norm = LayerNorm(config.d_model) if pre else None

    # --- training ---

    def __call__(self, batch: Batch, key: DropoutKey | None = None) -> jax.Array:
        """The decoder's output [B, T, D] for every position of `batch["target_inputs"]`, dropout on with a key."""
        memory = self.encode(
            batch["source"], batch["source_segments"], batch["source_positions"], None if key is None else key.fold(0)
        )
        key = None if key is None else key.fold(1)
        x_BTD = self._embed_target(batch["target_inputs"], batch["target_positions"], key)
        self_mask, cross_mask = _decoder_masks(batch, memory)

        def layer_turn(layer: DecoderLayer, x_BTD: jax.Array, key: DropoutKey | None):
            source = layer.source_keys_values(memory)
            x_BTD, _ = layer(x_BTD, batch["target_positions"], self_mask, source, cross_mask, key)
            return x_BTD, None

        x_BTD, _ = self.decoder.scan(layer_turn, x_BTD, key)
        return self._finish(self.decoder_norm, x_BTD)

    def encode(
        self, tokens_BS: jax.Array, segments_BS: jax.Array, positions_BS: jax.Array, key: DropoutKey | None = None
    ) -> Memory:
        """The encoder's output."""
        x_BSD = self._embed_source(tokens_BS, positions_BS, key)
        mask_B1SS = masks.same_segment(segments_BS, segments_BS)

        def layer_turn(layer: EncoderLayer, x_BSD: jax.Array, key: DropoutKey | None):
            return layer(x_BSD, positions_BS, mask_B1SS, key), None

        x_BSD, _ = self.encoder.scan(layer_turn, x_BSD, key)
        return Memory(self._finish(self.encoder_norm, x_BSD), segments_BS, positions_BS)

    def output_table(self) -> jax.Array:
        """The matrix [V, D] whose product with the decoder's output is the logits."""
        return (self.target_embedding if self.output is None else self.output).whole()

    # --- looking inside ---

    def attention_weights(self, batch: Batch) -> AttentionWeights:
        """Every head's weights for a batch, computed plainly whatever kernel training uses. No dropout."""
        segments_BS, positions_BS = batch["source_segments"], batch["source_positions"]
        mask_B1SS = masks.same_segment(segments_BS, segments_BS)

        def encoder_turn(layer: EncoderLayer, x_BSD: jax.Array, key: None):
            weights_BNSS = layer.attention_weights(x_BSD, positions_BS, mask_B1SS)
            return layer(x_BSD, positions_BS, mask_B1SS, key), weights_BNSS

        x_BSD = self._embed_source(batch["source"], positions_BS, None)
        x_BSD, encoder_LBNSS = self.encoder.scan(encoder_turn, x_BSD, None)
        memory = Memory(self._finish(self.encoder_norm, x_BSD), segments_BS, positions_BS)
        self_mask, cross_mask = _decoder_masks(batch, memory)

        def decoder_turn(layer: DecoderLayer, x_BTD: jax.Array, key: None):
            source = layer.source_keys_values(memory)
            inputs = (x_BTD, batch["target_positions"], self_mask, source, cross_mask)
            return layer(*inputs)[0], layer.attention_weights(*inputs)

        x_BTD = self._embed_target(batch["target_inputs"], batch["target_positions"], None)
        _, (decoder_LBNTT, cross_LBNTS) = self.decoder.scan(decoder_turn, x_BTD, None)
        return AttentionWeights(encoder_LBNSS, decoder_LBNTT, cross_LBNTS)

    # --- decoding ---

    def start_decoding(self, memory: Memory, num_slots: int, max_length: int) -> tuple[Callable, DecoderCache]:
        """Prepares to decode up to `max_length` tokens with `num_slots` hypotheses [K] a sentence.

        Returns:
          step(tokens_BK, position, slots_BKT, cache) -> (logits_BKV float32, cache), and the empty cache. The cache
          only grows: at each position every slot writes its own column, and `slots_BKT` says whose column at each
          earlier position belongs to a hypothesis' past. The hypotheses of a sentence are so many queries of one
          sequence, which is why they share the source's keys and values.
        """
        layers = self.decoder.unstacked()
        batch_size = memory.segments_BS.shape[0]
        # On a CPU float32: its bfloat16 products of a few rows are ten times slower.
        output_DV = self.output_table().T.astype(activation_dtype(self.config.dtype))
        columns = jnp.arange(max_length * num_slots, dtype=jnp.int32)
        column_positions_BC = sharding.place(
            jnp.broadcast_to(columns // num_slots, (batch_size, max_length * num_slots)), "batch", None
        )

        def empty(layer: DecoderLayer) -> KeysValues:
            # One position's keys and values say what shape and type the cache's columns have.
            x_BKD = sharding.place(
                jnp.zeros((batch_size, num_slots, self.config.d_model), memory.hidden_BSD.dtype), "batch", None, None
            )
            one = jax.eval_shape(layer.self_attention.keys_values, x_BKD, column_positions_BC[:, :num_slots])

            def grown(leaf: jax.ShapeDtypeStruct) -> jax.Array:
                names = ("batch", None, "heads", None)
                shape = (batch_size, max_length * num_slots, *leaf.shape[2:])
                return sharding.place(jnp.zeros(shape, leaf.dtype), *names)

            return KeysValues(grown(one.keys_BSNH), grown(one.values_BSNH), column_positions_BC)

        cache = DecoderCache(
            own=[empty(layer) for layer in layers],
            source=[layer.source_keys_values(memory) for layer in layers],
            source_segments_BS=memory.segments_BS,
        )

        def step(tokens_BK, position, slots_BKT, cache: DecoderCache):
            positions_BK = jnp.full_like(tokens_BK, position)
            x_BKD = self._embed_target(tokens_BK, positions_BK, None)
            own_mask_B1KC = _past_columns(slots_BKT, position)
            cross_mask_B1KS = masks.same_segment(jnp.ones_like(tokens_BK), cache.source_segments_BS)
            own = []
            for layer, seen, source in zip(layers, cache.own, cache.source, strict=True):
                x_BKD, seen = layer(
                    x_BKD,
                    positions_BK,
                    own_mask_B1KC,
                    source,
                    cross_mask_B1KS,
                    remember=lambda new, seen=seen: _append(seen, new, position * num_slots),
                )
                own.append(seen)
            x_BKD = self._finish(self.decoder_norm, x_BKD)
            logits_BKV = float32_product("BKD,DV->BKV", x_BKD, output_DV, output_DV.dtype.name)
            return logits_BKV, dataclasses.replace(cache, own=own)

        return step, cache

    # --- parts ---

    def _embed_source(self, tokens_BS: jax.Array, positions_BS: jax.Array, key: DropoutKey | None) -> jax.Array:
        embedding = self.target_embedding if self.source_embedding is None else self.source_embedding
        return self._embed(embedding, self.source_positions, tokens_BS, positions_BS, key)

    def _embed_target(self, tokens_BT: jax.Array, positions_BT: jax.Array, key: DropoutKey | None) -> jax.Array:
        return self._embed(self.target_embedding, self.target_positions, tokens_BT, positions_BT, key)

    def _embed(self, embedding, add_positions, tokens_BT, positions_BT, key: DropoutKey | None) -> jax.Array:
        x_BTD = embedding(tokens_BT)
        x_BTD = (x_BTD + add_positions(positions_BT)).astype(x_BTD.dtype)
        # Layers are folded by their number from 0: the embedding's site takes a number no depth reaches.
        return dropout(x_BTD, self.config.dropout, _site(key, 1_000_000))

    def _finish(self, norm: LayerNorm | None, x_BTD: jax.Array) -> jax.Array:
        return x_BTD if norm is None else norm(x_BTD)


def _site(key: DropoutKey | None, number: int) -> DropoutKey | None:
    return None if key is None else key.fold(number)


def _decoder_masks(batch: Batch, memory: Memory) -> tuple[jax.Array, jax.Array]:
    segments_BT, positions_BT = batch["target_segments"], batch["target_positions"]
    own_mask_B1TT = masks.same_segment(segments_BT, segments_BT) & masks.causal(positions_BT, positions_BT)
    return own_mask_B1TT, masks.same_segment(segments_BT, memory.segments_BS)


def _past_columns(slots_BKT: jax.Array, position: jax.Array) -> jax.Array:
    """[B, 1, K, C]: which columns belong to the past of each hypothesis, its newest token included."""
    num_slots, max_length = slots_BKT.shape[1:]
    slots_BKT1 = slots_BKT[:, :, :, None]
    mine_BKTK = slots_BKT1 == jnp.arange(num_slots, dtype=slots_BKT.dtype)[None, None, None, :]
    past_BKTK = mine_BKTK & (jnp.arange(max_length) <= position)[None, None, :, None]
    return past_BKTK.reshape(*slots_BKT.shape[:2], max_length * num_slots)[:, None]


def _append(seen: KeysValues, new: KeysValues, column: jax.Array) -> KeysValues:
    return KeysValues(
        jax.lax.dynamic_update_slice_in_dim(seen.keys_BSNH, new.keys_BSNH, column, axis=1),
        jax.lax.dynamic_update_slice_in_dim(seen.values_BSNH, new.values_BSNH, column, axis=1),
        seen.positions_BS,
    )

"""The encoder-decoder of "Attention Is All You Need" (section 3, figure 1).

Letters: B batch, T target length, S source length, D model, N heads, V vocabulary, L layers.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from transformer.config import ModelConfig
from transformer.model import masks
from transformer.model.dropout import DropoutKey
from transformer.model.layers import Embedding, Stack
from transformer.model.masks import Places, SameSegment
from transformer.model.norms import make_norm
from transformer.model.positions import added_positions
from transformer.model.transformer import (
    Batch,
    Decoder,
    DecoderCache,
    Layer,
    Source,
    SourceCache,
    Watch,
    embed,
    finish,
    site,
)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Memory:
    """The encoder's output, which the decoder reads through cross-attention."""

    hidden_BSD: jax.Array
    places: Places

    def padded(self, length: int) -> "Memory":
        """Filled up with padding to that length."""

        def longer(array_BSX: jax.Array) -> jax.Array:
            return jnp.pad(array_BSX, [(0, 0), (0, length - array_BSX.shape[1]), *[(0, 0)] * (array_BSX.ndim - 2)])

        return jax.tree.map(longer, self)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class AttentionWeights:
    """Weights of every head of every layer, float32; each row over the last axis sums to 1."""

    encoder_LBNSS: jax.Array
    decoder_LBNTT: jax.Array
    cross_LBNTS: jax.Array


class EncoderDecoder(Decoder):
    """Figure 1.

    Args:
      config: the network.
      source_vocab_size, target_vocab_size: pieces of each side; equal when `config.tied_embeddings` is "all".
    """

    def __init__(self, config: ModelConfig, source_vocab_size: int, target_vocab_size: int, *, rngs: nnx.Rngs):
        if config.tied_embeddings == "all" and source_vocab_size != target_vocab_size:
            raise ValueError(f"Tied embeddings need one vocabulary, not {source_vocab_size} and {target_vocab_size}.")
        super().__init__(config, target_vocab_size, cross=True, rngs=rngs)
        self.source_embedding = (
            None if config.tied_embeddings == "all" else Embedding(source_vocab_size, config, rngs=rngs)
        )
        self.source_positions = added_positions(config, rngs=rngs)
        self.encoder = Stack(
            lambda rngs: Layer(config, role="encoder", cross=False, rngs=rngs),
            config.num_encoder_layers,
            config,
            rngs=rngs,
        )
        self.encoder_norm = make_norm(config) if config.norm == "pre" else None

    def __call__(self, batch: Batch, key: DropoutKey | None = None) -> jax.Array:
        """The decoder's output [B, T, D] for every position of `batch["target_inputs"]`, dropout on with a key."""
        memory = self.encode(batch["source"], source_places(batch), site(key, 0))
        return self.decode(batch["target_inputs"], target_places(batch), _source_of(memory), site(key, 1))

    def encode(
        self,
        tokens_BS: jax.Array,
        places: Places,
        key: DropoutKey | None = None,
        layers: list[Layer] | None = None,
    ) -> Memory:
        """The encoder's output. `layers`: the encoder's, one by one, where they are at hand."""
        mask = masks.encoder(self.config)

        def turn(layer: Layer, x_BSD: jax.Array, key: DropoutKey | None):
            x_BSD, _ = layer(x_BSD, places, mask, key=key)
            return x_BSD, None

        x_BSD = self._embed_source(tokens_BS, places, key)
        if layers is None:
            x_BSD, _ = self.encoder.scan(turn, x_BSD, key)
        for number, layer in enumerate(layers or []):
            x_BSD, _ = turn(layer, x_BSD, None if key is None else key.fold(number))
        return Memory(finish(self.encoder_norm, x_BSD), places)

    def attention_weights(self, batch: Batch) -> AttentionWeights:
        """Every head's weights for a batch, computed plainly whatever kernel training uses. No dropout."""
        places, mask = source_places(batch), masks.encoder(self.config)

        def turn(layer: Layer, x_BSD: jax.Array, key: None):
            watch = Watch()
            x_BSD, _ = layer(x_BSD, places, mask, key=key, attend=watch)
            return x_BSD, watch.weights[0]

        x_BSD, encoder_LBNSS = self.encoder.scan(turn, self._embed_source(batch["source"], places, None), None)
        source_of = _source_of(Memory(finish(self.encoder_norm, x_BSD), places))
        return AttentionWeights(
            encoder_LBNSS, *self.watch_decoding(batch["target_inputs"], target_places(batch), source_of)
        )

    def start_decoding(
        self, memory: Memory, num_slots: int, max_length: int, layers: list[Layer] | None = None
    ) -> tuple[Callable, DecoderCache]:
        """Prepares to decode up to `max_length` tokens with `num_slots` hypotheses a sentence.

        Args:
          layers: the decoder's, one by one; unset: taken apart here, which copies them.

        Returns:
          The step function (see `Decoder.step_of`), to be fed BOS at position 0, and the cache before it.
        """
        layers = self.decoder.unstacked() if layers is None else layers
        nothing_B0 = jnp.zeros_like(memory.places.segments_BT[:, :0])
        source = [SourceCache.of(_source_of(memory)(layer)) for layer in layers]
        cache = self.empty_cache(layers, source, Places(nothing_B0, nothing_B0), num_slots, max_length)
        return self.step_of(layers, num_slots), cache

    def _embed_source(self, tokens_BS: jax.Array, places: Places, key: DropoutKey | None) -> jax.Array:
        embedding = self.target_embedding if self.source_embedding is None else self.source_embedding
        return embed(embedding, self.source_positions, tokens_BS, places, self.config.dropout, key)


def source_places(batch: Batch) -> Places:
    """Where a batch's source tokens stand."""
    return Places(batch["source_positions"], batch["source_segments"])


def target_places(batch: Batch) -> Places:
    """Where a batch's target tokens stand."""
    return Places(batch["target_positions"], batch["target_segments"])


def _source_of(memory: Memory) -> Callable[[Layer], Source]:
    """The encoder's output as each layer's cross-attention reads it."""
    # Columns of the two sides of a packed row do not run alike: how far they are apart is told by position.
    places = dataclasses.replace(memory.places, contiguous=False)
    return lambda layer: Source(layer.cross_attention.keys_values(memory.hidden_BSD, places), SameSegment())

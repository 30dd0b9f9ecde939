"""A decoder alone: it continues text.

Letters: B batch, T length, P prompt length, D model, N heads, V vocabulary, L layers.
"""

import dataclasses
from collections.abc import Callable

import jax
from flax import nnx

from transformer import sharding
from transformer.config import ModelConfig
from transformer.model import masks
from transformer.model.dropout import DropoutKey
from transformer.model.masks import Places
from transformer.model.transformer import Batch, Decoder, DecoderCache, Layer


class LanguageModel(Decoder):
    """The decoder of figure 1 without cross-attention (Liu et al. 2018), which models p(token | tokens before it).

    Its parameters have the names of an encoder-decoder's decoder.

    Args:
      config: the network; `num_decoder_layers` layers.
      vocab_size: pieces.
    """

    def __init__(self, config: ModelConfig, vocab_size: int, *, rngs: nnx.Rngs):
        super().__init__(config, vocab_size, cross=False, rngs=rngs)

    def __call__(self, batch: Batch, key: DropoutKey | None = None) -> jax.Array:
        """The output [B, T, D] for every position of `batch["target_inputs"]`, dropout on with a key."""
        return self.decode(batch["target_inputs"], _places(batch), _no_source, key)

    def attention_weights(self, batch: Batch) -> jax.Array:
        """Every head's weights [L, B, N, T, T] for a batch, float32. No dropout."""
        return self.watch_decoding(batch["target_inputs"], _places(batch), _no_source)[0]

    def start_decoding(
        self,
        prompt_BP: jax.Array,
        segments_BP: jax.Array,
        num_slots: int,
        max_length: int,
        layers: list[Layer] | None = None,
    ) -> tuple[Callable, DecoderCache]:
        """Reads a prompt in one pass, and prepares to go on from it for `max_length` tokens, `num_slots` times a row.

        Args:
          prompt_BP: BOS and the prompt's tokens but the last of them (of an empty prompt: nothing), which is what the
            step function is fed at position 0. Rows are filled up on the right.
          segments_BP: 1 where there is a token, 0 where a row is filled up.
          layers: the decoder's, one by one; unset: taken apart here, which copies them.

        Returns:
          The step function (see `Decoder.step_of`), and the cache with the prompt in it.
        """
        layers = self.decoder.unstacked() if layers is None else layers
        positions_BP = jax.lax.broadcasted_iota(
            segments_BP.dtype, segments_BP.shape, 1, out_sharding=sharding.like(segments_BP, 0, 1)
        )
        places = Places(positions_BP, segments_BP, segments_BP > 0)
        cache = self.empty_cache(layers, [None] * len(layers), places, num_slots, max_length)
        mask = masks.decoder(self.config)
        x_BPD = self.embed_target(prompt_BP, places, None)
        filled = []
        for layer, empty in zip(layers, cache.own, strict=True):
            x_BPD, own = layer(x_BPD, places, mask)
            filled.append(empty.put(own, 0))
        return self.step_of(layers, num_slots), dataclasses.replace(cache, own=filled)


def _places(batch: Batch) -> Places:
    return Places(batch["target_positions"], batch["target_segments"], batch["target_prompt"] > 0)


def _no_source(layer: nnx.Module) -> None:
    del layer

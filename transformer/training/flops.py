"""Floating-point operations the model needs for a batch: the numerator of model-FLOP utilisation.

Counted are the products of the matrices, 2 operations for each multiply-add, as in PaLM (arXiv 2204.02311, appendix B):

- useful tokens only: padding is waste, and shows as lower utilisation;
- an attention's scores and weighted sums over every pair of tokens of the same example, without halving for causality;
- the backward pass as twice the forward pass, but for gradients that nobody asks for where parameters are frozen;
  recomputation (of logits, of activations) counts nothing;
- norms, softmax, dropout, activations, embedding look-ups, adapters' own products and the optimizer: nothing.
"""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Self

import numpy as np

from transformer.config import ModelConfig


@dataclasses.dataclass(frozen=True)
class BatchCounts:
    """How much text a batch holds. Pairs are of tokens in the same example: what attention looks at."""

    source_tokens: int = 0
    target_tokens: int = 0
    padded_source_tokens: int = 0
    padded_target_tokens: int = 0
    source_pairs: int = 0
    target_pairs: int = 0
    cross_pairs: int = 0

    def __add__(self, other: Self) -> Self:
        mine, theirs = dataclasses.astuple(self), dataclasses.astuple(other)
        return type(self)(*(a + b for a, b in zip(mine, theirs, strict=True)))

    def __mul__(self, factor: float) -> Self:
        return type(self)(*(factor * value for value in dataclasses.astuple(self)))


def count(batch: Mapping[str, np.ndarray]) -> BatchCounts:
    """Counts a host batch from its segments (0 is padding). Of several processes, each counts what it loaded."""
    target = batch["target_segments"]
    if "source_segments" not in batch:
        lengths = _lengths(target, target.max())
        return BatchCounts(
            target_tokens=int(lengths.sum()), padded_target_tokens=target.size, target_pairs=int((lengths**2).sum())
        )
    source = batch["source_segments"]
    segments = max(source.max(), target.max())
    source_lengths = _lengths(source, segments)
    target_lengths = _lengths(target, segments)
    return BatchCounts(
        source_tokens=int(source_lengths.sum()),
        target_tokens=int(target_lengths.sum()),
        padded_source_tokens=source.size,
        padded_target_tokens=target.size,
        source_pairs=int((source_lengths**2).sum()),
        target_pairs=int((target_lengths**2).sum()),
        cross_pairs=int((source_lengths * target_lengths).sum()),
    )


def _lengths(segments: np.ndarray, largest: int) -> np.ndarray:
    """Tokens of every segment 1..largest of every row: [rows, largest]."""
    rows = len(segments)
    keys = segments + (largest + 1) * np.arange(rows)[:, None]
    counts = np.bincount(keys.ravel(), minlength=rows * (largest + 1))
    return counts.reshape(rows, largest + 1)[:, 1:]


def training_flops(
    model: ModelConfig, target_vocabulary: int, counts: BatchCounts, changing: Collection[str] | None = None
) -> float:
    """FLOPs of one forward and backward pass over a batch.

    Multiply-adds of the forward pass, by symbol of the paper (D d_model, N heads, G heads of keys and values, K d_k,
    V d_v, F d_ff):

        any attention, a query        D N (K + V)        Q and output projections
        any attention, a key          D G (K + V)        K and V projections
        any attention, a pair         N (K + V)          scores and weighted sum
        feed-forward, a token         2 D F, gated 3 D F
        output layer, a target        D x target vocabulary

    Windows and chunks are counted as if they were not there; so are the vectors of Shaw's positions.

    Args:
      changing: the parameters of which a gradient is made (`Trainable.gradients`); unset: all.
    """
    gradients = _Gradients.of(model, changing)
    source = _Tokens(counts.source_tokens, gradients.encoder)
    target = _Tokens(counts.target_tokens, gradients.decoder)
    layer = _attention(model, gradients, "decoder/layers/self_attention", target, target, counts.target_pairs)
    layer += _feed_forward(model, gradients, "decoder/layers/feed_forward", target)
    if model.architecture == "encoder_decoder":
        memory = _Tokens(counts.source_tokens, gradients.memory)
        layer += _attention(model, gradients, "decoder/layers/cross_attention", target, memory, counts.cross_pairs)
    multiply_adds = model.num_decoder_layers * layer
    if model.architecture == "encoder_decoder":
        layer = _attention(model, gradients, "encoder/layers/self_attention", source, source, counts.source_pairs)
        layer += _feed_forward(model, gradients, "encoder/layers/feed_forward", source)
        multiply_adds += model.num_encoder_layers * layer
    output = counts.target_tokens * model.d_model * target_vocabulary
    table = "output/" if model.tied_embeddings == "none" else "target_embedding/"
    multiply_adds += _product(output, gradients.output, gradients.has(table))
    return float(2 * multiply_adds)


@dataclasses.dataclass(frozen=True)
class _Gradients:
    """Which gradients a backward pass makes: of parameters, and of activations that have any of these before them.

    Attributes:
      changing: as in `training_flops`.
      encoder, decoder: of what a stack's layers read. All its layers are one loop, and alike.
      memory, output: of what the cross-attention, and the output layer, read.
    """

    changing: Collection[str] | None
    encoder: bool
    memory: bool
    decoder: bool
    output: bool

    @classmethod
    def of(cls, model: ModelConfig, changing: Collection[str] | None) -> Self:
        some = cls(changing, False, False, False, False)
        if model.architecture == "encoder_decoder":
            shared = model.tied_embeddings == "all" and some.has("target_embedding/")
            encoder = some.has("source_", "encoder/") or shared
            some = dataclasses.replace(some, encoder=encoder, memory=encoder or some.has("encoder_norm/"))
        decoder = some.memory or some.has("target_", "decoder/")
        return dataclasses.replace(some, decoder=decoder, output=decoder or some.has("decoder_norm/"))

    def has(self, *beginnings: str) -> bool:
        """Of a parameter whose name begins so."""
        return self.changing is None or any(name.startswith(beginnings) for name in self.changing)


@dataclasses.dataclass(frozen=True)
class _Tokens:
    """Vectors that a layer reads, and whether they have a gradient."""

    count: int
    gradient: bool


def _product(multiply_adds: int, *gradients: bool) -> int:
    """Multiply-adds, forward and backward, of a product of which these factors have a gradient."""
    return multiply_adds * (1 + sum(gradients))


def _attention(
    model: ModelConfig, gradients: _Gradients, name: str, queries: _Tokens, keys: _Tokens, pairs: int
) -> int:
    """Of one layer."""
    query = model.d_model * model.num_heads * model.key_size
    key, value = (model.d_model * model.key_value_heads * size for size in (model.key_size, model.value_size))
    output = model.d_model * model.num_heads * model.value_size
    of_keys, of_values = (keys.gradient or gradients.has(f"{name}/{matrix}") for matrix in ("key", "value"))
    return (
        _product(queries.count * query, queries.gradient, gradients.has(f"{name}/query"))
        + _product(keys.count * key, keys.gradient, gradients.has(f"{name}/key"))
        + _product(keys.count * value, keys.gradient, gradients.has(f"{name}/value"))
        + _product(pairs * model.num_heads * model.key_size, queries.gradient, of_keys)
        + _product(pairs * model.num_heads * model.value_size, queries.gradient, of_values)
        + _product(queries.count * output, queries.gradient, gradients.has(f"{name}/output"))
    )


def _feed_forward(model: ModelConfig, gradients: _Gradients, name: str, tokens: _Tokens) -> int:
    """Of one layer."""
    matrices = ("inner", "gate", "outer") if model.gated else ("inner", "outer")
    one = tokens.count * model.d_model * model.d_ff
    return sum(_product(one, tokens.gradient, gradients.has(f"{name}/{matrix}")) for matrix in matrices)

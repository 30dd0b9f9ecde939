"""Floating-point operations the model needs for a batch: the numerator of model-FLOP utilisation.

Counted are the products of the matrices, 2 operations for each multiply-add, as in PaLM (arXiv 2204.02311, appendix B):

- useful tokens only: padding is waste, and shows as lower utilisation;
- an attention's scores and weighted sums over every pair of tokens of the same example, without halving for causality;
- the backward pass as twice the forward pass; recomputation (of logits, of activations) counts nothing;
- norms, softmax, dropout, activations, embedding look-ups and the optimizer: nothing.
"""

import dataclasses
from collections.abc import Mapping
from typing import Self

import numpy as np

from transformer.config import ModelConfig

# Forward 1; backward 2: a product's gradient is taken with respect to both of its factors.
TRAINING_PASSES = 3


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


def training_flops(model: ModelConfig, target_vocabulary: int, counts: BatchCounts) -> float:
    """FLOPs of one forward and backward pass over a batch.

    Multiply-adds of the forward pass, by symbol of the paper (D d_model, N heads, G heads of keys and values, K d_k,
    V d_v, F d_ff):

        any attention, a query        D N (K + V)        Q and output projections
        any attention, a key          D G (K + V)        K and V projections
        any attention, a pair         N (K + V)          scores and weighted sum
        feed-forward, a token         2 D F, gated 3 D F
        output layer, a target        D x target vocabulary

    Windows and chunks are counted as if they were not there; so are the vectors of Shaw's positions.
    """
    sizes = model.key_size + model.value_size
    query, key = model.d_model * model.num_heads * sizes, model.d_model * model.key_value_heads * sizes
    pair = model.num_heads * sizes
    feed_forward = (3 if model.gated else 2) * model.d_model * model.d_ff

    layers = model.num_decoder_layers
    own = counts.target_tokens * (query + key + feed_forward) + counts.target_pairs * pair
    multiply_adds = layers * own + counts.target_tokens * model.d_model * target_vocabulary
    if model.architecture == "encoder_decoder":
        cross = counts.target_tokens * query + counts.source_tokens * key + counts.cross_pairs * pair
        encoder = counts.source_tokens * (query + key + feed_forward) + counts.source_pairs * pair
        multiply_adds += layers * cross + model.num_encoder_layers * encoder
    return float(TRAINING_PASSES * 2 * multiply_adds)

"""The Transformer of "Attention Is All You Need" (arXiv 1706.03762) in plain numpy, forward and backward.

Written from the paper alone, to check the real model against: it imports nothing of the package, has no dropout, no
cache and no speed. Every operation returns its output and a function `backward`, which takes the gradient of the loss
with respect to that output and returns the gradients with respect to the operation's inputs and parameters.
Everything is computed in the type of the parameters; take float64 unless rounding itself is in question.

A batch is a dict of integer arrays: source, source_segments, source_positions [B, S]; target_inputs, targets,
target_segments, target_positions [B, T]. Segment 0 is padding. What padding computes is finite and means nothing:
nothing real attends to it and it is not in the loss, so compare logits only where target_segments > 0.

Shapes are in the names: B batch, T queries (target), S keys (source), D model, N heads, H key size (d_k),
J value size (d_v), F feed-forward, V vocabulary. The gradient with respect to x is d_x.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray
Batch = dict[str, Array]
Parameters = dict[str, Any]  # nested dicts of arrays; `encoder` and `decoder` are lists with one dict a layer
Backward = Callable[[Array], tuple]
Sublayer = Callable[[Array], tuple[Array, Backward]]

LAYER_NORM_EPSILON = 1e-6

einsum = functools.partial(np.einsum, optimize=True)


@dataclass(frozen=True)
class LossAndGradients:
    loss: float  # mean over the real target tokens, in nats
    loss_sum: float
    token_count: int
    logits: Array  # [B, T, V]
    gradients: Parameters  # of `loss`, in the structure of the parameters


# Parameters


def init(
    rng: np.random.Generator,
    *,
    vocabulary: int,
    layers: int,
    d_model: int,
    d_ff: int,
    heads: int,
    d_k: int,
    d_v: int,
    pre_norm: bool = False,
    dtype: type = np.float64,
) -> Parameters:
    """Random parameters of a model with `layers` encoder and as many decoder layers.

    Every array is random, the scales and biases too: a comparison must notice when one of them is left out.
    """

    def weight(*shape: int, fan_in: int) -> Array:
        return (rng.standard_normal(shape) / math.sqrt(fan_in)).astype(dtype)

    def bias(size: int) -> Array:
        return (0.1 * rng.standard_normal(size)).astype(dtype)

    def norm() -> Parameters:
        return {"scale": 1 + bias(d_model), "bias": bias(d_model)}

    def attention() -> Parameters:
        return {
            "query": weight(d_model, heads, d_k, fan_in=d_model),
            "key": weight(d_model, heads, d_k, fan_in=d_model),
            "value": weight(d_model, heads, d_v, fan_in=d_model),
            "output": weight(heads, d_v, d_model, fan_in=heads * d_v),
        }

    def feed_forward() -> Parameters:
        return {
            "w1": weight(d_model, d_ff, fan_in=d_model),
            "b1": bias(d_ff),
            "w2": weight(d_ff, d_model, fan_in=d_ff),
            "b2": bias(d_model),
        }

    def encoder_layer() -> Parameters:
        return {
            "self_attention": attention(),
            "self_attention_norm": norm(),
            "feed_forward": feed_forward(),
            "feed_forward_norm": norm(),
        }

    def decoder_layer() -> Parameters:
        return encoder_layer() | {"cross_attention": attention(), "cross_attention_norm": norm()}

    parameters = {
        "embedding": weight(vocabulary, d_model, fan_in=d_model),
        "encoder": [encoder_layer() for _ in range(layers)],
        "decoder": [decoder_layer() for _ in range(layers)],
    }
    if pre_norm:
        parameters |= {"encoder_norm": norm(), "decoder_norm": norm()}
    return parameters


# Inputs: positions, masks, embeddings


def sinusoids(positions_BT: Array, d_model: int) -> Array:
    """PE(pos, 2i) = sin(pos / 10000^(2i / d_model)), PE(pos, 2i + 1) = cos(the same) (section 3.5): [B, T, D]."""
    feature_D = np.arange(d_model)
    two_i_D = feature_D - feature_D % 2
    angle_BTD = positions_BT[..., None] / 10000.0 ** (two_i_D / d_model)
    return np.where(feature_D % 2 == 0, np.sin(angle_BTD), np.cos(angle_BTD))


def same_segment(query_segments_BT: Array, key_segments_BS: Array) -> Array:
    """True where a query may see a key: both are real and belong to the same example. [B, T, S]."""
    query_BT1, key_B1S = query_segments_BT[:, :, None], key_segments_BS[:, None, :]
    return (query_BT1 == key_B1S) & (query_BT1 > 0)


def not_later(positions_BT: Array) -> Array:
    """True where the key's position is at most the query's: the decoder's mask (section 3.2.3). [B, T, T]."""
    return positions_BT[:, None, :] <= positions_BT[:, :, None]


def embed(embedding_VD: Array, ids_BT: Array, positions_BT: Array) -> tuple[Array, Backward]:
    """sqrt(d_model) E[ids] + PE (sections 3.4 and 3.5). Backward returns d_embedding_VD."""
    d_model = embedding_VD.shape[1]
    scale = math.sqrt(d_model)
    x_BTD = scale * embedding_VD[ids_BT] + sinusoids(positions_BT, d_model).astype(embedding_VD.dtype)

    def backward(d_x_BTD: Array) -> Array:
        d_embedding_VD = np.zeros_like(embedding_VD)
        np.add.at(d_embedding_VD, ids_BT, scale * d_x_BTD)  # an id that occurs twice collects both gradients
        return d_embedding_VD

    return x_BTD, backward


# The sublayers. Their backward returns (d_x, d_memory, gradients); d_memory is 0 where no memory is read.


def masked_softmax(scores: Array, mask: Array) -> Array:
    """Softmax over the last axis among the keys the mask allows; a row that allows none is all zeros."""
    scores = np.where(mask, scores, np.finfo(scores.dtype).min)
    exponentials = mask * np.exp(scores - scores.max(axis=-1, keepdims=True))
    # With any key allowed the greatest exponential is 1, so the bound acts on empty rows alone.
    return exponentials / np.maximum(exponentials.sum(axis=-1, keepdims=True), 1)


def attention(p: Parameters, x_BTD: Array, memory_BSD: Array, mask_BTS: Array) -> tuple[Array, Backward]:
    """Multi-head attention (section 3.2.2): the heads' softmax(Q K^T / sqrt(d_k)) V, concatenated, times W^O.

    Queries come from x, keys and values from the memory.
    """
    q_BTNH = einsum("BTD,DNH->BTNH", x_BTD, p["query"])
    k_BSNH = einsum("BSD,DNH->BSNH", memory_BSD, p["key"])
    v_BSNJ = einsum("BSD,DNJ->BSNJ", memory_BSD, p["value"])
    scale = 1 / math.sqrt(q_BTNH.shape[-1])
    scores_BNTS = scale * einsum("BTNH,BSNH->BNTS", q_BTNH, k_BSNH)
    weights_BNTS = masked_softmax(scores_BNTS, mask_BTS[:, None])
    heads_BTNJ = einsum("BNTS,BSNJ->BTNJ", weights_BNTS, v_BSNJ)
    output_BTD = einsum("BTNJ,NJD->BTD", heads_BTNJ, p["output"])

    def backward(d_output_BTD: Array) -> tuple[Array, Array, Parameters]:
        d_heads_BTNJ = einsum("BTD,NJD->BTNJ", d_output_BTD, p["output"])
        d_v_BSNJ = einsum("BNTS,BTNJ->BSNJ", weights_BNTS, d_heads_BTNJ)
        d_weights_BNTS = einsum("BTNJ,BSNJ->BNTS", d_heads_BTNJ, v_BSNJ)
        # Softmax: dw_s / dscore_r = w_s (delta_sr - w_r). A masked score has weight 0, hence gradient 0.
        mean_BNT1 = (weights_BNTS * d_weights_BNTS).sum(axis=-1, keepdims=True)
        d_scores_BNTS = weights_BNTS * (d_weights_BNTS - mean_BNT1)
        d_q_BTNH = scale * einsum("BNTS,BSNH->BTNH", d_scores_BNTS, k_BSNH)
        d_k_BSNH = scale * einsum("BNTS,BTNH->BSNH", d_scores_BNTS, q_BTNH)

        d_x_BTD = einsum("BTNH,DNH->BTD", d_q_BTNH, p["query"])
        d_memory_BSD = einsum("BSNH,DNH->BSD", d_k_BSNH, p["key"]) + einsum("BSNJ,DNJ->BSD", d_v_BSNJ, p["value"])
        gradients = {
            "query": einsum("BTD,BTNH->DNH", x_BTD, d_q_BTNH),
            "key": einsum("BSD,BSNH->DNH", memory_BSD, d_k_BSNH),
            "value": einsum("BSD,BSNJ->DNJ", memory_BSD, d_v_BSNJ),
            "output": einsum("BTNJ,BTD->NJD", heads_BTNJ, d_output_BTD),
        }
        return d_x_BTD, d_memory_BSD, gradients

    return output_BTD, backward


def self_attention(p: Parameters, x_BTD: Array, mask_BTT: Array) -> tuple[Array, Backward]:
    """Attention of a sequence to itself: x is its own memory, so both gradients are x's."""
    output_BTD, attention_backward = attention(p, x_BTD, x_BTD, mask_BTT)

    def backward(d_output_BTD: Array) -> tuple[Array, float, Parameters]:
        d_as_query_BTD, d_as_memory_BTD, gradients = attention_backward(d_output_BTD)
        return d_as_query_BTD + d_as_memory_BTD, 0.0, gradients

    return output_BTD, backward


def feed_forward(p: Parameters, x_BTD: Array) -> tuple[Array, Backward]:
    """max(0, x W1 + b1) W2 + b2 (section 3.3, equation 2)."""
    hidden_BTF = np.maximum(0, einsum("BTD,DF->BTF", x_BTD, p["w1"]) + p["b1"])
    output_BTD = einsum("BTF,FD->BTD", hidden_BTF, p["w2"]) + p["b2"]

    def backward(d_output_BTD: Array) -> tuple[Array, float, Parameters]:
        d_hidden_BTF = (hidden_BTF > 0) * einsum("BTD,FD->BTF", d_output_BTD, p["w2"])
        gradients = {
            "w1": einsum("BTD,BTF->DF", x_BTD, d_hidden_BTF),
            "b1": d_hidden_BTF.sum(axis=(0, 1)),
            "w2": einsum("BTF,BTD->FD", hidden_BTF, d_output_BTD),
            "b2": d_output_BTD.sum(axis=(0, 1)),
        }
        return einsum("BTF,DF->BTD", d_hidden_BTF, p["w1"]), 0.0, gradients

    return output_BTD, backward


# What connects them


def layer_norm(p: Parameters, x_BTD: Array) -> tuple[Array, Backward]:
    """scale (x - mean) / sqrt(variance + epsilon) + bias, over the features. Backward returns (d_x, gradients)."""
    centred_BTD = x_BTD - x_BTD.mean(axis=-1, keepdims=True)
    deviation_BT1 = np.sqrt((centred_BTD**2).mean(axis=-1, keepdims=True) + LAYER_NORM_EPSILON)
    normal_BTD = centred_BTD / deviation_BT1
    output_BTD = p["scale"] * normal_BTD + p["bias"]

    def backward(d_output_BTD: Array) -> tuple[Array, Parameters]:
        gradients = {"scale": (d_output_BTD * normal_BTD).sum(axis=(0, 1)), "bias": d_output_BTD.sum(axis=(0, 1))}
        d_normal_BTD = p["scale"] * d_output_BTD
        # x moves the mean and the deviation too: each takes its component out of the gradient.
        along_mean_BT1 = d_normal_BTD.mean(axis=-1, keepdims=True)
        along_normal_BT1 = (d_normal_BTD * normal_BTD).mean(axis=-1, keepdims=True)
        return (d_normal_BTD - along_mean_BT1 - normal_BTD * along_normal_BT1) / deviation_BT1, gradients

    return output_BTD, backward


def post_norm_residual(norm: Parameters, x_BTD: Array, sublayer: Sublayer) -> tuple[Array, Backward]:
    """LayerNorm(x + Sublayer(x)) (section 3.1). Backward returns (d_x, d_memory, gradients, norm's gradients)."""
    change_BTD, sublayer_backward = sublayer(x_BTD)
    output_BTD, norm_backward = layer_norm(norm, x_BTD + change_BTD)

    def backward(d_output_BTD: Array) -> tuple:
        d_sum_BTD, norm_gradients = norm_backward(d_output_BTD)
        d_x_BTD, d_memory, gradients = sublayer_backward(d_sum_BTD)
        return d_sum_BTD + d_x_BTD, d_memory, gradients, norm_gradients

    return output_BTD, backward


def pre_norm_residual(norm: Parameters, x_BTD: Array, sublayer: Sublayer) -> tuple[Array, Backward]:
    """x + Sublayer(LayerNorm(x)), not the paper's. Backward returns what `post_norm_residual`'s does."""
    normed_BTD, norm_backward = layer_norm(norm, x_BTD)
    change_BTD, sublayer_backward = sublayer(normed_BTD)

    def backward(d_output_BTD: Array) -> tuple:
        d_normed_BTD, d_memory, gradients = sublayer_backward(d_output_BTD)
        d_x_BTD, norm_gradients = norm_backward(d_normed_BTD)
        return d_output_BTD + d_x_BTD, d_memory, gradients, norm_gradients

    return x_BTD + change_BTD, backward


def layer(p: Parameters, x_BTD: Array, sublayers: dict[str, Callable], pre_norm: bool) -> tuple[Array, Backward]:
    """The named sublayers in turn, each in its residual connection. Backward returns (d_x, d_memory, gradients)."""
    residual = pre_norm_residual if pre_norm else post_norm_residual
    backwards = {}
    for name, sublayer in sublayers.items():
        x_BTD, backwards[name] = residual(p[f"{name}_norm"], x_BTD, functools.partial(sublayer, p[name]))

    def backward(d_x_BTD: Array) -> tuple[Array, Array, Parameters]:
        d_memory_total, gradients = 0.0, {}
        for name in reversed(backwards):
            d_x_BTD, d_memory, gradients[name], gradients[f"{name}_norm"] = backwards[name](d_x_BTD)
            d_memory_total = d_memory_total + d_memory
        return d_x_BTD, d_memory_total, gradients

    return x_BTD, backward


def stack(
    parameters: Parameters, name: str, x_BTD: Array, sublayers: dict[str, Callable], pre_norm: bool
) -> tuple[Array, Backward]:
    """The layers of `parameters[name]`, then with pre-norm a last norm. Backward returns (d_x, d_memory, gradients)."""
    backwards = []
    for p in parameters[name]:
        x_BTD, layer_backward = layer(p, x_BTD, sublayers, pre_norm)
        backwards.append(layer_backward)
    if pre_norm:
        x_BTD, norm_backward = layer_norm(parameters[f"{name}_norm"], x_BTD)

    def backward(d_x_BTD: Array) -> tuple[Array, Array, Parameters]:
        gradients = {name: []}
        if pre_norm:
            d_x_BTD, gradients[f"{name}_norm"] = norm_backward(d_x_BTD)
        d_memory_total = 0.0
        for layer_backward in reversed(backwards):
            d_x_BTD, d_memory, layer_gradients = layer_backward(d_x_BTD)
            d_memory_total = d_memory_total + d_memory
            gradients[name].insert(0, layer_gradients)
        return d_x_BTD, d_memory_total, gradients

    return x_BTD, backward


# The model


def run(parameters: Parameters, batch: Batch, pre_norm: bool) -> tuple[Array, Backward]:
    """Logits [B, T, V]; backward takes their gradient and returns the gradients of all parameters."""
    embedding_VD = parameters["embedding"]
    source_segments, target_segments = batch["source_segments"], batch["target_segments"]
    source_mask_BSS = same_segment(source_segments, source_segments)
    target_mask_BTT = same_segment(target_segments, target_segments) & not_later(batch["target_positions"])
    cross_mask_BTS = same_segment(target_segments, source_segments)

    source_BSD, source_backward = embed(embedding_VD, batch["source"], batch["source_positions"])
    encoder_sublayers = {
        "self_attention": lambda p, x: self_attention(p, x, source_mask_BSS),
        "feed_forward": feed_forward,
    }
    memory_BSD, encoder_backward = stack(parameters, "encoder", source_BSD, encoder_sublayers, pre_norm)

    target_BTD, target_backward = embed(embedding_VD, batch["target_inputs"], batch["target_positions"])
    decoder_sublayers = {
        "self_attention": lambda p, x: self_attention(p, x, target_mask_BTT),
        "cross_attention": lambda p, x: attention(p, x, memory_BSD, cross_mask_BTS),
        "feed_forward": feed_forward,
    }
    output_BTD, decoder_backward = stack(parameters, "decoder", target_BTD, decoder_sublayers, pre_norm)
    logits_BTV = einsum("BTD,VD->BTV", output_BTD, embedding_VD)  # no sqrt(d_model) here

    def backward(d_logits_BTV: Array) -> Parameters:
        d_output_BTD = einsum("BTV,VD->BTD", d_logits_BTV, embedding_VD)
        d_target_BTD, d_memory_BSD, decoder_gradients = decoder_backward(d_output_BTD)
        d_source_BSD, _, encoder_gradients = encoder_backward(d_memory_BSD)
        d_embedding_VD = (  # the one matrix in its three places
            einsum("BTV,BTD->VD", d_logits_BTV, output_BTD)
            + target_backward(d_target_BTD)
            + source_backward(d_source_BSD)
        )
        return {"embedding": d_embedding_VD} | encoder_gradients | decoder_gradients

    return logits_BTV, backward


def forward(parameters: Parameters, batch: Batch, *, pre_norm: bool = False) -> Array:
    """Logits [B, T, V]. Heads and sizes are read off the parameters' shapes."""
    return run(parameters, batch, pre_norm)[0]


def loss_and_gradients(
    parameters: Parameters, batch: Batch, *, label_smoothing: float = 0.1, pre_norm: bool = False
) -> LossAndGradients:
    """Label-smoothed cross-entropy over the real target tokens, and its gradients.

    The target distribution is the one of Szegedy et al., whom section 5.4 cites: 1 - epsilon on the label, plus
    epsilon / V on each of the V classes, the label and the special ids among them. (Tensor2Tensor spreads epsilon over
    the other V - 1 classes instead: the same with epsilon V / (V - 1) here.)

    Raises ValueError if the batch has no target token.
    """
    logits_BTV, backward = run(parameters, batch, pre_norm)
    real_BT1 = batch["target_segments"][..., None] > 0
    count = int(real_BT1.sum())
    if count == 0:
        raise ValueError("target_segments is 0 everywhere: a batch needs at least one real target token")

    vocabulary = logits_BTV.shape[-1]
    shifted_BTV = logits_BTV - logits_BTV.max(axis=-1, keepdims=True)
    log_probabilities_BTV = shifted_BTV - np.log(np.exp(shifted_BTV).sum(axis=-1, keepdims=True))
    label_BTV = batch["targets"][..., None] == np.arange(vocabulary)
    wanted_BTV = ((1 - label_smoothing) * label_BTV + label_smoothing / vocabulary).astype(logits_BTV.dtype)
    loss_sum = -float((real_BT1 * wanted_BTV * log_probabilities_BTV).sum())

    d_logits_BTV = real_BT1 * (np.exp(log_probabilities_BTV) - wanted_BTV) / count
    return LossAndGradients(loss_sum / count, loss_sum, count, logits_BTV, backward(d_logits_BTV))


def greedy(
    parameters: Parameters, source: list[int], max_length: int, *, bos: int, eos: int, pre_norm: bool = False
) -> list[int]:
    """The most probable next token again and again, running the whole model for each. One sentence, no cache.

    Returns the tokens after BOS: at most `max_length`, EOS the last of them if it came. Of equals the least id wins.
    """
    output: list[int] = []
    while len(output) < max_length and eos not in output:
        target_inputs = np.array([[bos, *output]])
        batch = {
            "source": np.array([source]),
            "source_segments": np.ones((1, len(source)), int),
            "source_positions": np.arange(len(source))[None],
            "target_inputs": target_inputs,
            "target_segments": np.ones_like(target_inputs),
            "target_positions": np.arange(target_inputs.size)[None],
        }
        output.append(int(forward(parameters, batch, pre_norm=pre_norm)[0, -1].argmax()))
    return output

"""The paper's Transformer as one writes it in PyTorch by hand: fused projections and scaled_dot_product_attention.

One matrix for both embeddings and the output, no biases in attention, sinusoids, dropout on embeddings plus positions
and on what sub-layers return: as in `transformer.model` by default. Norms stand after sub-layers, or before them.

Letters: B batch, T target length, S source length, D model, N heads, H head size, V vocabulary.
"""

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

PAD = 0


class SelfAttention(nn.Module):
    def __init__(self, width: int, heads: int, *, causal: bool):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.queries_keys_values = nn.Linear(width, 3 * width, bias=False)
        self.output = nn.Linear(width, width, bias=False)

    def forward(self, x_BTD: torch.Tensor, mask_B11T: torch.Tensor | None = None) -> torch.Tensor:
        """A causal one needs no mask: padding comes last, and what padding sees does not count."""
        parts = self.queries_keys_values(x_BTD).chunk(3, dim=-1)
        q_BNTH, k_BNTH, v_BNTH = (_split(part, self.heads) for part in parts)
        heads_BNTH = functional.scaled_dot_product_attention(
            q_BNTH, k_BNTH, v_BNTH, attn_mask=mask_B11T, is_causal=self.causal
        )
        return self.output(_join(heads_BNTH))


class CrossAttention(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.queries = nn.Linear(width, width, bias=False)
        self.keys_values = nn.Linear(width, 2 * width, bias=False)
        self.output = nn.Linear(width, width, bias=False)

    def forward(self, x_BTD: torch.Tensor, y_BSD: torch.Tensor, mask_B11S: torch.Tensor) -> torch.Tensor:
        q_BNTH = _split(self.queries(x_BTD), self.heads)
        k_BNSH, v_BNSH = (_split(part, self.heads) for part in self.keys_values(y_BSD).chunk(2, dim=-1))
        heads_BNTH = functional.scaled_dot_product_attention(q_BNTH, k_BNSH, v_BNSH, attn_mask=mask_B11S)
        return self.output(_join(heads_BNTH))


class Layer(nn.Module):
    """Sub-layers, each with a way around it. With `norm` "pre" what is read is normed, else what is returned."""

    def __init__(self, width: int, sub_layers: int, dropout: float, norm: str):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(sub_layers))
        self.dropout = nn.Dropout(dropout)
        self.norm_first = norm == "pre"

    def around(self, number: int, x_BTD: torch.Tensor, sub_layer: Callable[[torch.Tensor], torch.Tensor]):
        norm = self.norms[number]
        if self.norm_first:
            return x_BTD + self.dropout(sub_layer(norm(x_BTD)))
        return norm(x_BTD + self.dropout(sub_layer(x_BTD)))


class EncoderLayer(Layer):
    def __init__(self, width: int, inner: int, heads: int, dropout: float, norm: str):
        super().__init__(width, 2, dropout, norm)
        self.attention = SelfAttention(width, heads, causal=False)
        self.feed_forward = _feed_forward(width, inner)

    def forward(self, y_BSD: torch.Tensor, mask_B11S: torch.Tensor) -> torch.Tensor:
        y_BSD = self.around(0, y_BSD, lambda y_BSD: self.attention(y_BSD, mask_B11S))
        return self.around(1, y_BSD, self.feed_forward)


class DecoderLayer(Layer):
    def __init__(self, width: int, inner: int, heads: int, dropout: float, norm: str):
        super().__init__(width, 3, dropout, norm)
        self.attention = SelfAttention(width, heads, causal=True)
        self.cross_attention = CrossAttention(width, heads)
        self.feed_forward = _feed_forward(width, inner)

    def forward(self, x_BTD: torch.Tensor, y_BSD: torch.Tensor, mask_B11S: torch.Tensor) -> torch.Tensor:
        x_BTD = self.around(0, x_BTD, self.attention)
        x_BTD = self.around(1, x_BTD, lambda x_BTD: self.cross_attention(x_BTD, y_BSD, mask_B11S))
        return self.around(2, x_BTD, self.feed_forward)


class Transformer(nn.Module):
    """Source and target inputs to logits [B, T, V]; token 0 is padding."""

    def __init__(
        self,
        *,
        width: int,
        inner: int,
        heads: int,
        layers: int,
        vocabulary: int,
        dropout: float,
        max_length: int,
        norm: str = "post",
    ):
        super().__init__()
        self.table = nn.Parameter(width**-0.5 * torch.randn(vocabulary, width))
        self.encoder = nn.ModuleList(EncoderLayer(width, inner, heads, dropout, norm) for _ in range(layers))
        self.decoder = nn.ModuleList(DecoderLayer(width, inner, heads, dropout, norm) for _ in range(layers))
        self.dropout = nn.Dropout(dropout)
        self.last_norms = nn.ModuleList(nn.LayerNorm(width) if norm == "pre" else nn.Identity() for _ in range(2))
        self.register_buffer("positions", _sinusoids(max_length, width))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for module in self.modules():
            if isinstance(module, SelfAttention | CrossAttention):
                fused = module.queries_keys_values if isinstance(module, SelfAttention) else module.keys_values
                for projection in fused.weight.data.split(width):
                    nn.init.xavier_uniform_(projection)

    def forward(self, source_BS: torch.Tensor, inputs_BT: torch.Tensor) -> torch.Tensor:
        return functional.linear(self._decode(inputs_BT, *self._encode(source_BS)), self.table)

    def greedy(self, source_BS: torch.Tensor, bos: int, eos: int, longest: int) -> torch.Tensor:
        """The likeliest tokens one by one, [B, T], until all sentences have ended; no cache."""
        read = self._encode(source_BS)
        tokens_BT = torch.full((len(source_BS), 1), bos)
        done_B = torch.zeros(len(source_BS), dtype=torch.bool)
        for _ in range(longest):
            last_BD = self._decode(tokens_BT, *read)[:, -1]
            next_B = functional.linear(last_BD, self.table).argmax(dim=-1)
            tokens_BT = torch.cat([tokens_BT, next_B[:, None]], dim=1)
            done_B |= next_B == eos
            if done_B.all():
                break
        return tokens_BT[:, 1:]

    def _encode(self, source_BS: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mask_B11S = (source_BS != PAD)[:, None, None]
        y_BSD = self._embed(source_BS)
        for layer in self.encoder:
            y_BSD = layer(y_BSD, mask_B11S)
        return self.last_norms[0](y_BSD), mask_B11S

    def _decode(self, inputs_BT: torch.Tensor, y_BSD: torch.Tensor, mask_B11S: torch.Tensor) -> torch.Tensor:
        x_BTD = self._embed(inputs_BT)
        for layer in self.decoder:
            x_BTD = layer(x_BTD, y_BSD, mask_B11S)
        return self.last_norms[1](x_BTD)

    def _embed(self, tokens_BT: torch.Tensor) -> torch.Tensor:
        width, length = self.table.shape[1], tokens_BT.shape[1]
        return self.dropout(functional.embedding(tokens_BT, self.table) * math.sqrt(width) + self.positions[:length])


def smoothed_loss(logits_BTV: torch.Tensor, targets_BT: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Of a token, in nats."""
    return functional.cross_entropy(
        logits_BTV.flatten(0, 1), targets_BT.flatten(), label_smoothing=smoothing, ignore_index=PAD
    )


def _feed_forward(width: int, inner: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, inner), nn.ReLU(), nn.Linear(inner, width))


def _split(x_BTD: torch.Tensor, heads: int) -> torch.Tensor:
    return x_BTD.unflatten(-1, (heads, -1)).transpose(1, 2)


def _join(x_BNTH: torch.Tensor) -> torch.Tensor:
    return x_BNTH.transpose(1, 2).flatten(2)


def _sinusoids(length: int, width: int) -> torch.Tensor:
    """Section 3.5: sine and cosine in turns."""
    angles = torch.arange(length)[:, None] / 10_000 ** (torch.arange(0, width, 2) / width)
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)

"""Which kernels can compute the attention of a config. What a single call asks beyond that: model/kernels.py."""

import dataclasses
from typing import Any

from transformer.config.model import ModelConfig

# Kernels that never hold all of an attention's scores, and the platform each is for (None: every one); the best first.
FUSED = {"splash": "tpu", "cudnn": "gpu", "blockwise": None}

# Positions that change scores or what is found by them (`RelativePositions.touches_scores`).
_TOUCH_SCORES = ("t5", "shaw", "alibi")
# cuDNN's flash attention: heads of a multiple of 8, up to 128 (GPUs before Hopper).
_CUDNN_MULTIPLE, _CUDNN_LARGEST = 8, 128


@dataclasses.dataclass(frozen=True)
class Obstacle:
    """A field of `config.model` that a kernel cannot serve, and one of its values that it could."""

    field: str
    value: Any
    reason: str
    served: Any


def obstacles(kernel: str, model: ModelConfig, role: str) -> list[Obstacle]:
    """What keeps one of `FUSED` from computing the attention of a role (see `model.attention.Role`); empty: nothing."""
    found = []
    if kernel != "blockwise" and model.dtype != "bfloat16":
        found.append(Obstacle("dtype", model.dtype, "it rounds the factors of its products to 16 bits", "bfloat16"))
    if model.attention_dropout:
        found.append(Obstacle("attention_dropout", model.attention_dropout, "it never holds the weights to drop", 0))
    # Positions of two texts have no distance, and all of a source may be seen.
    if role != "cross" and model.positions in _TOUCH_SCORES:
        found.append(Obstacle("positions", model.positions, "it never holds the scores they change", "rotary"))
    if kernel == "blockwise":
        return found
    if kernel == "splash":
        if role == "decoder" and model.mask == "prefix":
            found.append(Obstacle("mask", model.mask, "it knows no mask that is either of two", "causal"))
        return found
    if model.logit_soft_cap:
        found.append(Obstacle("logit_soft_cap", model.logit_soft_cap, "it has no soft cap", 0))
    if model.key_size % _CUDNN_MULTIPLE or model.key_size > _CUDNN_LARGEST:
        reason = f"it wants a multiple of {_CUDNN_MULTIPLE}, {_CUDNN_LARGEST} at most"
        found.append(Obstacle("d_k", model.key_size, reason, 64))
    if model.value_size != model.key_size:
        found.append(Obstacle("d_v", model.value_size, f"it wants model.d_k = {model.key_size}", model.key_size))
    return found

"""A model's parameters as decoding wants them, made once and used for every token.

Layers stand one by one: of a stack every step, or every call of a compiled program, would have to copy them. Matrices
lie the way round that is fastest for few rows, and may be of fewer bits.
"""

import dataclasses

import jax
import jax.numpy as jnp

from transformer import cores
from transformer.config import ModelConfig
from transformer.model.attention import MultiHeadAttention, attention_class
from transformer.model.blueprint import Blueprint, Model, Params
from transformer.model.compact import Compact, compact
from transformer.model.products import activation_dtype, computed_in
from transformer.model.transformer import Layer

# The parts of a layer whose matrices may be compact, and of each matrix over how many dimensions is summed.
_ATTENTION = {"query": 1, "key": 1, "value": 1, "output": 2}
_FEED_FORWARD = {"inner": 1, "gate": 1, "outer": 1}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DecodingWeights:
    """Made by `prepare`, used by `bind`."""

    encoder: list[Params] | None  # a language model has none
    decoder: list[Params]
    others: Params
    output_DV: jax.Array | Compact


@dataclasses.dataclass(frozen=True)
class Bound:
    """A model whose stacks have no values, and what is used in their place."""

    model: Model
    encoder: list[Layer] | None
    decoder: list[Layer]
    output_DV: jax.Array | Compact


def in_precision(blueprint: Blueprint, precision: str) -> Blueprint:
    """The blueprint of the model that decodes.

    Args:
      precision: of its products: float32, bfloat16, int8, or model: the model's own. A CPU without instructions for
        bfloat16 takes float32 instead, unrounded: reading half the bytes of weights gains less than it loses there.
    """
    config = blueprint.config()
    dtype = computed_in({"model": config.dtype, "int8": "float32"}.get(precision, precision))
    if dtype == config.dtype:
        return blueprint
    return Blueprint.of(dataclasses.replace(config, dtype=dtype), *blueprint.vocab_sizes())


def prepare(blueprint: Blueprint, params: Params, precision: str = "model") -> DecodingWeights:
    """Can be traced. Arguments as of `in_precision`, whose result this blueprint is."""
    model = blueprint.bind(params)
    config = model.config
    # Only on a CPU, where activations are float32 whatever products are in, does bfloat16 gain by it; float32 by the
    # width of its instructions, see `Compact`.
    on_cpu = activation_dtype("bfloat16") == jnp.float32
    precision = computed_in(config.dtype if precision == "model" else precision)
    outputs_first = precision == "int8" or (on_cpu and (precision == "bfloat16" or not cores.have_512_bits()))

    def layers(stack) -> list[Params]:
        parameters = stack.unstacked_parameters()
        return [_compacted(layer, config, precision) for layer in parameters] if outputs_first else parameters

    table_DV = model.output_table().T
    return DecodingWeights(
        encoder=layers(model.encoder) if "encoder" in params else None,
        decoder=layers(model.decoder),
        others={name: part for name, part in params.items() if name not in ("encoder", "decoder")},
        output_DV=compact(table_DV, 1, precision) if outputs_first else table_DV.astype(activation_dtype(config.dtype)),
    )


def bind(blueprint: Blueprint, weights: DecodingWeights) -> Bound:
    """What `weights` were prepared from, ready to decode."""
    shapes = blueprint.shapes()
    stacks = {name: shapes[name] for name in ("encoder", "decoder") if name in shapes}
    model = blueprint.bind(weights.others | stacks)
    encoder = None if weights.encoder is None else model.encoder.of(weights.encoder)
    return Bound(model, encoder, model.decoder.of(weights.decoder), weights.output_DV)


def _compacted(layer: Params, config: ModelConfig, precision: str) -> Params:
    """With the matrices compact that are known to be used by way of `product` alone; a class of your own keeps its."""
    known = {"feed_forward": _FEED_FORWARD}
    if attention_class(config) is MultiHeadAttention:
        known |= {"self_attention": _ATTENTION, "cross_attention": _ATTENTION}

    def part(name: str, parameters: Params) -> Params:
        inputs = known.get(name, {})
        return {
            key: compact(leaf, inputs[key], precision) if key in inputs else leaf for key, leaf in parameters.items()
        }

    return {name: part(name, parameters) for name, parameters in layer.items()}

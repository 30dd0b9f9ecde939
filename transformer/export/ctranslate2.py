"""A translation model for CTranslate2 (https://github.com/OpenNMT/CTranslate2), an engine in C++.

Its `ctranslate2.specs` name the layers of this model otherwise, for the same numbers. What they have no words for is
written in those they have where that changes nothing: positions that are added become a table, heads that share keys
and values get copies, the narrower of d_k and d_v is filled up with zeros. All else is refused.

Letters: D model, N heads, K key-value heads, H head size, F feed-forward, V vocabulary, P positions, O outputs of a
product.
"""

import dataclasses
import importlib
import math
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from transformer.config import Config, ConfigError, DecodingConfig, ModelConfig
from transformer.data.sentencepiece_tokenizer import SentencePieceTokenizer
from transformer.data.tokenizer import BOS, EOS, UNK, Tokenizers
from transformer.export.errors import ExportError
from transformer.model.norms import EPSILON
from transformer.model.positions import sinusoids, tensor2tensor_sinusoids

# Positions written of encodings that have no end. CTranslate2 cuts inputs at 1,024 tokens unless told otherwise.
ROWS = 2048
# The names of `ctranslate2.specs.Activation`. Our GELU is the approximation by tanh.
_ACTIVATIONS = {"relu": "RELU", "gelu": "GELUTanh", "swiglu": "SWISH", "geglu": "GELUTanh"}

Arrays = Mapping[str, Any]  # parameters of one module, nested as it is


@dataclasses.dataclass(frozen=True)
class _Obstacle:
    """A field of `config.model` that cannot be exported, and one of its values that could."""

    field: str
    reason: str
    served: Any


def check(config: Config, tokenizers: Tokenizers) -> None:
    """Whether a model of this config can be exported, with this vocabulary.

    Raises:
      ConfigError: for a setting that CTranslate2 has nothing for.
      ExportError: for other kinds of vocabularies; and where CTranslate2 is not installed.
    """
    for obstacle in _obstacles(config.model):
        raise ConfigError(
            f"model.{obstacle.field}",
            getattr(config.model, obstacle.field),
            f"cannot be exported to CTranslate2: {obstacle.reason}",
            f"It could be with model.{obstacle.field}={obstacle.served}, in training already.",
        )
    if not all(isinstance(each, SentencePieceTokenizer) for each in (tokenizers.source, tokenizers.target)):
        raise ExportError(
            "The run's vocabulary is of characters or bytes: outside of this package there is no tokenizer for it. "
            "Train with config.tokenizer.algorithm=bpe or unigram, which are SentencePiece's."
        )
    source, target = (each.pieces([UNK, BOS, EOS]) for each in (tokenizers.source, tokenizers.target))
    if source != target:
        raise ExportError(
            f"The source's special pieces are {', '.join(source)} and the target's {', '.join(target)}: they must have "
            "one name in CTranslate2. Train with two SentencePiece models that name them alike."
        )
    _specs()


def _obstacles(model: ModelConfig) -> list[_Obstacle]:
    found = []
    if model.architecture != "encoder_decoder":
        found.append(_Obstacle("architecture", "only translation models are", "encoder_decoder"))
    if model.attention != ModelConfig.attention:
        found.append(_Obstacle("attention", "it has no code for classes of others", ModelConfig.attention))
    if model.positions == "t5":
        reason = "it has one table of biases for all layers, and ours have one each"
        found.append(_Obstacle("positions", reason, "rotary"))
    if model.positions == "alibi":
        found.append(_Obstacle("positions", "its encoders know nothing of ALiBi", "rotary"))
    if model.attention_window is not None or model.attention_chunk is not None:
        field = "attention_window" if model.attention_window is not None else "attention_chunk"
        found.append(_Obstacle(field, "its encoders let every position see all others", None))
    if model.logit_soft_cap:
        found.append(_Obstacle("logit_soft_cap", "its attention has no soft cap", 0))
    if model.qk_norm:
        found.append(_Obstacle("qk_norm", "it leaves those of attention to the source as they are", False))
    if model.value_size > model.key_size and model.positions == "rotary":
        reason = f"its heads have one width, and a d_k of {model.key_size} filled up to that would turn otherwise"
        found.append(_Obstacle("d_v", reason, model.key_size))
    return found


def _specs() -> ModuleType:
    """`ctranslate2.specs`, imported here alone: who does not export need not have it."""
    try:
        return importlib.import_module("ctranslate2.specs")
    except ModuleNotFoundError as error:
        if error.name != "ctranslate2":
            raise
        raise ExportError("CTranslate2 is not installed. pip install 'transformer[ctranslate2]'") from error


def write(config: Config, tokenizers: Tokenizers, params: Arrays, output: Path, origin: str) -> None:
    """Makes the folder `output`, whole or not at all: CTranslate2's files, the SentencePiece models, README.txt.

    Args:
      config: the run's.
      tokenizers: those it was trained with.
      params: the model's parameters as it uses them, numpy arrays.
      output: is not there, or an empty folder; the folder it lies in is.
      origin: what the model is, for people.

    Raises:
      ConfigError, ExportError: as `check`.
    """
    check(config, tokenizers)
    spec = _model_spec(config.model, tokenizers, params)
    spec.validate()
    spec.optimize()  # arrays that are equal, as tied embeddings are, are written once
    unfinished = output.with_name(f".{output.name}-{uuid.uuid4()}")
    unfinished.mkdir()
    try:
        spec.save(os.fspath(unfinished))
        for name, content in tokenizers.to_files().items():
            (unfinished / name).write_bytes(content)
        (unfinished / "README.txt").write_text(usage(config, tokenizers, origin), encoding="utf-8")
        os.replace(unfinished, output)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


# --- the model ---


def _model_spec(config: ModelConfig, tokenizers: Tokenizers, params: Arrays) -> Any:
    """A `ctranslate2.specs.TransformerSpec` with all that it needs to be saved."""
    specs = _specs()
    spec = specs.TransformerSpec(
        specs.TransformerEncoderSpec(config.num_encoder_layers, config.num_heads, **_words(config, specs)),
        specs.TransformerDecoderSpec(config.num_decoder_layers, config.num_heads, **_words(config, specs)),
    )
    target = params["target_embedding"]["table"]
    [source_embeddings] = spec.encoder.embeddings
    source_embeddings.weight = params.get("source_embedding", params["target_embedding"])["table"]
    spec.decoder.embeddings.weight = target
    spec.decoder.projection.weight = params["output"]["table"] if "output" in params else target
    _fill_positions(spec.encoder, config, params.get("source_positions"))
    _fill_positions(spec.decoder, config, params.get("target_positions"))
    for side, stack in ((spec.encoder, "encoder"), (spec.decoder, "decoder")):
        for number, layer in enumerate(side.layer):
            _fill_layer(layer, config, _layer_of(params[stack]["layers"], number))
        if config.norm == "pre":
            _fill_norm(side.layer_norm, params[f"{stack}_norm"])

    spec.register_source_vocabulary(tokenizers.source.pieces())
    spec.register_target_vocabulary(tokenizers.target.pieces())
    # As the model was trained: every source ends with EOS, and the decoder is fed BOS first.
    names = tokenizers.target.pieces([UNK, BOS, EOS])
    spec.config.unk_token, spec.config.bos_token, spec.config.eos_token = names
    spec.config.decoder_start_token = spec.config.bos_token
    spec.config.add_source_eos = True
    spec.config.layer_norm_epsilon = EPSILON
    return spec


def _words(config: ModelConfig, specs: ModuleType) -> dict[str, Any]:
    """What encoder and decoder are told of themselves."""
    words = {
        "pre_norm": config.norm == "pre",
        "activation": specs.Activation[_ACTIVATIONS[config.activation]],
        "ffn_glu": config.gated,
        "rms_norm": config.normalization == "rms",
        "relative_position": config.positions == "shaw",
        "head_dim": _head_size(config),
    }
    if config.positions == "rotary":
        words |= {"rotary_dim": config.key_size, "rotary_interleave": False, "rotary_base": _rotary_base(config)}
        if config.rotary_scaling == "linear":
            words["rotary_scaling_type"] = specs.attention_spec.RotaryScalingType.Linear
            words["rotary_scaling_factor"] = config.rotary_factor
    return words


def _rotary_base(config: ModelConfig) -> float:
    """With ntk, raised: see `relative_positions.Rotary`."""
    if config.rotary_scaling != "ntk":
        return config.rotary_base
    return config.rotary_base * config.rotary_factor ** (config.key_size / (config.key_size - 2))


def _head_size(config: ModelConfig) -> int:
    """The width of queries, keys and values, which is one."""
    return max(config.key_size, config.value_size)


def _layer_of(stacked: Arrays, number: int) -> dict[str, Any]:
    """The parameters of one layer of a stack."""
    return {
        name: _layer_of(value, number) if isinstance(value, Mapping) else np.asarray(value[number])
        for name, value in stacked.items()
    }


def _fill_positions(side: Any, config: ModelConfig, learned: Arrays | None) -> None:
    """The table [P, D] of what is added to embeddings."""
    if config.positions in ("shaw", "rotary"):
        return
    if config.positions == "learned":
        side.position_encodings.encodings = learned["table"]
    elif config.positions == "none":
        # Without a table it adds sinusoids.
        side.position_encodings.encodings = np.zeros((ROWS, config.d_model), np.float32)
    else:
        encode = sinusoids if config.positions == "sinusoidal" else tensor2tensor_sinusoids
        side.position_encodings.encodings = np.array(encode(np.arange(ROWS)[None, :], config.d_model)[0])


def _fill_layer(layer: Any, config: ModelConfig, arrays: Arrays) -> None:
    _fill_attention(layer.self_attention, config, arrays["self_attention"], own=True)
    _fill_norm(layer.self_attention.layer_norm, arrays["self_attention_residual"]["norm"])
    if "cross_attention" in arrays:
        _fill_attention(layer.attention, config, arrays["cross_attention"], own=False)
        _fill_norm(layer.attention.layer_norm, arrays["cross_attention_residual"]["norm"])

    ours, ffn = arrays["feed_forward"], layer.ffn
    ffn.linear_0.weight, ffn.linear_1.weight = _transposed(ours["inner"]), _transposed(ours["outer"])
    if config.biases:
        ffn.linear_0.bias, ffn.linear_1.bias = ours["inner_bias"], ours["outer_bias"]
    if config.gated:
        ffn.linear_0_noact.weight = _transposed(ours["gate"])
    _fill_norm(ffn.layer_norm, arrays["feed_forward_residual"]["norm"])


def _fill_attention(attention: Any, config: ModelConfig, arrays: Arrays, *, own: bool) -> None:
    """Projections are matrices [O, D] there. Those that read the same text are one, above each other."""
    shared_by = config.num_heads // config.key_value_heads

    def rows(name: str, copies: int) -> np.ndarray:
        weights_DNH = _widened(np.repeat(arrays[name], copies, axis=1), _head_size(config), axis=2)
        return _transposed(weights_DNH.reshape(len(weights_DNH), -1))

    query_OD, keys_values_OD = rows("query", 1), [rows("key", shared_by), rows("value", shared_by)]
    if own:
        attention.linear[0].weight = np.concatenate([query_OD, *keys_values_OD])
    else:
        attention.linear[0].weight = query_OD
        attention.linear[1].weight = np.concatenate(keys_values_OD)
    output_NHD = _widened(arrays["output"], _head_size(config), axis=1)
    attention.linear[-1].weight = _transposed(output_NHD.reshape(-1, output_NHD.shape[-1]))

    attention.queries_scale = np.float32(1 / math.sqrt(config.key_size))
    if own and config.positions == "shaw":
        vectors = arrays["relative"]
        attention.relative_position_keys = _widened(vectors["key_vectors"], _head_size(config), axis=1)
        attention.relative_position_values = _widened(vectors["value_vectors"], _head_size(config), axis=1)


def _fill_norm(norm: Any, arrays: Arrays) -> None:
    norm.gamma = arrays["scale"]
    if hasattr(norm, "beta"):
        norm.beta = arrays.get("bias", np.zeros_like(arrays["scale"]))


def _widened(array: np.ndarray, size: int, axis: int) -> np.ndarray:
    """With zeros behind what is there: of queries and keys they add nothing to scores, of values nobody reads them."""
    widths = [(0, 0)] * array.ndim
    widths[axis] = (0, size - array.shape[axis])
    return np.pad(array, widths)


def _transposed(weights: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(weights.T)


# --- how to use it ---


def usage(config: Config, tokenizers: Tokenizers, origin: str) -> str:
    """What README.txt says."""
    source, *rest = tokenizers.to_files()
    target = rest[0] if rest else source
    data, decoding = config.data, config.decoding
    inputs, outputs = "", f"max(map(len, pieces)) + {decoding.extra_length}"
    if config.model.positions == "learned":  # where its table ends
        longest = config.model.max_length
        inputs, outputs = f"\n        max_input_length={longest},", f"min({outputs}, {longest})"
    base = "n" if decoding.length_penalty_form == "power" else "((5 + n) / 6)"
    return f"""\
A translation model ({data.source_language}-{data.target_language}) for CTranslate2: {origin}.

    # pip install ctranslate2 sentencepiece; run in this folder
    import ctranslate2
    import sentencepiece

    source = sentencepiece.SentencePieceProcessor(model_file="{source}")
    target = sentencepiece.SentencePieceProcessor(model_file="{target}")
    translator = ctranslate2.Translator(".", compute_type="float32")
    pieces = source.encode(["A sentence."], out_type=str)
    found = translator.translate_batch(
        pieces,
        beam_size={decoding.beam_size},
        length_penalty={nearest_length_penalty(decoding):.3g},
        min_decoding_length=0,{inputs}
        max_decoding_length={outputs},
    )
    print(target.decode([result.hypotheses[0] for result in found]))

CTranslate2 itself adds the ends of sources and the beginning of targets. compute_type="int8" is smaller and faster, and
not quite the same model.

With beam_size=1 translations are those of `transformer translate --config.decoding.beam_size=1` up to rounding. Only
the limit differs: there each sentence has its own, {decoding.extra_length} pieces more than it has itself.

A wider beam is searched otherwise. CTranslate2 compares log-probabilities over n^p for n pieces, and stops when as many
hypotheses ended as the beam holds. The run compares them over {base}^{decoding.length_penalty:g}, ends counted,
and goes on while a better one may come. The p above favours length about as much where n is {TYPICAL_LENGTH}.
"""


TYPICAL_LENGTH = 20
"""Pieces of a sentence for which `nearest_length_penalty` is right."""


def nearest_length_penalty(decoding: DecodingConfig) -> float:
    """The p of CTranslate2's n^p, without the end, that is like the run's penalty.

    Of ((5 + n) / 6)^alpha: where the slopes of the logarithms over log n, p and alpha n / (5 + n), are the same at
    n = `TYPICAL_LENGTH`. Of n^alpha: alpha, for that is the formula, but for the end.
    """
    alpha = decoding.length_penalty
    return alpha if decoding.length_penalty_form == "power" else alpha * TYPICAL_LENGTH / (5 + TYPICAL_LENGTH)

"""What makes a config impossible, each with the way out."""

import dataclasses
import re
import types
import typing
from typing import Any

from transformer.config.field_info import FieldInfo, example, fields, get
from transformer.config.kernels import FUSED, obstacles
from transformer.config.model import ModelConfig
from transformer.config.options import ConfigError
from transformer.config.sections import SPECIAL_PIECES, Config, TransferConfig


def validate(config: Config) -> Config:
    """Returns `config`, or raises `ConfigError` for the first field that cannot be.

    What depends on more than the config (the devices present, the size of a trained vocabulary) is checked where
    that is known: `sharding.make_mesh`, `data.tokenizer`.
    """
    for info in fields():
        value = get(config, info.name)
        if not _has_type(value, info.type):
            reason = f"is {type(value).__name__}, not {info.type_name}"
            raise ConfigError(info.name, value, reason, f"{_type_remedy(info)}.")
        if info.choices and value not in info.choices:
            raise ConfigError(info.name, value, "is not one of the choices", f"Choose from {', '.join(info.choices)}.")
        _check_range(info, value)
    _check_combinations(config)
    return config


def _has_type(value: Any, declared: Any) -> bool:
    if isinstance(declared, types.UnionType):
        return any(_has_type(value, part) for part in typing.get_args(declared))
    if typing.get_origin(declared) is tuple:
        return isinstance(value, tuple) and all(isinstance(item, typing.get_args(declared)[0]) for item in value)
    if declared is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if declared is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, declared)


def _type_remedy(info: FieldInfo) -> str:
    if typing.get_origin(info.type) is tuple:
        return "Write a tuple of strings, such as ('lines:a.en:a.de',)"
    return f"Write for example {example(info)!r}"


def _check_range(info: FieldInfo, value: Any) -> None:
    if not isinstance(value, (int, float)) or info.bounds.hold(value):
        return
    remedy = "Leave it unset for the default." if info.default is None else f"The default is {info.default}."
    raise ConfigError(info.name, value, f"must be {info.bounds}", remedy)


def _check_combinations(config: Config) -> None:
    _check_tokenizer(config)
    _check_model(config)
    _check_data(config)
    _check_training(config)
    _check_transfer(config)
    _check_mesh(config)


def _check_model(config: Config) -> None:
    model = config.model
    if model.d_k is None and model.d_model % model.num_heads:
        raise ConfigError(
            "model.num_heads",
            model.num_heads,
            f"does not divide model.d_model = {model.d_model}",
            "Choose a divisor, or set model.d_k (and model.d_v) yourself.",
        )
    if model.num_heads % model.key_value_heads:
        raise ConfigError(
            "model.num_kv_heads",
            model.num_kv_heads,
            f"does not divide model.num_heads = {model.num_heads}",
            "Every head of keys and values is shared by as many query heads: choose a divisor.",
        )
    _check_positions(config)
    _check_kernel(config)
    if model.mask == "prefix" and model.architecture != "language_model":
        raise ConfigError(
            "model.mask",
            "prefix",
            "an encoder-decoder's target has no prompt",
            "Set model.architecture=language_model.",
        )
    if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*", model.attention):
        raise ConfigError("model.attention", model.attention, "names no class", "Write package.module:Class.")
    if model.tied_embeddings == "all" and not config.tokenizer.shares_vocabulary:
        raise ConfigError(
            "model.tied_embeddings",
            "all",
            "needs one shared vocabulary, the tokenizer has two",
            "Set model.tied_embeddings=output, or tokenizer.shared=true without tokenizer.target_model.",
        )


# What belongs to one kind of positions.
OF_POSITIONS = {
    "learned": ("max_length",),
    "rotary": ("rotary_base",),
    "t5": ("t5_buckets", "t5_max_distance"),
    "shaw": ("shaw_distance",),
}


def _check_positions(config: Config) -> None:
    model, data = config.model, config.data
    for positions, names in OF_POSITIONS.items():
        if model.positions != positions:
            reason = f"does nothing with model.positions = {model.positions}"
            _check_unset("model", model, names, reason, f"Set model.positions={positions}")
    if model.positions in ("sinusoidal", "sinusoidal_t2t") and model.d_model % 2:
        raise ConfigError("model.d_model", model.d_model, "is odd", "Sinusoids come in pairs: make it even.")
    # The longest that training text gets: a language model's is cut into rows.
    field, longest = "max_length", data.max_length
    if model.architecture == "language_model":
        field, longest = "pack_length", data.pack_length
    if model.positions == "learned" and model.max_length < longest:
        raise ConfigError(
            "model.max_length",
            model.max_length,
            f"learned positions end before data.{field} = {longest}",
            "Raise the former or lower the latter.",
        )
    if model.positions == "rotary" and model.key_size % 2:
        raise ConfigError("model.d_k", model.key_size, "is odd", "Rotary positions turn pairs: make it even.")
    if model.positions == "rotary" and model.rotary_scaling == "ntk" and model.key_size < 4:
        raise ConfigError("model.d_k", model.key_size, "leaves rotary_scaling=ntk no slow wave", "Make it 4 or more.")
    if model.rotary_scaling != "none" and (model.positions != "rotary" or model.rotary_factor == 1):
        missing = "model.positions=rotary" if model.positions != "rotary" else "model.rotary_factor above 1"
        raise ConfigError(
            "model.rotary_scaling",
            model.rotary_scaling,
            f"does nothing without {missing}",
            f"Set {missing}, or leave rotary_scaling at none.",
        )
    if model.rotary_factor != 1 and model.rotary_scaling == "none":
        raise ConfigError(
            "model.rotary_factor", model.rotary_factor, "does nothing", "Set model.rotary_scaling to linear or ntk."
        )
    if model.positions == "t5" and model.t5_buckets % 2:
        raise ConfigError("model.t5_buckets", model.t5_buckets, "is odd", "Half of them are for each direction.")
    if model.positions == "t5" and model.t5_max_distance <= model.t5_buckets // 2:
        raise ConfigError(
            "model.t5_max_distance",
            model.t5_max_distance,
            f"distances up to {model.t5_buckets // 2} have buckets of their own already",
            "Raise it, or lower model.t5_buckets.",
        )


def _check_kernel(config: Config) -> None:
    model = config.model
    for role in model.attention_roles if model.kernel in FUSED else ():
        for obstacle in obstacles(model.kernel, model, role):
            raise ConfigError(
                "model.kernel",
                model.kernel,
                f"cannot serve model.{obstacle.field} = {obstacle.value!r}: {obstacle.reason}",
                f"Set model.kernel=auto, or model.{obstacle.field}={obstacle.served}.",
            )


def _check_data(config: Config) -> None:
    data = config.data
    of_documents = config.model.architecture == "language_model"
    packed = of_documents or data.batching == "packing"
    if not data.train:
        raise ConfigError("data.train", data.train, "is empty", "Name a corpus, such as lines:train.en:train.de.")
    if not data.validation:
        raise ConfigError(
            "data.validation",
            data.validation,
            "is empty",
            "Name a corpus to score during training, such as lines:valid.en:valid.de.",
        )
    if data.cache_dir is not None and "://" in data.cache_dir:
        raise ConfigError(
            "data.cache_dir",
            data.cache_dir,
            "is no folder: tokenised text is read from a disk, by memory maps",
            "Name a folder; without one that all hosts see, each keeps a copy of its own.",
        )
    if 0 < data.max_length_ratio < 1:
        raise ConfigError(
            "data.max_length_ratio",
            data.max_length_ratio,
            "would drop even pairs of equal length",
            "Set it to 1 or more, or to 0 to keep all.",
        )
    if packed and not of_documents and data.pack_length < data.max_length:
        raise ConfigError(
            "data.pack_length",
            data.pack_length,
            f"a pair of data.max_length = {data.max_length} does not fit a row",
            "Raise pack_length or lower max_length.",
        )
    if packed and data.pack_length % data.lengths_multiple_of:
        raise ConfigError(
            "data.pack_length",
            data.pack_length,
            f"is no multiple of data.lengths_multiple_of = {data.lengths_multiple_of}",
            "Change one of them.",
        )
    longest = data.pack_length if packed else data.max_length
    if data.batch_tokens < longest * data.rows_multiple_of:
        raise ConfigError(
            "data.batch_tokens",
            data.batch_tokens,
            f"holds fewer than data.rows_multiple_of = {data.rows_multiple_of} rows of {longest} tokens",
            f"Raise it to {longest * data.rows_multiple_of}, or lower the length or data.rows_multiple_of.",
        )


def _check_tokenizer(config: Config) -> None:
    tokenizer = config.tokenizer
    of_documents = config.model.architecture == "language_model"
    if tokenizer.target_model and not tokenizer.model:
        raise ConfigError(
            "tokenizer.target_model", tokenizer.target_model, "has no source model beside it", "Set tokenizer.model."
        )
    if of_documents and not tokenizer.shares_vocabulary:
        field = "shared" if tokenizer.model is None else "target_model"
        raise ConfigError(
            f"tokenizer.{field}",
            tokenizer.shared if tokenizer.model is None else tokenizer.target_model,
            "makes two vocabularies, and a language model has one",
            "Set it to true." if tokenizer.model is None else "Leave it unset.",
        )
    # The special pieces, one for each byte, and the line end of documents.
    taken = SPECIAL_PIECES + 256 * tokenizer.byte_fallback + of_documents
    by_sentencepiece = tokenizer.model is None and tokenizer.algorithm in ("bpe", "unigram")
    if by_sentencepiece and tokenizer.vocab_size <= taken:
        raise ConfigError(
            "tokenizer.vocab_size",
            tokenizer.vocab_size,
            f"leaves no piece for text: {taken} are taken by special pieces{' and bytes' * tokenizer.byte_fallback}",
            f"Set it above {taken}.",
        )


def _check_training(config: Config) -> None:
    data, optimizer, evaluation, checkpoint = config.data, config.optimizer, config.evaluation, config.checkpoint
    if data.rows_multiple_of % config.training.parts:
        raise ConfigError(
            "training.accumulate",
            config.training.accumulate,
            f"does not divide data.rows_multiple_of = {data.rows_multiple_of}",
            "Choose a divisor or raise data.rows_multiple_of.",
        )
    if optimizer.weight_decay and optimizer.name != "adamw":
        raise ConfigError(
            "optimizer.weight_decay", optimizer.weight_decay, "is for adamw only", "Set optimizer.name=adamw."
        )
    if optimizer.schedule == "cosine" and optimizer.warmup_steps >= config.training.steps:
        raise ConfigError(
            "optimizer.warmup_steps",
            optimizer.warmup_steps,
            f"the warm-up never ends within training.steps = {config.training.steps}",
            "Shorten it: cosine starts down after it.",
        )
    if evaluation.metric == "bleu" and config.model.architecture == "language_model":
        raise ConfigError(
            "evaluation.metric", "bleu", "a language model translates nothing", "Set evaluation.metric=loss."
        )
    if evaluation.metric == "bleu" and evaluation.bleu_sentences == 0 and evaluation.patience:
        raise ConfigError(
            "evaluation.metric",
            "bleu",
            "cannot stop training while evaluation.bleu_sentences = 0",
            "Set evaluation.metric=loss, or translate some sentences.",
        )
    if checkpoint.average > checkpoint.keep_last:
        raise ConfigError(
            "checkpoint.average",
            checkpoint.average,
            f"only checkpoint.keep_last = {checkpoint.keep_last} checkpoints are kept",
            "Raise keep_last or average fewer.",
        )


# What says how a run is started from another one, and what adapters are like.
_OF_A_START = ("init_checkpoint", "init_only", "init_fresh", "init_rename", "vocabulary", "new_pieces")
_OF_ADAPTERS = ("lora_alpha", "lora_targets")


def _check_transfer(config: Config) -> None:
    transfer = config.transfer
    if transfer.init_from is None:
        remedy = "Set transfer.init_from to its work directory"
        _check_unset("transfer", transfer, _OF_A_START, "there is no run to start from", remedy)
    if not transfer.lora_rank:
        remedy = "Set transfer.lora_rank, to 8 for example"
        _check_unset("transfer", transfer, _OF_ADAPTERS, "there are no adapters", remedy)
    if transfer.init_from is not None and transfer.vocabulary == "same" and config.tokenizer.model is not None:
        raise ConfigError(
            "tokenizer.model",
            config.tokenizer.model,
            "the run keeps the vocabulary of transfer.init_from",
            "Set transfer.vocabulary=new, or leave the model out.",
        )
    if transfer.new_pieces != "parts" and transfer.vocabulary == "same":
        raise ConfigError(
            "transfer.new_pieces", transfer.new_pieces, "the vocabulary is the same", "Set transfer.vocabulary=new."
        )
    if transfer.lora_rank and not transfer.lora_targets:
        raise ConfigError(
            "transfer.lora_targets", (), "is empty", "Name matrices, such as query and value, or set lora_rank=0."
        )
    if transfer.lora_rank and transfer.freeze and not transfer.train_only:
        raise ConfigError(
            "transfer.freeze",
            transfer.freeze,
            "with transfer.lora_rank nothing trains anyway but adapters and what transfer.train_only names",
            "Leave it out; to adapt some layers only, name them in transfer.lora_targets, such as query:4-5.",
        )


def _check_unset(
    section: str, values: ModelConfig | TransferConfig, names: tuple[str, ...], reason: str, remedy: str
) -> None:
    """Refuses settings of a section that would do nothing."""
    for field in dataclasses.fields(values):
        value = getattr(values, field.name)
        if field.name in names and value != field.default:
            unset = f"or leave {field.name} at {field.default}."
            raise ConfigError(f"{section}.{field.name}", value, reason, f"{remedy}, {unset}")


def _check_mesh(config: Config) -> None:
    mesh = config.mesh
    sizes = {f"mesh.{field.name}": getattr(mesh, field.name) for field in dataclasses.fields(mesh)}
    for name, size in sizes.items():
        if size < 1 and size != -1:
            raise ConfigError(name, size, "is no number of devices", "Give 1 or more, or -1 for what is left.")
    if list(sizes.values()).count(-1) > 1:
        raise ConfigError("mesh", tuple(sizes.values()), "has more than one -1", "Leave -1 on one axis only.")

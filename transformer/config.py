"""What a run is: typed dataclasses, their meaning, and what makes them impossible.

One `Config` describes one run completely. It is built by a file in `configs/`, changed by flags
(`--config.model.d_model=256`), checked once by `validate`, printed, and saved as JSON beside the checkpoints.
The dataclasses are mutable because flags are written into them; nothing changes them after `validate`.
"""

import dataclasses
import difflib
import json
import math
import re
import types
import typing
from collections.abc import Collection
from typing import Any


class ConfigError(ValueError):
    """A field that cannot be, named with its value and the way out."""

    def __init__(self, field: str, value: Any, reason: str, remedy: str):
        super().__init__(f"config.{field} = {value!r}: {reason}. {remedy}")
        self.field = field
        self.value = value
        self.remedy = remedy


@dataclasses.dataclass(frozen=True)
class Bounds:
    """Between which values a number may be; None: no bound."""

    above: float | None = None
    at_least: float | None = None
    below: float | None = None
    at_most: float | None = None

    def hold(self, value: float) -> bool:
        return (
            math.isfinite(value)
            and (self.above is None or value > self.above)
            and (self.at_least is None or value >= self.at_least)
            and (self.below is None or value < self.below)
            and (self.at_most is None or value <= self.at_most)
        )

    def __str__(self) -> str:
        limits = {"above": self.above, "at least": self.at_least, "below": self.below, "at most": self.at_most}
        return " and ".join(f"{word} {limit}" for word, limit in limits.items() if limit is not None) or "finite"


def option(default: Any, meaning: str, choices: tuple[str, ...] = (), **bounds: float) -> Any:
    """A dataclass field with its meaning and the values it can take: an enumeration's, or the `Bounds` of a number."""
    metadata = {"meaning": meaning, "choices": choices, "bounds": Bounds(**bounds)}
    return dataclasses.field(default=default, metadata=metadata)


def section(config_class: type) -> Any:
    """A nested dataclass built afresh for every `Config`."""
    return dataclasses.field(default_factory=config_class)


@dataclasses.dataclass
class ModelConfig:
    """The network. Defaults are the paper's base model (Table 3); the symbol in brackets is the paper's."""

    d_model: int = option(512, "Width of the residual stream [d_model].", above=0)
    num_heads: int = option(8, "Attention heads in every attention [h].", above=0)
    d_k: int | None = option(None, "Width of a head's queries and keys [d_k]; unset: d_model / num_heads.", above=0)
    d_v: int | None = option(None, "Width of a head's values [d_v]; unset: the same as d_k.", above=0)
    d_ff: int = option(2048, "Inner width of the feed-forward network [d_ff].", above=0)
    num_encoder_layers: int = option(6, "Encoder layers [N].", above=0)
    num_decoder_layers: int = option(6, "Decoder layers [N].", above=0)
    dropout: float = option(
        0.1, "Dropout on sub-layer outputs and on embeddings plus positions [P_drop].", at_least=0, below=1
    )
    activation: str = option("relu", "Between the two products of the feed-forward network.", ("relu", "gelu"))
    norm: str = option(
        "post",
        "post: LayerNorm(x + Sublayer(x)) as in the paper; pre: x + Sublayer(LayerNorm(x)) and a last norm a stack.",
        ("post", "pre"),
    )
    positions: str = option(
        "sinusoidal",
        "How positions enter: the paper's sinusoids, a learned table (Table 3 row E), or none.",
        ("sinusoidal", "learned", "none"),
    )
    max_length: int = option(
        1024, "Rows of a learned position table; no sentence or decode can be longer with it.", above=0
    )
    tied_embeddings: str = option(
        "all",
        "all: source, target and output share one matrix (section 3.4); output: target and output; none: three.",
        ("all", "output", "none"),
    )
    attention: str = option(
        "transformer.model.attention:MultiHeadAttention",
        "The attention class, package.module:Class; your own outside this package trains by naming it here.",
    )
    dtype: str = option(
        "float32", "Precision of the products; parameters stay float32 in both.", ("float32", "bfloat16")
    )
    unroll: int = option(
        1, "Layers unrolled in each turn of the scan over layers; more is faster, compiles longer.", above=0
    )

    @property
    def key_size(self) -> int:
        """d_k, resolved."""
        return self.d_model // self.num_heads if self.d_k is None else self.d_k

    @property
    def value_size(self) -> int:
        """d_v, resolved."""
        return self.key_size if self.d_v is None else self.d_v


@dataclasses.dataclass
class DataConfig:
    """Where text comes from and how it becomes batches.

    A corpus is one string, optionally weighted (`2*lines:...` is seen twice an epoch, `0.5*...` by half):
        phrasebook[:train|validation|test]          the built-in corpus
        lines:SOURCE_FILES:TARGET_FILES             aligned line files (plain, .gz, .xz), commas between several
        tsv:FILES                                   source TAB target
        tfds:NAME/CONFIG[:SPLIT]                    a TensorFlow Datasets set, e.g. tfds:wmt14_translate/de-en
    """

    train: tuple[str, ...] = option(("phrasebook:train",), "Training corpora, written as said above.")
    validation: tuple[str, ...] = option(("phrasebook:validation",), "Corpora scored during training.")
    test: tuple[str, ...] = option(("phrasebook:test",), "Corpora scored once at the end; none: ().")
    source_language: str = option("en", "Language code of the source side.")
    target_language: str = option("de", "Language code of the target side; the BLEU tokenizer follows it.")
    data_dir: str | None = option(None, "Where TFDS finds prepared data sets; unset: its own default.")
    cache_dir: str | None = option(None, "Where tokenised corpora are kept; unset: ~/.cache/transformer/data.")
    max_length: int = option(
        128, "Longest sentence of either side in tokens, end included; longer pairs are dropped.", above=0
    )
    max_length_ratio: float = option(
        0.0, "Drop pairs whose sides differ by more than this factor in words, 1 or more; 0: keep.", at_least=0
    )
    deduplicate: bool = option(False, "Drop training pairs seen before.")
    batching: str = option(
        "buckets",
        "buckets: rows of similar length, a few shapes; packing: several examples a row, one shape, with segments.",
        ("buckets", "packing"),
    )
    batch_tokens: int = option(
        4096, "Tokens a side in a batch, padding included; the rows follow from the length.", above=0
    )
    num_buckets: int = option(6, "Batch shapes used by length buckets (each is compiled once).", above=0)
    pack_length: int = option(256, "Length of a packed row.", above=0)
    rows_multiple_of: int = option(
        8,
        "Rows of every batch are a multiple of this, so that data * fsdp devices * training.accumulate may divide it.",
        above=0,
    )
    workers: int = option(0, "Threads that tokenise; 0: one a core, at most 8.", at_least=0)
    read_ahead: int = option(8, "Batches made ahead of the step.", above=0)


@dataclasses.dataclass
class TokenizerConfig:
    """Text <-> pieces, by SentencePiece. Trained on the training text unless a model file is given."""

    model: str | None = option(None, "A trained SentencePiece .model file for both sides (or the source, see below).")
    target_model: str | None = option(
        None, "A second .model file for the target side; makes the vocabularies separate."
    )
    algorithm: str = option("bpe", "How pieces are found when a model is trained.", ("bpe", "unigram"))
    vocab_size: int = option(
        8000, "Pieces, a side when the vocabularies are separate; unused when a model is given.", above=0
    )
    shared: bool = option(True, "One vocabulary for both languages (section 5.1) when a model is trained.")
    sample_lines: int = option(2_000_000, "Lines a side the model is trained on, drawn evenly; 0: all.", at_least=0)
    character_coverage: float = option(
        0.9999, "Share of characters that get a piece; 0.9995 for Chinese, Japanese.", at_least=0.98, at_most=1
    )
    byte_fallback: bool = option(False, "Spell unknown characters in bytes (256 pieces) rather than lose them.")

    @property
    def shares_vocabulary(self) -> bool:
        """Whether both sides have one vocabulary, trained or given."""
        return self.shared if self.model is None else self.target_model is None


@dataclasses.dataclass
class OptimizerConfig:
    """Adam and how its learning rate moves (section 5.3)."""

    name: str = option("adam", "adamw adds decoupled weight decay.", ("adam", "adamw"))
    schedule: str = option(
        "paper",
        "paper: learning_rate * d_model^-0.5 * min(s^-0.5, s * warmup^-1.5); "
        "inverse_sqrt: up to learning_rate, then sqrt(warmup / s); "
        "cosine: up to learning_rate, then down to final_scale of it; constant: up, then flat.",
        ("paper", "inverse_sqrt", "cosine", "constant"),
    )
    learning_rate: float = option(1.0, "The peak; with schedule=paper a factor on the paper's formula.", above=0)
    warmup_steps: int = option(4000, "Steps of linear warm-up [warmup_steps].", above=0)
    final_scale: float = option(0.0, "With cosine: the last learning rate over the peak.", at_least=0)
    beta1: float = option(0.9, "Decay of Adam's first moment.", at_least=0, below=1)
    beta2: float = option(0.98, "Decay of Adam's second moment.", at_least=0, below=1)
    epsilon: float = option(1e-9, "Added to the root of Adam's second moment.", above=0)
    weight_decay: float = option(0.0, "Decoupled weight decay on matrices; adamw only.", at_least=0)
    clip_norm: float = option(0.0, "Scale gradients down to this global norm; 0: never.", at_least=0)


@dataclasses.dataclass
class TrainingConfig:
    """The loop: how long, what is optimised, what is said meanwhile."""

    steps: int = option(100_000, "Optimizer steps.", above=0)
    label_smoothing: float = option(
        0.1, "Probability mass spread evenly over the vocabulary [epsilon_ls].", at_least=0, below=1
    )
    accumulate: int = option(
        1, "Parts a batch is split into to save memory; gradients are weighted by tokens.", above=0
    )
    ema_decay: float = option(
        0.0, "Keep an exponential moving average of the parameters and decode with it; 0: no.", at_least=0, below=1
    )
    non_finite: str = option(
        "stop", "On a loss or gradient that is not finite: stop, or skip that step.", ("stop", "skip")
    )
    log_every: int = option(
        100, "Steps between lines of metrics.jsonl; each is the mean since the one before.", above=0
    )
    loss_chunk_mb: int = option(64, "Logits held at once in the loss, in MiB; the rest is never materialised.", above=0)
    profile_steps: int = option(
        0, "Steps of profiler trace taken after warm-up, written to WORKDIR/profile.", at_least=0
    )


@dataclasses.dataclass
class EvaluationConfig:
    """What is measured during training and decides which checkpoint is the best."""

    every: int = option(5000, "Steps between validations.", above=0)
    bleu_sentences: int = option(
        500, "Validation sentences translated each time; 0: validation loss only, -1: all.", at_least=-1
    )
    beam_size: int = option(1, "Beam of the validation translations; 1 is greedy and fast.", above=0)
    samples: int = option(3, "Translations printed each time.", at_least=0)
    metric: str = option("bleu", "What makes a checkpoint the best.", ("bleu", "loss"))
    patience: int = option(0, "Stop after this many validations without a better metric; 0: never.", at_least=0)


@dataclasses.dataclass
class CheckpointConfig:
    """What is kept on disk."""

    every: int = option(1000, "Steps between checkpoints.", above=0)
    keep_last: int = option(3, "Newest checkpoints kept.", above=0)
    keep_every: int = option(0, "Steps whose multiples are kept for good; 0: none.", at_least=0)
    keep_best: int = option(1, "Best checkpoints kept by evaluation.metric.", at_least=0)
    average: int = option(
        0, "Newest checkpoints averaged for the final score and translation (paper: 5); 0 or 1: none.", at_least=0
    )


@dataclasses.dataclass
class DecodingConfig:
    """Beam search (section 6.1)."""

    beam_size: int = option(4, "Hypotheses kept; 1 is greedy.", above=0)
    length_penalty: float = option(
        0.6, "alpha of ((5 + length) / 6)^alpha (Wu et al. 2016, eq. 14); fairseq's differs.", at_least=0
    )
    extra_length: int = option(50, "Longest output: this many tokens more than the input.", above=0)
    batch_size: int = option(64, "Sentences translated together.", above=0)


@dataclasses.dataclass
class MeshConfig:
    """How devices are arranged. One of the sizes may be -1: what the others leave."""

    data: int = option(-1, "Devices over which batches are split; parameters are copied.")
    fsdp: int = option(1, "Devices over which batches, parameters and optimizer state are split.")
    tensor: int = option(1, "Devices over which heads, the feed-forward network and the vocabulary are split.")


@dataclasses.dataclass
class Config:
    """One run."""

    seed: int = option(
        0, "Everything random follows from it: parameters, order of the data, dropout.", at_least=0, below=2**32
    )
    model: ModelConfig = section(ModelConfig)
    data: DataConfig = section(DataConfig)
    tokenizer: TokenizerConfig = section(TokenizerConfig)
    optimizer: OptimizerConfig = section(OptimizerConfig)
    training: TrainingConfig = section(TrainingConfig)
    evaluation: EvaluationConfig = section(EvaluationConfig)
    checkpoint: CheckpointConfig = section(CheckpointConfig)
    decoding: DecodingConfig = section(DecodingConfig)
    mesh: MeshConfig = section(MeshConfig)


# --- fields as data: for help, for errors, for JSON ---


@dataclasses.dataclass(frozen=True)
class FieldInfo:
    """One leaf of `Config`: dotted name, type as written, default, meaning, and what values it can take."""

    name: str
    type: Any
    default: Any
    meaning: str
    choices: tuple[str, ...]
    bounds: Bounds

    @property
    def type_name(self) -> str:
        return self.type.__name__ if isinstance(self.type, type) else str(self.type)


def fields(config_class: type = Config, prefix: str = "") -> list[FieldInfo]:
    """Every leaf field in the order written."""
    found = []
    for field in dataclasses.fields(config_class):
        name = prefix + field.name
        if dataclasses.is_dataclass(field.type):
            found += fields(field.type, name + ".")
        else:
            found.append(FieldInfo(name, field.type, field.default, **field.metadata))
    return found


def get(config: Config, name: str) -> Any:
    """The value at a dotted name."""
    value: Any = config
    for part in name.split("."):
        value = getattr(value, part)
    return value


def nearest_field(name: str) -> str | None:
    """The known field a misspelt dotted name most likely meant."""
    names = [info.name for info in fields()]
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return close[0]
    # The right field in the wrong section: compare last parts.
    last_parts = {info.name.rsplit(".", 1)[-1]: info.name for info in fields()}
    close = difflib.get_close_matches(name.rsplit(".", 1)[-1], last_parts, n=1, cutoff=0.6)
    return last_parts[close[0]] if close else None


def unknown_field(name: str, value: Any) -> ConfigError:
    """The error for a field that does not exist, with the one that was probably meant."""
    nearest = nearest_field(name)
    remedy = f"Did you mean config.{nearest}?" if nearest else "`transformer config` lists every field."
    return ConfigError(name, value, "there is no such field", remedy)


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


# --- validation ---


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


def _type_remedy(info: FieldInfo) -> str:
    if typing.get_origin(info.type) is tuple:
        return "Write a tuple of strings, such as ('lines:a.en:a.de',)"
    return f"Write for example {example(info)!r}"


def example(info: FieldInfo) -> Any:
    """A value that the field may have."""
    if info.default is not None:
        return info.default
    return 64 if int in typing.get_args(info.type) else "some/PATH"


def _check_range(info: FieldInfo, value: Any) -> None:
    if not isinstance(value, (int, float)) or info.bounds.hold(value):
        return
    remedy = "Leave it unset for the default." if info.default is None else f"The default is {info.default}."
    raise ConfigError(info.name, value, f"must be {info.bounds}", remedy)


def _check_combinations(config: Config) -> None:
    _check_model(config)
    _check_data(config)
    _check_tokenizer(config.tokenizer)
    _check_training(config)
    _check_mesh(config)


def _check_model(config: Config) -> None:
    model, data = config.model, config.data
    if model.d_k is None and model.d_model % model.num_heads:
        raise ConfigError(
            "model.num_heads",
            model.num_heads,
            f"does not divide model.d_model = {model.d_model}",
            "Choose a divisor, or set model.d_k (and model.d_v) yourself.",
        )
    if model.positions == "sinusoidal" and model.d_model % 2:
        raise ConfigError("model.d_model", model.d_model, "is odd", "Sinusoids come in pairs: make it even.")
    if model.positions == "learned" and model.max_length < data.max_length:
        raise ConfigError(
            "model.max_length",
            model.max_length,
            f"learned positions end before data.max_length = {data.max_length}",
            "Raise the former or lower the latter.",
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


def _check_data(config: Config) -> None:
    data = config.data
    if not data.train:
        raise ConfigError("data.train", data.train, "is empty", "Name a corpus, such as phrasebook.")
    if not data.validation:
        raise ConfigError("data.validation", data.validation, "is empty", "Name a corpus to score during training.")
    if 0 < data.max_length_ratio < 1:
        raise ConfigError(
            "data.max_length_ratio",
            data.max_length_ratio,
            "would drop even pairs of equal length",
            "Set it to 1 or more, or to 0 to keep all.",
        )
    if data.batching == "packing" and data.pack_length < data.max_length:
        raise ConfigError(
            "data.pack_length",
            data.pack_length,
            f"a pair of data.max_length = {data.max_length} does not fit a row",
            "Raise pack_length or lower max_length.",
        )
    longest = data.pack_length if data.batching == "packing" else data.max_length
    if data.batch_tokens < longest * data.rows_multiple_of:
        raise ConfigError(
            "data.batch_tokens",
            data.batch_tokens,
            f"holds fewer than data.rows_multiple_of = {data.rows_multiple_of} rows of {longest} tokens",
            f"Raise it to {longest * data.rows_multiple_of}, or lower the length or data.rows_multiple_of.",
        )


def _check_tokenizer(tokenizer: TokenizerConfig) -> None:
    if tokenizer.target_model and not tokenizer.model:
        raise ConfigError(
            "tokenizer.target_model", tokenizer.target_model, "has no source model beside it", "Set tokenizer.model."
        )
    # The special pieces, and one for each byte.
    taken = 4 + 256 * tokenizer.byte_fallback
    if tokenizer.model is None and tokenizer.vocab_size <= taken:
        raise ConfigError(
            "tokenizer.vocab_size",
            tokenizer.vocab_size,
            f"leaves no piece for text: {taken} are taken by special pieces{' and bytes' * tokenizer.byte_fallback}",
            f"Set it above {taken}.",
        )


def _check_training(config: Config) -> None:
    data, optimizer, evaluation, checkpoint = config.data, config.optimizer, config.evaluation, config.checkpoint
    if data.rows_multiple_of % config.training.accumulate:
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


def _check_mesh(config: Config) -> None:
    model, mesh = config.model, config.mesh
    sizes = {"mesh.data": mesh.data, "mesh.fsdp": mesh.fsdp, "mesh.tensor": mesh.tensor}
    for name, size in sizes.items():
        if size < 1 and size != -1:
            raise ConfigError(name, size, "is no number of devices", "Give 1 or more, or -1 for what is left.")
    if list(sizes.values()).count(-1) > 1:
        raise ConfigError("mesh", tuple(sizes.values()), "has more than one -1", "Leave -1 on one axis only.")
    for field, split in {"num_heads": model.num_heads, "d_ff": model.d_ff}.items():
        if mesh.tensor > 1 and split % mesh.tensor:
            raise ConfigError(
                "mesh.tensor", mesh.tensor, f"does not divide model.{field} = {split}", "Choose a divisor."
            )


# --- JSON ---


def to_json(config: Config) -> str:
    """The whole config as indented JSON."""
    return json.dumps(dataclasses.asdict(config), indent=2)


def from_json(text: str) -> Config:
    """The config that `to_json` wrote, validated. Nothing in it is executed.

    Raises:
      ConfigError: for a field this version does not know, or a value it does not allow.
      ValueError: for what is not JSON.
    """
    return validate(_build(Config, json.loads(text), ""))


def _build(config_class: type, values: Any, prefix: str) -> Any:
    if not isinstance(values, dict):
        name = prefix.rstrip(".") or "json"
        raise ConfigError(name, values, "is no section", "Write an object of fields, as `transformer config --json`.")
    known = {field.name: field for field in dataclasses.fields(config_class)}
    arguments = {}
    for name, value in values.items():
        if name not in known:
            raise unknown_field(prefix + name, value)
        if dataclasses.is_dataclass(known[name].type):
            arguments[name] = _build(known[name].type, value, f"{prefix}{name}.")
        else:
            arguments[name] = tuple(value) if isinstance(value, list) else value
    return config_class(**arguments)


# --- trust ---


def check_code(config: Config, allowed: Collection[str]) -> None:
    """Refuses a config read from a checkpoint that would have code outside this package executed, unless allowed.

    A config that the user wrote or typed needs no such leave.

    Raises:
      ConfigError: names what would be imported.
    """
    module = config.model.attention.partition(":")[0]
    if module.split(".")[0] == "transformer" or module in allowed:
        return
    raise ConfigError(
        "model.attention",
        config.model.attention,
        f"the saved config names code outside this package; to load it, Python would import and run {module}",
        f"If you trust that module, add --allow_code={module}.",
    )

"""The fields of a run, by section. Each says what it means; `transformer config` prints them as a table.

The largest section, the network, has a file of its own: model.py.
"""

import dataclasses

from transformer.config.model import ModelConfig
from transformer.config.options import option, section

SPECIAL_PIECES = 4
"""Padding, begin, end, unknown: the first pieces of every vocabulary."""


@dataclasses.dataclass
class DataConfig:
    """Where text comes from and how it becomes batches.

    A corpus is one string, optionally weighted (`2*lines:...` is seen twice an epoch, `0.5*...` by half):
        phrasebook[:train|validation|test[:COUNT]]  the built-in corpus; a million pairs: phrasebook:train:1000000
        lines:SOURCE_FILES:TARGET_FILES             aligned line files (plain, .gz, .xz), commas between several
        tsv:FILES                                   source TAB target
        tfds:NAME/CONFIG[:SPLIT]                    a TensorFlow Datasets set, e.g. tfds:wmt14_translate/de-en

    A language model is trained on documents. A pair is one: its source, a line end and its target, of which only the
    target is learned. These are text alone, for language models only:
        text:[SPLITTING:]FILES                      text files, every character kept; also .gz, .xz, names with *
        tfds_text:NAME/CONFIG[:SPLIT[:FEATURE]]     a TFDS set; FEATURE holds the text, unset: text
        phrasebook_text[:SPLIT[:COUNT]]             the phrasebook's sentences in the target language
    SPLITTING says what a document is: file, a whole file (so also when it is left out); lines, a line; paragraphs, what
    blank lines separate; jsonl, the field "text" of a JSON object a line. A part of a file is written behind its name:
    text:book.txt[:90%] and text:book.txt[90%:] are its first and last characters (documents that begin there).
    """

    train: tuple[str, ...] = option(("phrasebook:train",), "Training corpora, written as said above.")
    validation: tuple[str, ...] = option(("phrasebook:validation",), "Corpora scored during training.")
    test: tuple[str, ...] = option(("phrasebook:test",), "Corpora scored once at the end; none: ().")
    source_language: str = option("en", "Language code of the source side.")
    target_language: str = option("de", "Language code of the target side; the BLEU tokenizer follows it.")
    data_dir: str | None = option(None, "Where TFDS finds prepared data sets; unset: its own default.")
    cache_dir: str | None = option(None, "Where tokenised corpora are kept; unset: ~/.cache/transformer/data.")
    max_length: int = option(
        128,
        "Longest sentence of either side in tokens, end included; longer pairs are dropped. A language model's "
        "documents are not: those longer than pack_length are cut.",
        above=0,
    )
    max_length_ratio: float = option(
        0.0, "Drop pairs whose sides differ by more than this factor in words, 1 or more; 0: keep.", at_least=0
    )
    deduplicate: bool = option(
        False, "Drop training pairs, or documents of less than a million characters, seen before."
    )
    batching: str = option(
        "buckets",
        "buckets: rows of similar length, a few shapes; packing: several examples a row, one shape, with segments. "
        "A language model's documents are always packed.",
        ("buckets", "packing"),
    )
    batch_tokens: int = option(
        4096, "Tokens a side in a batch, padding included; the rows follow from the length.", above=0
    )
    num_buckets: int = option(6, "Batch shapes used by length buckets (each is compiled once).", above=0)
    pack_length: int = option(256, "Length of a packed row: how far a language model looks back at most.", above=0)
    rows_multiple_of: int = option(
        8,
        "Rows of every batch are a multiple of this, so that data * fsdp devices * training.accumulate may divide it.",
        above=0,
    )
    lengths_multiple_of: int = option(
        1, "Lengths of every batch are a multiple of this, so that mesh.sequence devices may divide it.", above=0
    )
    workers: int = option(0, "Threads that tokenise; 0: one a core, at most 8.", at_least=0)
    read_ahead: int = option(8, "Batches made ahead of the step.", above=0)


@dataclasses.dataclass
class TokenizerConfig:
    """Text <-> pieces. Trained on the training text unless a model file is given.

    SentencePiece (bpe, unigram) trained for a language model keeps every space and line end, and with byte_fallback
    every character but U+2581, which becomes a space. Trained for translation it normalises text.
    """

    model: str | None = option(
        None, "A SentencePiece .model, or another run's tokenizer file, for both sides (or the source, see below)."
    )
    target_model: str | None = option(None, "A second such file for the target side; makes the vocabularies separate.")
    algorithm: str = option(
        "bpe",
        "How pieces are found when no file is given: bpe and unigram by SentencePiece; characters: all those of the "
        "training text; bytes: the 256 of UTF-8.",
        ("bpe", "unigram", "characters", "bytes"),
    )
    vocab_size: int = option(
        8000,
        "Pieces of bpe and unigram, a side when the vocabularies are separate; unused when a model is given.",
        above=0,
    )
    size_multiple_of: int = option(
        1,
        "Pieces of characters and bytes are filled up to a multiple of this, so that mesh.tensor may divide.",
        above=0,
    )
    shared: bool = option(True, "One vocabulary for both languages (section 5.1) when a model is trained.")
    sample_lines: int = option(
        2_000_000, "Lines a side that SentencePiece is trained on, drawn evenly; 0: all.", at_least=0
    )
    character_coverage: float = option(
        0.9999, "Share of characters that get a piece; 0.9995 for Chinese, Japanese.", at_least=0.98, at_most=1
    )
    byte_fallback: bool = option(False, "Spell unknown characters in bytes (256 pieces) rather than lose them.")

    @property
    def shares_vocabulary(self) -> bool:
        """Whether both sides have one vocabulary, trained or given."""
        return self.shared if self.model is None else self.target_model is None

    @property
    def known_size(self) -> int | None:
        """Pieces of a vocabulary, where they follow from the config alone; None: from a file or from the text."""
        if self.model is not None or self.algorithm == "characters":
            return None
        if self.algorithm == "bytes":
            return -(-(SPECIAL_PIECES + 256) // self.size_multiple_of) * self.size_multiple_of
        return self.vocab_size


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
    accumulate: int | None = option(
        None,
        "Parts a batch is taken in, one after the other, for less memory; gradients are weighted by tokens; unset: 1, "
        "but on a CPU, in one process without fsdp, so many that its cores' caches hold a part.",
        above=0,
    )
    ema_decay: float = option(
        0.0, "Keep an exponential moving average of the parameters and decode with it; 0: no.", at_least=0, below=1
    )
    non_finite: str = option(
        "stop",
        "On a loss or gradient that is not finite: stop, or skip that step (20 in a row stop all the same).",
        ("stop", "skip"),
    )
    log_every: int = option(
        100, "Steps between lines of metrics.jsonl; each is the mean since the one before.", above=0
    )
    loss_chunk_mb: int = option(64, "Logits held at once in the loss, in MiB; the rest is never materialised.", above=0)
    profile_steps: int = option(
        0, "Steps of profiler trace taken after warm-up, written to WORKDIR/profile.", at_least=0
    )

    @property
    def parts(self) -> int:
        """Parts a batch must be divisible into: those asked for."""
        return self.accumulate or 1


@dataclasses.dataclass
class EvaluationConfig:
    """What is measured during training and decides which checkpoint is the best."""

    every: int = option(5000, "Steps between validations.", above=0)
    bleu_sentences: int = option(
        500,
        "Validation sentences translated each time, evenly spaced; 0: validation loss only, -1: all.",
        at_least=-1,
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
        0.6, "alpha: how much length is favoured; 0: not at all. gnmt's 0.6 is the paper's.", at_least=0
    )
    length_penalty_form: str = option(
        "gnmt",
        "What log-probabilities are divided by: gnmt: ((5 + length) / 6)^alpha (Wu et al. 2016, eq. 14), the paper's; "
        "power: length^alpha, as in fairseq and CTranslate2, where 0.5 is about as much as gnmt's 0.6.",
        ("gnmt", "power"),
    )
    extra_length: int = option(50, "Longest output: this many tokens more than the input.", above=0)
    batch_size: int = option(64, "Sentences translated together; a CPU may do three such groups at a time.", above=0)
    precision: str = option(
        "model",
        "Of products: float32, bfloat16 or int8 (weights and what they multiply in whole numbers up to 127). On "
        "a CPU with AVX-512 bfloat16 is faster than float32, but not in greedy search of one sentence; int8 is faster "
        "for wide models only, most with jax 0.12. One without instructions for bfloat16 takes float32 for it. "
        "model: model.dtype.",
        ("model", "float32", "bfloat16", "int8"),
    )


@dataclasses.dataclass
class TransferConfig:
    """What a run takes over from another one, and which of its parameters train.

    Parameters are named by patterns: one or more parts of a name such as decoder/layers/self_attention/query, wherever
    they stand in it, with * for any letters of a part; all below them is meant too. Layers count from 0:
        *_attention              every attention
        encoder:0-3              layers 0 to 3 of the encoder; encoder:3 that layer, encoder:3- all from it on
        decoder/layers/*/query   the query projections of the decoder's attentions
    """

    init_from: str | None = option(
        None,
        "A work directory whose parameters and vocabulary this run starts with. Read before the first step, not when "
        "the run is resumed.",
    )
    init_checkpoint: str = option(
        "auto",
        "Which of its checkpoints: auto (the average when there is one, else the best, else the last), average, best, "
        "last, or a step.",
    )
    init_only: tuple[str, ...] = option(
        (), "The parameters taken over, by pattern; the others are initialised, what else is there is left. None: all."
    )
    init_fresh: tuple[str, ...] = option(
        (), "Parameters initialised although others are taken over: those that are not there or have other shapes."
    )
    init_rename: tuple[str, ...] = option(
        (),
        "Other names there, as NEW=OLD of two patterns: encoder*=decoder* makes an encoder of a decoder. The first one "
        "that fits a name counts.",
    )
    vocabulary: str = option(
        "same",
        "same: that of init_from; new: the one config.tokenizer describes, whose pieces keep their embeddings where "
        "init_from has them too.",
        ("same", "new"),
    )
    new_pieces: str = option(
        "parts",
        "Embeddings of pieces that init_from does not have. parts: the mean over the pieces it writes them with "
        "(Gee et al. 2022); fresh: as in a new model.",
        ("parts", "fresh"),
    )
    train_only: tuple[str, ...] = option((), "The parameters that train, by pattern; none named: all.")
    freeze: tuple[str, ...] = option((), "Parameters that do not train, by pattern.")
    lora_rank: int = option(
        0,
        "Rank of a product A B that trains in the place of a matrix W, which becomes W + alpha / rank * A B (Hu et al. "
        "2021); beside it only what train_only names trains. 0: no.",
        at_least=0,
    )
    lora_alpha: float = option(16.0, "See lora_rank.", above=0)
    lora_targets: tuple[str, ...] = option(
        ("query", "value"),
        "The matrices it is added to, by pattern: of query, key, value, output, inner, gate and outer in the layers.",
    )

    @property
    def trains_all(self) -> bool:
        """Whether all of the model's parameters train, and nothing else does."""
        return not (self.train_only or self.freeze or self.lora_rank)


@dataclasses.dataclass
class MeshConfig:
    """How devices are arranged. One of the sizes may be -1: what the others leave."""

    slices: int = option(
        1, "Slices of a TPU pod, or groups of machines with a slow network between; batches are split."
    )
    data: int = option(-1, "Devices over which batches are split; parameters are copied.")
    fsdp: int = option(1, "Devices over which batches, parameters and optimizer state are split.")
    sequence: int = option(1, "Devices over which the positions of every row are split: for long inputs.")
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
    transfer: TransferConfig = section(TransferConfig)
    mesh: MeshConfig = section(MeshConfig)

"""A small language model of your own text, with the settings of today's large ones, on a CPU or a GPU.

    transformer train --config=lm_small --workdir=runs/lm \\
        --config.data.train=text:train.txt --config.data.validation=text:valid.txt

`text:` takes any number of files (also .gz, .xz, names with *); `text:paragraphs:book.txt` and `text:jsonl:*.jsonl.gz`
say what a document is; `tfds_text:c4/en:train` reads a TensorFlow Datasets set that was prepared. Documents are packed,
and attention stays within each. Without flags it trains on the built-in phrasebook's sentences, to be tried at once.

Pre-norm with RMSNorm, rotary positions, SwiGLU, grouped-query attention (8 heads share 4 of keys and values), no
biases, one matrix for input and output: about 11 million parameters, with 4,000 pieces of SentencePiece and bytes, so
that no text is unknown. From megabytes of text on, 8,000 or more are better (--config.tokenizer.vocab_size=8000); the
phrasebook has 5,364. For a corpus of gigabytes see lm_1b.py.

Hardware: two CPU cores: a thousand tokens a second or two. Expected: depends on your text; nothing was measured.
"""

from transformer.config import Config


def get_config() -> Config:
    config = Config()

    data = config.data
    data.train = ("phrasebook_text:train",)
    data.validation = ("phrasebook_text:validation",)
    data.test = ("phrasebook_text:test",)
    data.pack_length = 256
    data.batch_tokens = 4096
    config.tokenizer.vocab_size = 4000
    config.tokenizer.byte_fallback = True

    model = config.model
    model.architecture = "language_model"
    model.d_model = 384
    model.num_heads = 8
    model.num_kv_heads = 4
    model.d_ff = 1024
    model.num_decoder_layers = 6
    model.dropout = 0.1
    model.norm = "pre"
    model.normalization = "rms"
    model.biases = False
    model.positions = "rotary"
    model.activation = "swiglu"
    model.dtype = "bfloat16"

    optimizer = config.optimizer
    optimizer.name = "adamw"
    optimizer.schedule = "cosine"
    optimizer.learning_rate = 1e-3
    optimizer.final_scale = 0.1
    optimizer.warmup_steps = 200
    optimizer.beta2 = 0.95
    optimizer.epsilon = 1e-8
    optimizer.weight_decay = 0.1
    optimizer.clip_norm = 1.0

    config.training.steps = 2000
    config.training.label_smoothing = 0.0
    config.training.loss_chunk_mb = 16
    config.evaluation.every = 500
    config.evaluation.metric = "loss"
    config.checkpoint.every = 500
    return config

"""A language model of 8 billion parameters, in the shape of Llama 3 8B, on a TPU pod.

    transformer train --config=lm_8b --workdir=gs://BUCKET/lm_8b \
        --config.data.train=tfds_text:c4/en:train --config.data.validation=tfds_text:c4/en:validation

As lm_1b.py; input and output have matrices of their own. `transformer plan --config=lm_8b --topology=v5p:8x8x8` says
what a step needs.

Hardware: 256 chips of TPU v5p or more. Expected loss: not measured.
"""

from transformer.config import Config


def get_config() -> Config:
    config = Config()

    data = config.data
    data.train = ("tfds_text:c4/en:train",)
    data.validation = ("tfds_text:c4/en:validation",)
    data.test = ()
    data.pack_length = 8192
    data.batch_tokens = 4194304
    data.rows_multiple_of = 512
    config.tokenizer.vocab_size = 128_256
    config.tokenizer.byte_fallback = True

    model = config.model
    model.architecture = "language_model"
    model.d_model = 4096
    model.num_heads = 32
    model.num_kv_heads = 8
    model.d_ff = 14336
    model.num_decoder_layers = 32
    model.dropout = 0.0
    model.norm = "pre"
    model.normalization = "rms"
    model.biases = False
    model.positions = "rotary"
    model.rotary_base = 500_000.0
    model.activation = "swiglu"
    model.tied_embeddings = "none"
    model.dtype = "bfloat16"
    model.remat = "all"

    config.mesh.fsdp = -1
    config.mesh.data = 1

    optimizer = config.optimizer
    optimizer.name = "adamw"
    optimizer.schedule = "cosine"
    optimizer.learning_rate = 3e-4
    optimizer.final_scale = 0.1
    optimizer.warmup_steps = 2000
    optimizer.beta2 = 0.95
    optimizer.epsilon = 1e-8
    optimizer.weight_decay = 0.1
    optimizer.clip_norm = 1.0

    config.training.steps = 250000
    config.training.label_smoothing = 0.0
    config.evaluation.every = 5000
    config.evaluation.metric = "loss"
    config.checkpoint.every = 1000
    return config

"""A language model of 1.2 billion parameters, in the shape of Llama 3.2 1B, on a TPU pod.

    transformer train --config=lm_1b --workdir=gs://BUCKET/lm_1b \
        --config.data.train=tfds_text:c4/en:train --config.data.validation=tfds_text:c4/en:validation

The text is yours to name: files (`text:jsonl:*.jsonl.gz`) or a prepared TFDS set. A SentencePiece model of 128,256
pieces is trained on a sample of it, or given by --config.tokenizer.model. Never run. By the plan of the compiled
program (`transformer plan --config=lm_1b --topology=v5e:8x8`) a step of 64 chips takes 0.98 s at least, MFU at most
77%, and 4.6 GiB of a chip's 16. With remat=all_but_products it would need 17.2; with loss_chunk_mb=64 it takes 1.24 s:
the gradient of the output table, 1 GB, is read and written once a chunk of the loss.

Hardware: 64 chips of TPU v5e or more. Expected loss: not measured.
"""

from transformer.config import Config


def get_config() -> Config:
    config = Config()

    data = config.data
    data.train = ("tfds_text:c4/en:train",)
    data.validation = ("tfds_text:c4/en:validation",)
    data.test = ()
    data.pack_length = 4096
    data.batch_tokens = 1048576
    data.rows_multiple_of = 256
    config.tokenizer.vocab_size = 128_256
    config.tokenizer.byte_fallback = True

    model = config.model
    model.architecture = "language_model"
    model.d_model = 2048
    model.num_heads = 32
    model.num_kv_heads = 8
    model.d_ff = 8192
    model.num_decoder_layers = 16
    model.dropout = 0.0
    model.norm = "pre"
    model.normalization = "rms"
    model.biases = False
    model.positions = "rotary"
    model.rotary_base = 500_000.0
    model.activation = "swiglu"
    model.tied_embeddings = "all"
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

    config.training.steps = 100000
    config.training.label_smoothing = 0.0
    config.training.loss_chunk_mb = 512
    config.evaluation.every = 5000
    config.evaluation.metric = "loss"
    config.checkpoint.every = 1000
    return config

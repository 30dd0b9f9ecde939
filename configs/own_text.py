"""Your own text in files: a small model for some ten thousand pairs up to a million, on a CPU or a GPU.

    transformer train --config=own_text --workdir=runs/mine \\
        --config.data.train=lines:train.en:train.de \\
        --config.data.validation=lines:valid.en:valid.de \\
        --config.data.test=lines:test.en:test.de

These are also what is read, in the current folder, where a flag is left out. For other languages than English to German
add --config.data.source_language=fr --config.data.target_language=en, for example. The settings are those of
multi30k_en_de.py, which were chosen on 29,000 pairs. With more text give it more steps (--config.training.steps), then
less dropout (--config.model.dropout=0.1), then more width (--config.model.d_model=256 --config.model.d_ff=1024); a
corpus of millions wants wmt14_en_de_base.py.

Hardware: two CPU cores, about an hour. Expected: 29,000 short sentences reached what multi30k_en_de.py says.
"""

from transformer.config import Config


def get_config() -> Config:
    config = Config()

    config.data.train = ("lines:train.en:train.de",)
    config.data.validation = ("lines:valid.en:valid.de",)
    config.data.test = ("lines:test.en:test.de",)

    model = config.model
    model.d_model = 128
    model.num_heads = 4
    model.d_ff = 256
    model.num_encoder_layers = 4
    model.num_decoder_layers = 4
    model.norm = "pre"
    model.dropout = 0.3
    model.dtype = "bfloat16"
    model.unroll = 4

    config.data.max_length = 128
    config.data.batch_tokens = 4096
    config.data.num_buckets = 8
    config.tokenizer.vocab_size = 10_000

    optimizer = config.optimizer
    optimizer.schedule = "cosine"
    optimizer.learning_rate = 0.003
    optimizer.warmup_steps = 400
    optimizer.clip_norm = 1.0

    config.training.steps = 5000
    config.training.loss_chunk_mb = 16
    config.evaluation.every = 500
    config.checkpoint.every = 100
    config.checkpoint.keep_last = 5
    config.checkpoint.average = 5
    config.decoding.beam_size = 5
    return config

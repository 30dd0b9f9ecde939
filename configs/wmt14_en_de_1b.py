"""WMT 2014 English-German with an encoder-decoder of a billion parameters: sizes to begin from, for larger corpora.

NOT of the paper: 8 + 8 layers, d_model 2048, pre-norm, batches of 1,048,576 tokens a side. WMT's 4.5 M pairs are few
for this model, which overfits them: name larger corpora in `data.train` (or keep the dropout and stop early).

Hardware: v5p:4x4x4, 64 chips, parameters copied to each; nobody has run it. By the plan (docs/plans.md) a step there
takes 273 ms at least, the run 97 chip-hours, MFU is 81% at most, and a chip holds 36 GiB. On chips of less memory:
`--config.mesh.fsdp=16`. Expected on newstest2014: nothing was measured or published for this model and text; the
paper's big model scores 27.0 to 27.7 by sacreBLEU.
"""

from transformer.config import Config


def get_config() -> Config:
    config = Config()

    model = config.model
    model.d_model = 2048
    model.num_heads = 16  # of 128, the width of a TPU's unit of products
    model.d_ff = 8192
    model.num_encoder_layers = 8
    model.num_decoder_layers = 8
    model.dropout = 0.1
    model.norm = "pre"
    model.dtype = "bfloat16"
    model.remat = "all_but_products"

    data = config.data
    data.train = ("tfds:wmt14_translate/de-en:train",)
    data.validation = ("tfds:wmt14_translate/de-en:validation",)  # newstest2013
    data.test = ("tfds:wmt14_translate/de-en:test",)  # newstest2014
    data.source_language = "en"
    data.target_language = "de"
    data.max_length = 256
    # 4,096 rows, 64 a chip of 64.
    data.batching = "packing"
    data.pack_length = 256
    data.batch_tokens = 1_048_576
    data.rows_multiple_of = 64
    config.tokenizer.vocab_size = 32_768

    optimizer = config.optimizer
    optimizer.name = "adamw"
    optimizer.weight_decay = 0.1
    optimizer.clip_norm = 1.0
    optimizer.schedule = "cosine"
    optimizer.learning_rate = 5e-4
    optimizer.warmup_steps = 2000
    optimizer.final_scale = 0.1
    config.training.label_smoothing = 0.1
    config.training.steps = 20_000
    config.training.loss_chunk_mb = 512  # the output table's gradient is added up once a chunk

    config.checkpoint.every = 500
    config.evaluation.every = 1000
    config.checkpoint.keep_last = 5
    config.decoding.beam_size = 4
    config.decoding.length_penalty = 0.6
    config.decoding.extra_length = 50
    return config

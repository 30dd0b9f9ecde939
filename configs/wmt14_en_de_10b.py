"""WMT 2014 English-German with an encoder-decoder of ten billion parameters: sizes to begin from, for larger corpora.

NOT of the paper: 21 + 21 layers, d_model 4096, pre-norm, batches of 1,048,576 tokens a side. WMT's 4.5 M pairs are far
too few for this model: name larger corpora in `data.train`.

Hardware: v5p:4x4x8, 128 chips, over which parameters and optimizer state are split; nobody has run it. By the plan
(docs/plans.md) a step there takes 1.23 s at least, the run 2,190 chip-hours, MFU is 88% at most (72% if no message is
hidden behind other work), and a chip holds 46 GiB. Expected on newstest2014: nothing was measured or published for this
model and text; the paper's big model scores 27.0 to 27.7 by sacreBLEU.
"""

from transformer.config import Config


def get_config() -> Config:
    config = Config()

    model = config.model
    model.d_model = 4096
    model.num_heads = 32  # of 128, the width of a TPU's unit of products
    model.d_ff = 16384
    model.num_encoder_layers = 21
    model.num_decoder_layers = 21
    model.dropout = 0.1
    model.norm = "pre"
    model.dtype = "bfloat16"
    model.remat = "all_but_products"
    config.mesh.data = 1
    config.mesh.fsdp = -1

    data = config.data
    data.train = ("tfds:wmt14_translate/de-en:train",)
    data.validation = ("tfds:wmt14_translate/de-en:validation",)  # newstest2013
    data.test = ("tfds:wmt14_translate/de-en:test",)  # newstest2014
    data.source_language = "en"
    data.target_language = "de"
    data.max_length = 256
    # 4,096 rows, 32 a chip of 128.
    data.batching = "packing"
    data.pack_length = 256
    data.batch_tokens = 1_048_576
    data.rows_multiple_of = 128
    config.tokenizer.vocab_size = 32_768

    optimizer = config.optimizer
    optimizer.name = "adamw"
    optimizer.weight_decay = 0.1
    optimizer.clip_norm = 1.0
    optimizer.schedule = "cosine"
    optimizer.learning_rate = 2e-4
    optimizer.warmup_steps = 2000
    optimizer.final_scale = 0.1
    config.training.label_smoothing = 0.1
    config.training.steps = 50_000
    config.training.loss_chunk_mb = 512  # the output table's gradient is added up once a chunk

    config.checkpoint.every = 500
    config.evaluation.every = 1000
    config.checkpoint.keep_last = 5
    config.decoding.beam_size = 4
    config.decoding.length_penalty = 0.6
    config.decoding.extra_length = 50
    return config

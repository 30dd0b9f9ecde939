"""WMT 2014 English-German, the paper's big model (214 M parameters): 28.4 BLEU in the paper.

The text comes from TensorFlow Datasets, prepared once: see "WMT" in the README.

Hardware: the paper trained 3.5 days on 8 P100 GPUs, 1.0 s a step. This project has not run it to the end, for want of a
TPU or GPU. Expected on newstest2014: 27.0 to 27.7 by sacreBLEU, which is what 28.4 by the paper's tokenised,
compound-split BLEU comes to. Where one device cannot hold it: `--config.mesh.fsdp=8`.
"""

from transformer.config import Config


def get_config() -> Config:
    config = Config()

    # Table 3, row big.
    model = config.model
    model.d_model = 1024
    model.num_heads = 16
    model.d_ff = 4096
    model.num_encoder_layers = 6
    model.num_decoder_layers = 6
    model.dropout = 0.3
    model.dtype = "bfloat16"  # of products only; the paper's GPUs had none, TPUs are made for it

    # Section 5.1: a shared vocabulary of 37,000 pieces, batches of about 25,000 source and 25,000 target tokens.
    data = config.data
    data.train = ("tfds:wmt14_translate/de-en:train",)
    data.validation = ("tfds:wmt14_translate/de-en:validation",)  # newstest2013
    data.test = ("tfds:wmt14_translate/de-en:test",)  # newstest2014
    data.source_language = "en"
    data.target_language = "de"
    data.max_length = 256
    data.batch_tokens = 25_000
    config.tokenizer.vocab_size = 37_000

    # Section 5.3 and 5.4.
    optimizer = config.optimizer
    optimizer.schedule = "paper"
    optimizer.learning_rate = 1.0
    optimizer.warmup_steps = 4000
    config.training.label_smoothing = 0.1
    config.training.steps = 300_000

    # Section 6.1: the last 20 checkpoints, written every 10 minutes (600 steps of 1.0 s), are averaged. Validations
    # write one too, hence a multiple: the last 20 are evenly spaced.
    config.checkpoint.every = 600
    config.evaluation.every = 6000
    config.checkpoint.keep_last = 20
    config.checkpoint.average = 20
    config.decoding.beam_size = 4
    config.decoding.length_penalty = 0.6
    config.decoding.extra_length = 50
    return config

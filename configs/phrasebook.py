"""English-German phrasebook: the built-in corpus, nothing to download. Start here.

Hardware: any CPU. Time: at most 4 minutes of training on two cores. Expected: BLEU of 95 or more on held-out
combinations of phrases (a nearest-neighbour lookup reaches 48).
"""

from transformer.config import Config


def get_config() -> Config:
    config = Config()

    model = config.model
    model.d_model = 128
    model.num_heads = 4
    model.d_ff = 512
    model.num_encoder_layers = 3
    model.num_decoder_layers = 3
    model.dropout = 0.0  # 120,000 pairs, each seen once or not at all: nothing to overfit
    model.dtype = "bfloat16"

    data = config.data
    data.train = ("phrasebook:train",)
    data.validation = ("phrasebook:validation",)
    data.test = ("phrasebook:test",)
    data.max_length = 64
    data.batch_tokens = 4096
    data.num_buckets = 4  # every shape is compiled once: with few steps, few shapes
    config.tokenizer.vocab_size = 2000

    optimizer = config.optimizer
    optimizer.schedule = "cosine"
    optimizer.learning_rate = 3e-3
    optimizer.warmup_steps = 150
    optimizer.clip_norm = 1.0

    config.training.steps = 500
    config.training.log_every = 25
    config.training.loss_chunk_mb = 16  # what a core's cache holds
    config.evaluation.every = 250
    config.evaluation.bleu_sentences = 200
    config.checkpoint.every = 250
    return config

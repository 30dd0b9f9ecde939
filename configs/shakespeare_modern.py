"""Characters of a text file, such as tiny Shakespeare: about the best that ten minutes on two CPU cores give.

    transformer train --config=shakespeare_modern:input.txt --workdir=runs/shakespeare

As shakespeare_char.py, with today's settings in place of nanoGPT's: 6 layers, 192 wide, rotary positions, SwiGLU,
RMSNorm, 256 characters of context in rows of 8, dropout, products in bfloat16: 2.7 million parameters.

Hardware: two CPU cores, shared with other work when this was measured. Expected: validation loss 1.56 nats a character
after 1,500 steps and 10 min 22 s, 1.52 after all 2,000 and 13 min 51 s.
"""

from transformer.config import Config


def get_config(file: str) -> Config:
    """FILE: the text."""
    config = Config()

    data = config.data
    data.train = (f"text:{file}[:90%]",)
    data.validation = (f"text:{file}[90%:]",)
    data.test = ()
    data.pack_length = 256
    data.batch_tokens = 8 * 256
    data.rows_multiple_of = 8
    config.tokenizer.algorithm = "characters"

    model = config.model
    model.architecture = "language_model"
    model.d_model = 192
    model.num_heads = 6
    model.d_ff = 512
    model.num_decoder_layers = 6
    model.dropout = 0.1
    model.norm = "pre"
    model.normalization = "rms"
    model.activation = "swiglu"
    model.biases = False
    model.positions = "rotary"
    model.dtype = "bfloat16"
    model.unroll = 6

    optimizer = config.optimizer
    optimizer.name = "adamw"
    optimizer.schedule = "cosine"
    optimizer.learning_rate = 3e-3
    optimizer.final_scale = 0.05
    optimizer.warmup_steps = 100
    optimizer.beta2 = 0.99
    optimizer.epsilon = 1e-8
    optimizer.weight_decay = 0.1
    optimizer.clip_norm = 1.0

    config.training.steps = 2000
    config.training.label_smoothing = 0.0
    config.evaluation.every = 500
    config.evaluation.metric = "loss"
    config.checkpoint.every = 500
    return config

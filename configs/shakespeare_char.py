"""Characters of a text file, such as tiny Shakespeare, by nanoGPT's recipe for a CPU: one or two minutes.

    transformer train --config=shakespeare_char:input.txt --workdir=runs/shakespeare --cpu_devices=2

The file (1.1 MB; https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt) is not part
of this project. Its first 90% are trained on, the rest is for validation. Shape, batch, steps and
the form of the schedule are those of nanoGPT (4 layers, 4 heads, 128 wide, 64 characters of context, 12 rows a batch,
2,000 steps); the learning rate is three times its 1e-3, and products are in bfloat16.

Hardware: two CPU cores, each a device of its own: the pieces of so small a step are not worth handing from core to
core, and it takes a fifth less so. Expected: validation loss 1.79 nats a character (nanoGPT: 1.89; this with its
learning rate: 1.89). With `--config.model.positions=rotary --config.model.max_length=1024` 600 steps are enough for
nanoGPT's loss, and 2,000 come to 1.65. `python benchmarks/shakespeare.py` measures both loss and time;
shakespeare_modern.py goes further.
"""

from transformer.config import Config


def get_config(file: str) -> Config:
    """FILE: the text."""
    config = Config()

    data = config.data
    data.train = (f"text:{file}[:90%]",)
    data.validation = (f"text:{file}[90%:]",)
    data.test = ()
    data.pack_length = 64
    data.batch_tokens = 12 * 64
    data.rows_multiple_of = 4
    config.tokenizer.algorithm = "characters"

    model = config.model
    model.architecture = "language_model"
    model.d_model = 128
    model.num_heads = 4
    model.d_ff = 512
    model.num_decoder_layers = 4
    model.dropout = 0.0
    model.norm = "pre"
    model.activation = "gelu"
    model.biases = False
    model.positions = "learned"
    model.max_length = 64
    model.dtype = "bfloat16"
    model.unroll = 4

    optimizer = config.optimizer
    optimizer.name = "adamw"
    optimizer.schedule = "cosine"
    optimizer.learning_rate = 3e-3
    optimizer.final_scale = 0.1
    optimizer.warmup_steps = 100
    optimizer.beta2 = 0.99
    optimizer.epsilon = 1e-8
    optimizer.weight_decay = 0.1
    optimizer.clip_norm = 1.0

    config.training.steps = 2000
    config.training.label_smoothing = 0.0
    config.evaluation.every = 1000  # twice all of the held-out text, 290 batches; nanoGPT estimates from 360
    config.evaluation.metric = "loss"
    config.checkpoint.every = 1000
    return config

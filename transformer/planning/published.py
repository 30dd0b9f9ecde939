"""Step times that others have measured and published, beside what the roofline says of the same shapes.

The roofline is a lower bound (see roofline.py): a published time is longer, and how much longer tells what to expect of
a plan. Here nothing is compiled: FLOPs follow from the shapes, memory traffic counts weights and optimizer state only
(activations would add to it), messages the gradients, or with fsdp the weights gathered twice and the gradients
scattered.

Letters: P parameters, n chips, u tokens on a chip, L layers, D width, T length of a row.
"""

import dataclasses

from transformer.config import ModelConfig
from transformer.planning.chips import Chip, chip_of
from transformer.planning.counting import Operation
from transformer.planning.roofline import Roofline, roofline
from transformer.training.flops import BatchCounts, training_flops

# The version with NVLink: float32; four links of 20 GB/s each way.
P100 = Chip(
    name="P100",
    peak_flops=10.6e12,
    hbm_bytes=16 * 2**30,
    hbm_bandwidth=732e9,
    link_bandwidth=20e9,
    dimensions=2,
    full_axis=1,
    dcn_bandwidth=1.25e9,
    source="https://www.microway.com/hpc-tech-tips/nvidia-tesla-p100-nvlink-16gb-gpu-accelerator-pascal-gp100-sxm2-close/",
)


@dataclasses.dataclass(frozen=True)
class Published:
    """A measured step.

    Attributes:
      flops, hbm_bytes, sent: of a chip in a step, from the shapes; `sent` over all its wires.
      seconds: as published.
    """

    name: str
    chip: Chip
    chips: int
    shapes: str
    flops: float
    hbm_bytes: float
    sent: float
    seconds: float
    source: str

    @property
    def predicted(self) -> Roofline:
        return roofline([Operation(1, self.flops, self.hbm_bytes)], self.chip, ici=self.sent / self.chip.ici_bandwidth)


def _paper(name: str, seconds: float, **sizes: int) -> Published:
    """Section 5.1 and 5.2: eight P100, 25,000 tokens a side in sentences of about 25, float32, data parallel."""
    chips, tokens, length, vocabulary = 8, 25_000, 25, 37_000
    model = ModelConfig(**sizes)
    counts = BatchCounts(tokens, tokens, tokens, tokens, tokens * length, tokens * length, tokens * length)
    parameters = decoder_encoder_parameters(model, vocabulary)
    return Published(
        name=f"Transformer {name}, {parameters / 1e6:.0f} M",
        chip=P100,
        chips=chips,
        shapes="25,000 + 25,000 tokens, float32",
        flops=training_flops(model, vocabulary, counts) / chips,
        hbm_bytes=(3 + 7) * 4 * parameters,  # three passes over the weights, then Adam
        sent=2 * 4 * parameters * (chips - 1) / chips,
        seconds=seconds,
        source="Vaswani et al. 2017, section 5.2 (arXiv 1706.03762)",
    )


def decoder_encoder_parameters(model: ModelConfig, vocabulary: int) -> int:
    """Of the paper's matrices; biases and norms are less than a thousandth."""
    width, inner = model.d_model, model.d_ff
    attention, feed_forward = 4 * width * width, 2 * width * inner
    encoder = model.num_encoder_layers * (attention + feed_forward)
    decoder = model.num_decoder_layers * (2 * attention + feed_forward)
    return encoder + decoder + vocabulary * width


def _language_model(
    name: str,
    chip: str,
    chips: int,
    *,
    parameters: float,
    embedding: float,
    layers: int,
    width: int,
    length: int,
    rows: int,
    tokens_per_second: float,
    source: str,
) -> Published:
    """Decoder-only, bfloat16, fsdp over all chips. Attention counts in full, as the source's own figures do."""
    tokens = rows * length
    return Published(
        name=name,
        chip=chip_of(chip),
        chips=chips,
        shapes=f"{rows} x {length:,} tokens a chip, bfloat16",
        flops=tokens * (6 * (parameters - embedding) + 12 * layers * width * length),
        hbm_bytes=3 * 2 * parameters + 7 * 4 * parameters / chips,
        sent=3 * 2 * parameters * (chips - 1) / chips,
        seconds=tokens / tokens_per_second,
        source=source,
    )


_MAXTEXT = "MaxText 0.2.0, docs/reference/models/tiering"

PUBLISHED = (
    _paper("base", 0.4, d_model=512, num_heads=8, d_ff=2048),
    _paper("big", 1.0, d_model=1024, num_heads=16, d_ff=4096),
    _language_model(
        "Llama 3.1 8B",
        "v6e",
        256,
        parameters=8.03e9,
        embedding=128_256 * 4096,
        layers=32,
        width=4096,
        length=8192,
        rows=4,
        tokens_per_second=7207,
        source=f"{_MAXTEXT}: 7,207 tokens/s a chip, MFU 45.46%; rows from benchmarks/maxtext_trillium_model_configs.py",
    ),
    _language_model(
        "Llama 2 70B",
        "v5p",
        512,
        parameters=68.98e9,
        embedding=32_000 * 8192,
        layers=80,
        width=8192,
        length=4096,
        rows=1,
        tokens_per_second=692,
        source=f"{_MAXTEXT}: 692 tokens/s a chip, MFU 65.4%; rows are not given there: time of one row",
    ),
)


def table() -> str:
    """Published beside predicted."""
    head = f"{'model':<26}{'chips':<12}{'published':>11}{'predicted':>11}{'ratio':>7}  {'bound':<8}{'shapes'}"
    lines = [head]
    for each in PUBLISHED:
        times = each.predicted
        lines.append(
            f"{each.name:<26}{f'{each.chips} {each.chip.name}':<12}{each.seconds:>9.3f} s{times.step:>9.3f} s"
            f"{times.step / each.seconds:>7.0%}  {times.bound:<8}{each.shapes}"
        )
    sources = [f"  {each.name}: {each.source}" for each in PUBLISHED]
    note = "Predicted is the roofline's lower bound: the ratio is how much of it was reached."
    return "\n".join([*lines, "", note, *sources]) + "\n"

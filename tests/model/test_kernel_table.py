"""docs/attention.md says what each kernel can do, as the code decides it."""

import dataclasses
from pathlib import Path

import jax.numpy as jnp
from attention_cases import MASKS, SEGMENTED_CAUSAL, places

from transformer.config import ModelConfig
from transformer.config.kernels import FUSED, obstacles
from transformer.model.attention import MultiHeadAttention, scored_as_usual
from transformer.model.kernels import Call, serves
from transformer.model.masks import Causal, Chunk, Given, Mask, Prompt, SameSegment, Window

DOCUMENT = Path(__file__).parents[2] / "docs" / "attention.md"
ROW = places(1, 40)


class Sharper(MultiHeadAttention):
    def scores(self, q_BTNH, places, memory):
        return 2 * super().scores(q_BTNH, places, memory)


def by_call(*masks: Mask, **changes):
    """Of several masks all are served, or none."""
    calls = [dataclasses.replace(Call(mask, ROW, ROW, own=True), **changes) for mask in masks]

    def can(kernel):
        [answer] = {serves(kernel, call) for call in calls}
        return answer

    return can


def by_config(**changes):
    config = ModelConfig(**({"dtype": "bfloat16"} | changes))
    return lambda kernel: not obstacles(kernel, config, "decoder")


PREFIX, GIVEN = SameSegment() & (Causal() | Prompt()), SameSegment() & Given(jnp.ones((1, 1, 40, 40), bool))
EITHER = SameSegment() & (Window(2) | Chunk(4))


class Own(Mask):
    """Of a class that kernels cannot know."""

    def allowed(self, queries, keys):
        return SameSegment().allowed(queries, keys)


OWN = Own()
ROWS = {
    "**mask** `SameSegment()`: packed rows, padding": by_call(MASKS["segments"]),
    "`Padding()`": by_call(MASKS["padding"]),
    "`SameSegment() & Causal()`": by_call(MASKS["causal"]),
    "`SameSegment() & Window(n)`, causal or not": by_call(MASKS["window"], MASKS["causal window"]),
    "`SameSegment() & Chunk(n)`, causal or not": by_call(MASKS["chunk"], MASKS["causal chunk"]),
    "`Causal()`, `Window(n)`, `Chunk(n)` without `SameSegment()`": by_call(Causal(), Window(4), Chunk(4)),
    "`mask=prefix`: `Causal() \\| Prompt()`": lambda kernel: (
        by_call(PREFIX)(kernel) and by_config(mask="prefix")(kernel)
    ),
    "any `a \\| b` of these": by_call(EITHER),
    "any other: `Given(array)`, your own": by_call(GIVEN, OWN),
    "**positions** sinusoidal, learned, none": by_config(positions="learned"),
    "rotary": by_config(positions="rotary"),
    "t5, shaw, alibi: they change scores": lambda kernel: any(
        by_config(positions=positions)(kernel) for positions in ("t5", "shaw", "alibi")
    ),
    "**scores** of your own attention class": lambda kernel: scored_as_usual(Sharper),
    "soft cap": by_config(logit_soft_cap=30.0),
    "**dropout** on weights (`attention_dropout`)": by_config(attention_dropout=0.1),
    "**heads** that share keys and values (`num_kv_heads`)": by_config(num_kv_heads=1),
    "normalised queries and keys (`qk_norm`)": by_config(qk_norm=True),
    "`d_v` other than `d_k`": by_config(d_v=32),
    "`d_k` that is no multiple of 8": by_config(d_k=20),
    "`d_k` above 128": by_config(d_k=256),
    "**dtype** bfloat16": by_config(dtype="bfloat16"),
    "float32": by_config(dtype="float32"),
    "**decoding** a token at a time": by_call(SEGMENTED_CAUSAL, queries=dataclasses.replace(ROW, contiguous=False)),
}


def table() -> list[str]:
    """Lines of Markdown."""
    kernels = {"xla": lambda can: True} | {kernel: (lambda can, kernel=kernel: can(kernel)) for kernel in FUSED}
    lines = ["| | " + " | ".join(f"`{kernel}`" for kernel in kernels) + " |", "|---" * (1 + len(kernels)) + "|"]
    for name, can in ROWS.items():
        lines.append(f"| {name} | " + " | ".join("yes" if does(can) else "no" for does in kernels.values()) + " |")
    return lines


def test_the_table_is_what_the_code_does():
    assert "\n".join(table()) in DOCUMENT.read_text()


def test_every_role_but_the_decoders_is_at_least_as_free():
    """The table is of a decoder's self-attention."""
    for changes in ({}, {"mask": "prefix"}, {"positions": "alibi"}, {"logit_soft_cap": 1.0}, {"dtype": "float32"}):
        config = ModelConfig(**({"dtype": "bfloat16"} | changes))
        for kernel in FUSED:
            of_decoder = len(obstacles(kernel, config, "decoder"))
            assert all(len(obstacles(kernel, config, role)) <= of_decoder for role in ("encoder", "cross"))

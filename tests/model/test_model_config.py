"""Every field of the model's config is read: changing it changes the parameters' shapes, the output or the program."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_model import batch_of, blueprint_of, examples_of, random_params, relative, tiny

from transformer.config import ModelConfig
from transformer.model import kernels
from transformer.model.attention import MultiHeadAttention
from transformer.model.dropout import DropoutKey

# Learned positions, so that the length of their table counts.
BASE = tiny(positions="learned", dropout=0.1)
BATCH = batch_of([examples_of((3, 4))], source_length=3, target_length=4)
BATCH["target_prompt"] = np.array([[1, 1, 0, 0]], np.int32)


class Sharper(MultiHeadAttention):
    def scores(self, q_BTNH, places, memory):
        return 2 * super().scores(q_BTNH, places, memory)


CHANGES = {
    "architecture": "language_model",
    "num_kv_heads": 1,
    "attention_dropout": 0.2,
    "normalization": "rms",
    "biases": False,
    "qk_norm": True,
    "logit_soft_cap": 1.0,
    "mask": "prefix",
    "attention_window": 2,
    "attention_chunk": 2,
    "rotary_base": 100.0,
    "rotary_scaling": "ntk",
    "rotary_factor": 2.0,
    "t5_buckets": 8,
    "t5_max_distance": 3,
    "shaw_distance": 2,
    "d_model": 20,
    "num_heads": 4,
    "d_k": 5,
    "d_v": 5,
    "d_ff": 28,
    "num_encoder_layers": 3,
    "num_decoder_layers": 3,
    "dropout": 0.2,
    "activation": "gelu",
    "norm": "pre",
    "positions": "sinusoidal",
    "max_length": 17,
    "tied_embeddings": "output",
    "attention": f"{__name__}:Sharper",
    "kernel": "splash",
    "dtype": "bfloat16",
    "remat": "all",
    "unroll": 2,
}

# What else has to be so for a field to matter.
WHERE = {
    "mask": {"architecture": "language_model"},
    "rotary_base": {"positions": "rotary"},
    "rotary_scaling": {"positions": "rotary", "rotary_factor": 2.0},
    "rotary_factor": {"positions": "rotary", "rotary_scaling": "linear"},
    "t5_buckets": {"positions": "t5"},
    "t5_max_distance": {"positions": "t5", "t5_buckets": 4},
    "shaw_distance": {"positions": "shaw"},
    "kernel": {"dtype": "bfloat16"},
}


@functools.cache
def program(**changes):
    blueprint = blueprint_of(dataclasses.replace(BASE, **changes))
    key = DropoutKey.of(0, jnp.int32(0), jnp.arange(1))
    return blueprint, jax.jit(lambda params: blueprint.bind(params)(BATCH, key))


def text(run, params) -> str:
    """The program before XLA sees it: there recomputation still has a name."""
    return str(run.trace(params).jaxpr)


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(ModelConfig)])
def test_field_is_read(field, monkeypatch):
    monkeypatch.setattr(kernels, "on", lambda platform: ("splash",))  # a CPU's has no choice
    assert CHANGES[field] != getattr(BASE, field)
    where = WHERE.get(field, {})
    (before, run_before), (after, run_after) = program(**where), program(**(where | {field: CHANGES[field]}))
    if before.shapes() != after.shapes():
        return
    params = random_params(before)
    if field in ("remat", "unroll", "kernel"):  # test_transformer.py and test_kernels.py: they change the program only
        assert text(run_before, params) != text(run_after, params)
    else:
        assert relative(run_after(params), np.asarray(run_before(params))) > 1e-4


def test_a_field_that_nobody_reads_would_be_noticed():
    blueprint, run = program()
    params = random_params(blueprint)
    assert program(unroll=1)[0].shapes() == blueprint.shapes()
    assert text(program(unroll=1)[1], params) == text(run, params)

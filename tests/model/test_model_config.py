"""Every field of the model's config is read: changing it changes the parameters' shapes, the output or the program."""

import dataclasses
import functools

import jax.numpy as jnp
import numpy as np
import pytest
from tiny_model import batch_of, blueprint_of, examples_of, quick_jit, random_params, relative, tiny

from transformer.config import ModelConfig
from transformer.model.attention import MultiHeadAttention
from transformer.model.dropout import DropoutKey

# Learned positions, so that the length of their table counts.
BASE = tiny(positions="learned", dropout=0.1)
BATCH = batch_of([examples_of((3, 4))], source_length=3, target_length=4)


class Sharper(MultiHeadAttention):
    def scores(self, q_BTNH, positions_BT, memory):
        return 2 * super().scores(q_BTNH, positions_BT, memory)


CHANGES = {
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
    "dtype": "bfloat16",
    "remat": "all",
    "unroll": 2,
}


@functools.cache
def program(**changes):
    blueprint = blueprint_of(dataclasses.replace(BASE, **changes))
    key = DropoutKey.of(0, jnp.int32(0), jnp.arange(1))
    return blueprint, quick_jit(lambda params: blueprint.bind(params)(BATCH, key))


def text(run, params) -> str:
    """The program before XLA sees it: there recomputation still has a name."""
    return str(run.trace(params).jaxpr)


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(ModelConfig)])
def test_field_is_read(field):
    assert CHANGES[field] != getattr(BASE, field)
    (before, run_before), (after, run_after) = program(), program(**{field: CHANGES[field]})
    if before.shapes() != after.shapes():
        return
    params = random_params(before)
    if field in ("remat", "unroll"):  # test_transformer.py shows that they change the program only
        assert text(run_before, params) != text(run_after, params)
    else:
        assert relative(run_after(params), np.asarray(run_before(params))) > 1e-4


def test_a_field_that_nobody_reads_would_be_noticed():
    blueprint, run = program()
    params = random_params(blueprint)
    assert program(unroll=1)[0].shapes() == blueprint.shapes()
    assert text(program(unroll=1)[1], params) == text(run, params)

"""A vocabulary of 128,000 pieces: the logits of a batch are never whole, in training, validation and scoring."""

import dataclasses
import re

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding
from tiny_model import tiny

from transformer import sharding
from transformer.config import Config, MeshConfig
from transformer.evaluation import text_score
from transformer.evaluation.text_score import TextScorer
from transformer.model.blueprint import Blueprint
from transformer.sharding import make_mesh
from transformer.training.step import Trainer

VOCABULARY, ROWS, LENGTH = 128_000, 4, 256
TOKENS = ROWS * LENGTH
MODEL = tiny(architecture="language_model", num_decoder_layers=1)


def batch(mesh, rows=ROWS, length=LENGTH):
    names = ("target_inputs", "targets", "target_segments", "target_positions", "target_prompt")
    where = NamedSharding(mesh, sharding.USED.spec(("batch", "length")))
    return {name: jax.ShapeDtypeStruct((rows, length), np.int32, sharding=where) for name in names}


def most_of_the_vocabulary(compiled) -> int:
    """The most tokens for which an array of the compiled program has an element for each piece; the tables apart."""
    found = [0]
    for shape in re.findall(r"\b(?:f32|bf16|s32|u32|pred)\[([\d,]+)\]", compiled.as_text()):
        sizes = [int(size) for size in shape.split(",")]
        if VOCABULARY in sizes and MODEL.d_model not in sizes:
            found.append(int(np.prod(sizes)) // VOCABULARY)
    return max(found)


@pytest.fixture
def trainer():
    config = Config(model=MODEL)
    config = dataclasses.replace(config, training=dataclasses.replace(config.training, loss_chunk_mb=32))
    return Trainer.of(config, Blueprint.of(MODEL, VOCABULARY, VOCABULARY), make_mesh(MeshConfig(), jax.devices()[:1]))


def test_training_and_validation(trainer):
    state = trainer.abstract_state()
    chunk = 32 * 2**20 // 4 // VOCABULARY
    with jax.set_mesh(trainer.mesh):
        arrays = batch(trainer.mesh)
        programs = [
            trainer.train_step.lower(state, arrays),
            trainer.loss_step.lower(state.params, arrays, trainer.no_loss()),
        ]
    for program in programs:
        assert 0 < most_of_the_vocabulary(program.compile()) <= chunk < TOKENS


def test_scoring():
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    blueprint = Blueprint.of(MODEL, VOCABULARY, VOCABULARY)
    scorer = TextScorer(blueprint, VOCABULARY, 2048, mesh)
    with jax.set_mesh(mesh):
        compiled = scorer.program.lower(blueprint.shapes(), batch(mesh, 1, 2048)).compile()
    assert 0 < most_of_the_vocabulary(compiled) <= text_score.LOGITS // 4 // VOCABULARY < 2048


def test_scores_in_chunks_are_those_at_once(monkeypatch):
    """37 tokens in chunks of 10."""
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    blueprint = Blueprint.of(MODEL, 50, 50)
    params = blueprint.init(0, MODEL, mesh)
    texts = [np.random.default_rng(0).integers(4, 50, 37).tolist()]

    def scores():
        return TextScorer(blueprint, 50, 37, mesh)(params, texts)[0]

    expected = scores()
    monkeypatch.setattr(text_score, "LOGITS", 4 * 50 * 10)
    np.testing.assert_allclose(scores(), expected, rtol=1e-5)

"""Which texts are gone on with together."""

import dataclasses

import jax
import numpy as np
import pytest

from transformer import cores, sharding
from transformer.config import MeshConfig, ModelConfig
from transformer.data.vocabulary import Leading, TextStream
from transformer.decoding.sampling import Sampling
from transformer.evaluation.continuation import Continuation
from transformer.evaluation.rollout import READ_TOGETHER, ROWS, Rollout, _prompts
from transformer.model.blueprint import Blueprint

MESH = sharding.make_mesh(MeshConfig(data=1), jax.devices()[:1])


CONFIG = ModelConfig(architecture="language_model", d_model=4, num_heads=1, d_ff=4, num_decoder_layers=1)


def rollout(config: ModelConfig = CONFIG) -> Rollout:
    return Rollout(Blueprint.of(config, 8, 8), config, 8, MESH)


def text(length: int, seed: int = 0) -> Continuation:
    prompt = np.random.default_rng(seed).integers(4, 8, length).tolist()
    return Continuation(prompt, 0, (), TextStream([b""] * 8, Leading.KEPT))


@pytest.mark.parametrize("length", [10, 500, 1000, 1500, 3000, 10_000])
def test_prompts_read_together_fit(length):
    texts = [text(length, seed) for seed in range(40)]
    groups = list(rollout().groups(texts))
    assert sorted(map(id, texts)) == sorted(id(text) for group in groups for text in group)
    for group in groups:
        rows, columns = _prompts(group, MESH)["tokens"].shape
        assert rows == 1 or rows * columns**2 <= READ_TOGETHER


def test_samples_of_a_long_prompt_stay_together():
    groups = list(rollout().groups([text(3000)] * ROWS[-1]))
    assert [len(group) for group in groups] == [ROWS[-1]]


@pytest.mark.parametrize("instructions", [True, False])
def test_a_cpu_without_instructions_for_bfloat16_goes_on_in_float32(instructions, monkeypatch):
    monkeypatch.setattr(cores, "have_bfloat16", lambda: instructions)
    params = Blueprint.of(CONFIG, 8, 8).init(0, CONFIG, MESH)

    def log_probability(dtype: str) -> float:
        made = rollout(dataclasses.replace(CONFIG, dtype=dtype))
        [going] = texts = [text(5)]
        for _ in made.run(made.prepare(params), texts, 4, Sampling(temperature=0)):
            pass
        return going.result().log_probability

    assert (log_probability("bfloat16") == log_probability("float32")) == (not instructions)

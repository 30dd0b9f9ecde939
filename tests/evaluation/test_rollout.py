"""Which texts are gone on with together."""

import jax
import numpy as np
import pytest

from transformer import sharding
from transformer.config import MeshConfig, ModelConfig
from transformer.data.vocabulary import Leading, TextStream
from transformer.evaluation.continuation import Continuation
from transformer.evaluation.rollout import READ_TOGETHER, ROWS, Rollout, _prompts
from transformer.model.blueprint import Blueprint

MESH = sharding.make_mesh(MeshConfig(data=1), jax.devices()[:1])


def rollout() -> Rollout:
    config = ModelConfig(architecture="language_model", d_model=4, num_heads=1, d_ff=4, num_decoder_layers=1)
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

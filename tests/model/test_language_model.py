"""The language model: what a token sees, packed rows, and decoding with a cache from prompts of several lengths.

Letters: B rows, P prompt length, T generated tokens, K slots, V vocabulary.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_model import VARIANTS, VOCABULARY, blueprint_of, random_params, relative, tiny

from transformer.model.blueprint import Blueprint

LM_VARIANTS = VARIANTS | {
    "prefix": {"mask": "prefix", "positions": "rotary"},
    "prefix_window": {"mask": "prefix", "positions": "alibi", "attention_window": 3},
    "chunks": {"attention_chunk": 4, "positions": "t5", "t5_buckets": 4, "t5_max_distance": 6},
}
PROMPTS, SLOTS, STEPS = (5, 1, 3), 2, 4


def language_model(**changes) -> Blueprint:
    return blueprint_of(tiny(**({"architecture": "language_model", "norm": "post"} | changes)))


def row(*sizes: int, prompts: tuple[int, ...] = (), length: int = 12, seed: int = 0) -> dict[str, np.ndarray]:
    """A row of documents of these sizes, whose first `prompts` inputs are to be seen whole."""
    rng = np.random.default_rng(seed)
    batch = {"target_inputs": rng.integers(3, VOCABULARY, (1, length), np.int32)}
    batch |= {f"target_{name}": np.zeros((1, length), np.int32) for name in ("segments", "positions", "prompt")}
    start = 0
    for number, size in enumerate(sizes):
        batch["target_segments"][0, start : start + size] = number + 1
        batch["target_positions"][0, start : start + size] = np.arange(size)
        if prompts:
            batch["target_prompt"][0, start : start + prompts[number]] = 1
        start += size
    return batch


@functools.cache
def program(variant: str):
    blueprint = language_model(**LM_VARIANTS[variant])
    params = jax.tree.map(jnp.asarray, random_params(blueprint))
    return jax.jit(lambda batch: blueprint.bind(params)(batch))


@pytest.mark.parametrize("variant", LM_VARIANTS)
def test_packed_equals_unpacked(variant):
    sizes, prompts = (5, 4), (2, 3)
    packed = program(variant)(row(*sizes, prompts=prompts))[0]
    inputs = row(*sizes)["target_inputs"][0]
    start = 0
    for size, prompt in zip(sizes, prompts, strict=True):
        alone = row(size, prompts=(prompt,), seed=1)
        alone["target_inputs"][0, :size] = inputs[start : start + size]
        assert relative(packed[start : start + size], program(variant)(alone)[0, :size]) < 1e-5
        start += size


@pytest.mark.parametrize("variant", LM_VARIANTS)
def test_a_token_sees_what_its_mask_allows_and_nothing_else(variant):
    """By gradient: exactly zero where a token must not be seen, not zero where it may."""
    config = LM_VARIANTS[variant]
    blueprint, prompt, size = language_model(**config), 3, 8
    params = jax.tree.map(jnp.asarray, random_params(blueprint))
    batch = row(size, prompts=(prompt,))

    def outputs(x_BTD):
        bound = blueprint.bind(params)
        bound.embed_target = lambda tokens, places, key: x_BTD
        return bound(batch)[0, :size]

    x_BTD = jnp.asarray(np.random.default_rng(2).standard_normal((1, 12, 16), np.float32))
    seen_TS = np.abs(jax.jit(jax.jacobian(outputs))(x_BTD)[:, :, 0, :size]).sum(axis=(1, 3)) > 0
    query, key = np.mgrid[:size, :size]
    allowed_TS = key <= query
    if config.get("mask") == "prefix":
        allowed_TS |= key < prompt
    allowed_TS &= abs(query - key) < config.get("attention_window", size)
    chunk = config.get("attention_chunk", size)
    allowed_TS &= query // chunk == key // chunk
    # Through two layers a query sees what those see that it sees.
    np.testing.assert_array_equal(seen_TS, allowed_TS @ allowed_TS)


@pytest.mark.parametrize("variant", LM_VARIANTS)
def test_decoding_from_a_prompt_equals_the_whole_pass(variant):
    config = LM_VARIANTS[variant]
    blueprint = language_model(**config)
    params = jax.tree.map(jnp.asarray, random_params(blueprint))
    rng = np.random.default_rng(3)
    prompts = [rng.integers(3, VOCABULARY, size) for size in PROMPTS]
    tokens_TBK = rng.integers(3, VOCABULARY, (STEPS, len(PROMPTS), SLOTS), np.int32)
    tokens_TBK[0] = np.array([prompt[-1] for prompt in prompts])[:, None]

    prompt_BP, segments_BP = np.zeros((2, len(PROMPTS), max(PROMPTS)), np.int32)
    for b, prompt in enumerate(prompts):
        prompt_BP[b, : len(prompt) - 1] = prompt[:-1]
        segments_BP[b, : len(prompt) - 1] = 1

    def cached(params):
        model = blueprint.bind(params)
        step, cache = model.start_decoding(jnp.asarray(prompt_BP), jnp.asarray(segments_BP), SLOTS, STEPS)
        slots_BKT = jnp.broadcast_to(jnp.arange(SLOTS)[None, :, None], (len(PROMPTS), SLOTS, STEPS))
        logits = []
        for t in range(STEPS):
            logits_BKV, cache = step(tokens_TBK[t], jnp.int32(t), slots_BKT, cache)
            logits.append(logits_BKV)
        return jnp.stack(logits)

    def whole(params, batch):
        model = blueprint.bind(params)
        return jnp.einsum("BTD,VD->BTV", model(batch), model.output_table())

    ours_TBKV = jax.jit(cached)(params)
    whole = jax.jit(whole)
    for b, prompt in enumerate(prompts):
        for k in range(SLOTS):
            text = np.concatenate([prompt[:-1], tokens_TBK[:, b, k]])
            batch = row(len(text), prompts=(len(prompt) - 1,))
            batch["target_inputs"][0, : len(text)] = text
            expected_TV = whole(params, batch)[0, len(prompt) - 1 : len(text)]
            assert relative(ours_TBKV[:, b, k], expected_TV) < 1e-5


def test_attention_weights_are_shares():
    blueprint = language_model()
    params = random_params(blueprint)
    weights_LBNTT = jax.jit(lambda params: blueprint.bind(params).attention_weights(row(7, 5)))(params)
    assert weights_LBNTT.shape == (2, 1, 2, 12, 12)
    np.testing.assert_allclose(weights_LBNTT.sum(axis=-1), 1, atol=1e-5)
    assert not np.triu(np.asarray(weights_LBNTT), 1).any()


def test_its_parameters_are_a_decoders():
    """So that one can start from the other: a language model has no more names than an encoder-decoder."""
    own, whole = language_model().shapes(), blueprint_of(tiny()).shapes()
    assert own["target_embedding"] == whole["target_embedding"]
    layers = own["decoder"]["layers"]
    assert layers == {name: part for name, part in whole["decoder"]["layers"].items() if "cross" not in name}

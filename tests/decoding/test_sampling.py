"""What is drawn: each filter against plain numpy, and what a row's draw depends on."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from transformer.decoding.sampling import Sampling, draw, filtered, keep_top_k, log_probabilities

ROWS, VOCABULARY = 5, 30
LOGITS = np.random.default_rng(0).normal(0, 2, (ROWS, VOCABULARY)).astype(np.float32)
SEEN = np.random.default_rng(1).random((ROWS, VOCABULARY)) < 0.3


def plain(logits: np.ndarray, seen: np.ndarray, settings: Sampling) -> np.ndarray:
    """Probabilities of one row, a token at a time."""
    logits = logits.astype(np.float64).copy()
    for token in np.flatnonzero(seen):
        penalty = settings.repetition_penalty
        logits[token] *= 1 / penalty if logits[token] > 0 else penalty
    logits /= settings.temperature
    order = np.argsort(-logits)
    if settings.top_k:
        order = order[: settings.top_k]
    weights = np.exp(logits[order] - logits.max())
    weights /= weights.sum()
    kept, total = [], 0.0
    for token, weight in zip(order, weights, strict=True):
        if total >= settings.top_p:
            break
        kept.append(token)
        total += weight
    kept = [token for token in kept if np.exp(logits[token] - logits.max()) >= settings.min_p]
    probabilities = np.zeros(len(logits))
    probabilities[kept] = np.exp(logits[kept] - logits.max())
    return probabilities / probabilities.sum()


@pytest.mark.parametrize(
    "settings",
    [
        Sampling(),
        Sampling(temperature=0.5),
        Sampling(top_k=4),
        Sampling(top_k=1000),
        Sampling(top_p=0.7),
        Sampling(top_p=0.01),
        Sampling(min_p=0.2),
        Sampling(repetition_penalty=1.5),
        Sampling(temperature=1.7, top_k=12, top_p=0.9, min_p=0.05, repetition_penalty=0.8),
    ],
    ids=str,
)
def test_filters_are_those_of_plain_numpy(settings):
    ours = jax.nn.softmax(filtered(jnp.asarray(LOGITS), jnp.asarray(SEEN), settings.values()), axis=-1)
    expected = np.stack([plain(*row, settings) for row in zip(LOGITS, SEEN, strict=True)])
    np.testing.assert_allclose(ours, expected, atol=1e-6)


def test_log_probabilities_are_of_the_softmax_for_any_shape_of_tokens():
    tokens = np.random.default_rng(2).integers(0, VOCABULARY, (2, ROWS))
    logits = np.stack([LOGITS, -LOGITS])
    logits[0, 0, 0] = -np.inf  # of another token, which cannot be drawn
    tokens[0, 0] = 1
    ours = log_probabilities(jnp.asarray(logits), jnp.asarray(tokens))
    softmax = np.exp(logits) / np.sum(np.exp(logits), axis=-1, keepdims=True)
    expected = np.log(np.take_along_axis(softmax, tokens[..., None], axis=-1)[..., 0])
    np.testing.assert_allclose(ours, expected, rtol=1e-5)


def test_draws_follow_the_distribution():
    many = 4000
    settings = Sampling(temperature=0.8, top_k=8)
    logits, seen = (jnp.broadcast_to(jnp.asarray(array[:1]), (many, VOCABULARY)) for array in (LOGITS, SEEN))
    tokens = draw(logits, seen, jnp.arange(many, dtype=jnp.uint32), jnp.int32(3), settings.values())
    shares = np.bincount(tokens, minlength=VOCABULARY) / many
    expected = plain(LOGITS[0], SEEN[0], settings)
    assert not shares[expected == 0].any()
    # Six standard deviations.
    assert np.all(np.abs(shares - expected) <= 6 * np.sqrt(expected * (1 - expected) / many) + 1e-9)


def test_a_row_draws_the_same_in_any_company():
    seeds = jnp.arange(ROWS, dtype=jnp.uint32)
    whole = draw(jnp.asarray(LOGITS), jnp.asarray(SEEN), seeds, jnp.int32(2), Sampling().values())
    for row in range(ROWS):
        one = slice(row, row + 1)
        alone = draw(jnp.asarray(LOGITS[one]), jnp.asarray(SEEN[one]), seeds[one], jnp.int32(2), Sampling().values())
        assert alone[0] == whole[row]


def test_places_and_seeds_draw_differently():
    logits = jnp.zeros((1, 1000))
    seen = jnp.zeros((1, 1000), bool)
    found = {
        int(draw(logits, seen, jnp.array([seed], jnp.uint32), jnp.int32(place), Sampling().values())[0])
        for seed in range(4)
        for place in range(4)
    }
    assert len(found) > 12


def test_the_lowest_temperature_is_as_good_as_greedy():
    settings = Sampling(temperature=1e-6, top_k=3, top_p=0.9, min_p=0.1)
    tokens = draw(jnp.asarray(LOGITS), None, jnp.arange(ROWS, dtype=jnp.uint32), jnp.int32(0), settings.values())
    np.testing.assert_array_equal(tokens, LOGITS.argmax(axis=1))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 1e-6},
        {"temperature": 1e6},
        {"top_k": 2**24},
        {"top_p": 1e-6},
        {"min_p": 5e-324},
        {"repetition_penalty": 1e-3},
        {"repetition_penalty": 1e3},
        {"temperature": 1e-6, "top_k": 1, "top_p": 1e-6, "min_p": 0.999, "repetition_penalty": 1e3},
        {"temperature": 1e6, "top_k": 2**24, "top_p": 0.999, "min_p": 1e-45, "repetition_penalty": 1e-3},
    ],
    ids=str,
)
def test_what_cannot_be_is_not_drawn_at_the_ends_of_the_ranges(settings):
    """As padding: its logit is -inf."""
    values = Sampling(**settings).values()
    logits = np.concatenate([np.full((ROWS, 2), -np.inf, np.float32), 30 * LOGITS], axis=1)
    seen = np.concatenate([np.ones((ROWS, 2), bool), SEEN], axis=1)
    for position in range(20):
        tokens = draw(
            jnp.asarray(logits), jnp.asarray(seen), jnp.arange(ROWS, dtype=jnp.uint32), jnp.int32(position), values
        )
        assert np.all(np.asarray(tokens) >= 2)


def test_both_zeros_are_equal():
    kept = keep_top_k(jnp.array([[0.0, -0.0, 1.0, -1.0]]), 2)
    np.testing.assert_array_equal(kept, [[0.0, 0.0, 1.0, -np.inf]])


def test_temperature_0_is_the_most_probable_token():
    settings = Sampling(temperature=0, top_k=3, top_p=0.2)
    tokens = draw(jnp.asarray(LOGITS), jnp.asarray(SEEN), jnp.zeros(ROWS, jnp.uint32), jnp.int32(0), settings.values())
    np.testing.assert_array_equal(tokens, LOGITS.argmax(axis=1))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"temperature": -1}, "temperature = -1: must be 0"),
        ({"temperature": math.inf}, "temperature = inf"),
        ({"temperature": 1e-40}, "temperature = 1e-40: must be 0 .greedy., or from 1e-6 to 1e6"),
        ({"temperature": 1e39}, "temperature = 1e.39: must be 0"),
        ({"temperature": math.nan}, "temperature = nan"),
        ({"top_k": -1}, "top_k = -1"),
        ({"top_k": 10**39}, "top_k = 10*: must be from 0 .all tokens. to 16777216"),
        ({"top_p": 0}, "top_p = 0: must be from 1e-6 to 1 "),
        ({"top_p": 1e-39}, "top_p = 1e-39"),
        ({"top_p": 1.5}, "top_p = 1.5"),
        ({"min_p": 1}, "min_p = 1"),
        ({"repetition_penalty": 0}, "repetition_penalty = 0: must be from 0.001 to 1000"),
        ({"repetition_penalty": 1e-40}, "repetition_penalty = 1e-40"),
        ({"repetition_penalty": 1e39}, "repetition_penalty = 1e.39"),
        ({"repetition_penalty": math.inf}, "repetition_penalty = inf"),
    ],
)
def test_values_out_of_range_are_named(wrong, told):
    with pytest.raises(ValueError, match=told):
        Sampling(**wrong)

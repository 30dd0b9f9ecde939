"""Rotary, T5's buckets, Shaw's vectors and ALiBi against what their papers say, computed one pair at a time.

Letters: B batch, T query length, S key length, N heads, H head size.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from tiny_model import relative, tiny

from transformer.model.relative_positions import relative_positions

HEADS, SIZE, LENGTH = 3, 8, 7
DISTANCES_TS = np.arange(LENGTH)[None, :] - np.arange(LENGTH)[:, None]


def made(kind: str, role: str = "encoder", **changes):
    config = tiny(**({"d_model": HEADS * SIZE, "num_heads": HEADS, "positions": kind} | changes))
    return relative_positions(config, role, rngs=nnx.Rngs(params=1))


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def scores_of(module, q_BTNH: np.ndarray) -> np.ndarray:
    zeros_BNTS = np.zeros((len(q_BTNH), HEADS, LENGTH, LENGTH), np.float32)
    return np.asarray(jax.jit(module.scores)(zeros_BNTS, q_BTNH, DISTANCES_TS[None]))


# --- rotary ---


def rotary_scores(module, start: int) -> np.ndarray:
    """Of queries and keys that stand at `start` and after."""
    places = jnp.arange(LENGTH)[None] + start
    q_BTNH, k_BSNH = (module.rotate(jnp.asarray(normal(1, LENGTH, HEADS, SIZE, seed=seed)), places) for seed in (0, 1))
    return np.einsum("BTNH,BSNH->BNTS", q_BTNH, k_BSNH)


@pytest.mark.parametrize("scaling", ["none", "linear", "ntk"])
def test_rotary_scores_depend_on_distances_only(scaling):
    module = made("rotary", rotary_scaling=scaling, rotary_factor=4.0 if scaling != "none" else 1.0)
    here = rotary_scores(module, 0)
    assert relative(rotary_scores(module, 100), here) < 1e-4
    # And they do depend on those: the same vectors without distances score otherwise.
    still = np.einsum("BTNH,BSNH->BNTS", normal(1, LENGTH, HEADS, SIZE), normal(1, LENGTH, HEADS, SIZE, seed=1))
    assert relative(here, still) > 0.1


def test_rotary_turns_pairs_as_complex_numbers():
    """Feature i and i + H/2 are the parts of a number, which is multiplied by exp(i m theta) (Su et al., 3.2.2)."""
    x_BTNH, places = normal(1, 3, HEADS, SIZE), np.array([[0, 1, 50]])
    numbers = x_BTNH[..., : SIZE // 2] + 1j * x_BTNH[..., SIZE // 2 :]
    theta = np.array([10000 ** (-2 * i / SIZE) for i in range(SIZE // 2)])
    turned = numbers * np.exp(1j * places[:, :, None, None] * theta)
    found = made("rotary").rotate(jnp.asarray(x_BTNH), jnp.asarray(places))
    assert relative(found, np.concatenate([turned.real, turned.imag], axis=-1)) < 1e-5


def test_rotary_scaling_reaches_further():
    """Both bring the slowest angle at 4 times the length to where it was; ntk leaves the fastest alone."""
    plain, linear, ntk = (
        np.array(made("rotary", rotary_scaling=kind, rotary_factor=factor).rates)
        for kind, factor in (("none", 1.0), ("linear", 4.0), ("ntk", 4.0))
    )
    np.testing.assert_allclose(linear, plain / 4)
    np.testing.assert_allclose(ntk[[0, -1]], [plain[0], plain[-1] / 4])


# --- biases ---


def t5_bucket(distance: int, causal: bool, buckets: int, farthest: int) -> int:
    """Raffel et al. 2020, section 2.1, for one distance: half of the buckets exact, the others by logarithm."""
    if causal:
        offset, back = 0, max(-distance, 0)
    else:
        buckets //= 2
        offset, back = (buckets if distance > 0 else 0), abs(distance)
    exact = buckets // 2
    if back < exact:
        return offset + back
    share = math.log(back / exact) / math.log(farthest / exact)
    return offset + min(exact + int(share * (buckets - exact)), buckets - 1)


@pytest.mark.parametrize("role", ["encoder", "decoder"])
def test_t5_adds_the_number_of_the_bucket(role):
    module = made("t5", role, t5_buckets=8, t5_max_distance=6)
    table = np.asarray(module.table[...])
    expected = np.array(
        [
            [[table[t5_bucket(s - t, role == "decoder", 8, 6), n] for s in range(LENGTH)] for t in range(LENGTH)]
            for n in range(HEADS)
        ]
    )
    assert relative(scores_of(module, normal(1, LENGTH, HEADS, SIZE))[0], expected) < 1e-6


def test_alibi_falls_with_distance():
    """Slopes 2^-8/n, 2^-16/n, ... of the nearest power of two n; Press et al. 2022, section 3."""
    slopes = [2.0**-4, 2.0**-8, 2.0**-2]  # two heads', and the first of four heads'
    expected = np.array([[[-slope * abs(s - t) for s in range(LENGTH)] for t in range(LENGTH)] for slope in slopes])
    assert relative(scores_of(made("alibi"), normal(1, LENGTH, HEADS, SIZE))[0], expected) < 1e-6


def test_shaw_adds_vectors_to_keys_and_values():
    """Shaw et al. 2018, equations 3 and 4, a pair at a time."""
    module = made("shaw", shaw_distance=2)
    keys, values = np.asarray(module.key_vectors[...]), np.asarray(module.value_vectors[...])
    q_BTNH = normal(2, LENGTH, HEADS, SIZE)
    weights_BNTS = np.asarray(jax.nn.softmax(normal(2, HEADS, LENGTH, LENGTH, seed=1), axis=-1))
    scores = np.zeros((2, HEADS, LENGTH, LENGTH))
    heads = np.zeros((2, LENGTH, HEADS, SIZE))
    for b, n, t, s in np.ndindex(scores.shape):
        far = min(max(s - t, -2), 2) + 2
        scores[b, n, t, s] = q_BTNH[b, t, n] @ keys[far]
        heads[b, t, n] += weights_BNTS[b, n, t, s] * values[far]
    assert relative(scores_of(module, q_BTNH), scores) < 1e-5
    nothing = np.zeros_like(q_BTNH)
    assert relative(jax.jit(module.values)(nothing, weights_BNTS, DISTANCES_TS[None]), heads) < 1e-5


@pytest.mark.parametrize("kind", ["rotary", "t5", "alibi", "shaw"])
def test_two_texts_have_no_distance(kind):
    module, q_BTNH = made(kind, "cross"), normal(1, LENGTH, HEADS, SIZE)
    assert not module.touches_scores
    np.testing.assert_array_equal(module.rotate(q_BTNH, np.arange(LENGTH)[None]), q_BTNH)

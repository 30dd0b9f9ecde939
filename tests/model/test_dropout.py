"""The masks are as good as random ones, and the same wherever and however they are computed."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_model import batch_of, blueprint_of, examples_of, random_params, relative, tiny

from transformer.model.dropout import DropoutKey, dropout

AXES = {"seed": 2, "step": 4, "layer": 3, "site": 3, "row": 16, "position": 24, "feature": 32}


@pytest.fixture(scope="module", params=[0.1, 0.5])
def masks(request) -> tuple[np.ndarray, float]:
    """Kept or not, bool of the shape of `AXES`, with keys folded as the model folds them; and the rate."""
    *outer, rows, length, width = AXES.values()
    ones_BTD = jnp.ones((rows, length, width))

    def mask(seed, step, layer, site):
        key = DropoutKey.of(seed, step, jnp.arange(rows)).fold(0).fold(layer).fold(site)
        return dropout(ones_BTD, request.param, key) != 0

    numbers = jnp.asarray(list(np.ndindex(*outer)), jnp.uint32)
    kept = jax.jit(jax.vmap(lambda row: mask(row[0], row[1], row[2], row[3])))(numbers)
    return np.asarray(kept).reshape(tuple(AXES.values())), request.param


def deviations(kept: np.ndarray, rate: float, axes: tuple[int, ...]) -> np.ndarray:
    """For each place along `axes`, how many standard deviations the count of kept elements is off."""
    others = tuple(axis for axis in range(kept.ndim) if axis not in axes)
    count = kept.size // np.prod([kept.shape[axis] for axis in axes])
    return (kept.sum(others) - count * (1 - rate)) / np.sqrt(count * rate * (1 - rate))


def test_the_rate_is_right_everywhere(masks):
    kept, rate = masks
    for axis in range(kept.ndim):
        assert np.abs(deviations(kept, rate, (axis,))).max() < 4, list(AXES)[axis]


def test_counts_spread_as_much_as_random_ones(masks):
    """Neither more nor less: a mask that repeats, and one that is too even, are no random masks."""
    kept, rate = masks
    for pair in itertools.combinations(range(kept.ndim), 2):
        squares = deviations(kept, rate, pair) ** 2
        names = [list(AXES)[axis] for axis in pair]
        assert abs(squares.mean() - 1) < 4 * np.sqrt(2 / squares.size), names
        assert squares.max() < 5**2, names


def test_neighbours_are_uncorrelated_in_every_direction(masks):
    """The next feature, the next row, the next step, ..., and the next in several of these at once."""
    kept, rate = masks
    centred = kept.astype(np.float32) - np.float32(1 - rate)
    for direction in itertools.product([0, 1], repeat=kept.ndim):
        if not any(direction):
            continue
        here = centred[tuple(slice(0, size - step) for size, step in zip(kept.shape, direction, strict=True))]
        there = centred[tuple(slice(step, None) for step in direction)]
        correlation = np.vdot(here, there) / here.size / (rate * (1 - rate))
        assert abs(correlation) * np.sqrt(here.size) < 4, direction


# --- what dropout does ---

KEY = DropoutKey.of(7, jnp.int32(3), jnp.arange(8))
X = np.random.default_rng(0).standard_normal((8, 5, 6), np.float32)


def test_the_rest_is_scaled_up():
    dropped = np.asarray(dropout(jnp.asarray(X), 0.25, KEY))
    kept = dropped != 0
    assert 0 < kept.mean() < 1
    np.testing.assert_allclose(dropped[kept], X[kept] / 0.75, rtol=1e-6)


def test_off_without_a_key_or_a_rate():
    x = jnp.asarray(X)
    assert dropout(x, 0.5, None) is x
    assert dropout(x, 0.0, KEY) is x


def test_a_row_has_its_mask_whatever_batch_it_is_in():
    chosen = [np.array(rows) for rows in ([0, 1, 2, 3], [4, 5, 6, 7], [1, 3, 5, 7], [6], [5, 0])]

    @jax.jit
    def masked(x):
        return dropout(x, 0.5, KEY), [dropout(x[rows], 0.5, DropoutKey(KEY.seed, KEY.rows_B[rows])) for rows in chosen]

    whole, parts = masked(X)
    for rows, part in zip(chosen, parts, strict=True):
        np.testing.assert_array_equal(part, whole[rows])


def test_the_gradient_has_the_same_mask():
    weights = jnp.asarray(np.random.default_rng(1).standard_normal(X.shape, np.float32))
    gradient = jax.grad(lambda x: jnp.sum(weights * dropout(x, 0.5, KEY)))(jnp.asarray(X))
    kept = dropout(jnp.ones(X.shape), 0.5, KEY) != 0
    np.testing.assert_array_equal(gradient, jnp.where(kept, weights / 0.5, 0))


def test_bfloat16_stays_bfloat16():
    dropped = dropout(jnp.asarray(X, jnp.bfloat16), 0.5, KEY)
    assert dropped.dtype == jnp.bfloat16
    np.testing.assert_array_equal(dropped != 0, dropout(jnp.asarray(X), 0.5, KEY) != 0)


# --- in the model ---


def test_the_model_drops_with_a_key_only_and_by_row_number():
    examples = examples_of((3, 4), (4, 3), (5, 2))
    batch = batch_of([[one] for one in examples], source_length=5, target_length=4)
    blueprint = blueprint_of(tiny(dropout=0.3))
    params = random_params(blueprint)

    @jax.jit
    def output(params, rows_B):
        key = DropoutKey.of(0, jnp.int32(5), rows_B)
        model = blueprint.bind(params)
        last_two = model({name: rows[1:] for name, rows in batch.items()}, DropoutKey(key.seed, key.rows_B[1:]))
        return model(batch), model(batch, key), last_two

    plain, dropped, last_two = output(params, jnp.asarray([4, 5, 6]))
    _, shifted, _ = output(params, jnp.asarray([5, 6, 7]))
    for row in range(3):
        assert relative(dropped[row], plain[row]) > 0.01
        assert relative(dropped[row], shifted[row]) > 0.01
    assert relative(last_two, dropped[1:]) < 1e-5

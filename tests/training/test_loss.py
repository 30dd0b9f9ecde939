"""The loss is the paper's, in chunks as whole, and its logits are never whole."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_model import equations, relative

from transformer.training.loss import LossSums, smoothed_cross_entropy

# A MiB holds 2 of the 7 positions: 4 rows * 32768 pieces * 4 bytes is half of one. The last chunk is not full.
ROWS, LENGTH, WIDTH, VOCABULARY = 4, 7, 4, 32768
RNG = np.random.default_rng(0)
HIDDEN = jnp.asarray(RNG.standard_normal((ROWS, LENGTH, WIDTH), np.float32))
TABLE = jnp.asarray(RNG.standard_normal((VOCABULARY, WIDTH), np.float32))
TARGETS = np.asarray(RNG.integers(0, VOCABULARY, (ROWS, LENGTH), np.int32))
TARGETS[:, ::3] = np.argmax(HIDDEN @ TABLE.T, axis=-1)[:, ::3]  # some are right
REAL = RNG.random((ROWS, LENGTH)) < 0.7
REAL[:, 2:4] = False  # a chunk of padding alone


def plain(hidden_BTD, table_VD, smoothing) -> LossSums:
    """The definition, by way of the whole distribution."""
    log_p_BTV = jax.nn.log_softmax(jnp.einsum("BTD,VD->BTV", hidden_BTD, table_VD))
    label_BTV = jax.nn.one_hot(TARGETS, VOCABULARY)
    wanted_BTV = (1 - smoothing) * label_BTV + smoothing / VOCABULARY

    def total(values_BT):
        return jnp.sum(jnp.where(REAL, values_BT, 0))

    return LossSums(
        loss=total(-jnp.sum(wanted_BTV * log_p_BTV, -1)),
        nll=total(-jnp.sum(label_BTV * log_p_BTV, -1)),
        correct=total(jnp.argmax(log_p_BTV, -1) == TARGETS),
        tokens=jnp.sum(REAL),
    )


def ours(hidden_BTD, table_VD, smoothing=0.1, chunk_mb=1, dtype="float32") -> LossSums:
    return smoothed_cross_entropy(
        hidden_BTD, table_VD, TARGETS, REAL, smoothing=smoothing, dtype=dtype, chunk_mb=chunk_mb
    )


def with_gradients(function):
    """((loss, sums), gradients of hidden and table), of three times the loss: its scale must come through."""

    def scaled(hidden_BTD, table_VD):
        sums = function(hidden_BTD, table_VD)
        return 3 * sums.loss, sums

    return jax.value_and_grad(scaled, argnums=(0, 1), has_aux=True)


@functools.cache
def expected(smoothing):
    return jax.device_get(jax.jit(with_gradients(lambda h, t: plain(h, t, smoothing)))(HIDDEN, TABLE))


def assert_same(found, expected):
    (loss, sums), gradients = found
    (expected_loss, expected_sums), expected_gradients = expected
    assert float(loss) == pytest.approx(float(expected_loss), rel=1e-5)
    assert float(sums.loss) == pytest.approx(float(expected_sums.loss), rel=1e-5)
    assert float(sums.nll) == pytest.approx(float(expected_sums.nll), rel=1e-5)
    assert (int(sums.correct), int(sums.tokens)) == (int(expected_sums.correct), int(expected_sums.tokens))
    for gradient, wanted in zip(gradients, expected_gradients, strict=True):
        assert relative(gradient, wanted) < 1e-5


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("chunk_mb", [1, 64])
def test_equals_the_definition_in_chunks_and_whole(smoothing, chunk_mb):
    found = jax.jit(with_gradients(lambda h, t: ours(h, t, smoothing, chunk_mb)))(HIDDEN, TABLE)
    assert 0 < int(found[0][1].correct) < int(found[0][1].tokens) < REAL.size
    assert_same(found, expected(smoothing))


def test_without_gradients_the_sums_are_the_same():
    sums = jax.jit(lambda h, t: ours(h, t))(HIDDEN, TABLE)
    (_, with_them), _ = expected(0.1)
    assert float(sums.loss) == pytest.approx(float(with_them.loss), rel=1e-5)
    assert int(sums.correct) == int(with_them.correct)


def test_padding_has_no_gradient():
    gradient = jax.jit(with_gradients(ours))(HIDDEN, TABLE)[1][0]
    assert not np.asarray(gradient)[~REAL].any()
    assert np.asarray(gradient)[REAL].any(axis=-1).all()


def test_huge_logits_stay_finite():
    found = jax.jit(with_gradients(ours))(1e4 * HIDDEN, TABLE)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))


def test_bfloat16_is_near():
    (loss, _), gradients = jax.jit(with_gradients(lambda h, t: ours(h, t, dtype="bfloat16")))(HIDDEN, TABLE)
    (wanted_loss, _), wanted_gradients = expected(0.1)
    assert float(loss) == pytest.approx(float(wanted_loss), rel=1e-2)
    for gradient, wanted in zip(gradients, wanted_gradients, strict=True):
        assert gradient.dtype == jnp.float32
        assert 1e-5 < relative(gradient, wanted) < 5e-2


@pytest.mark.parametrize(("chunk_mb", "positions"), [(1, 2), (2, 4), (64, 7)])
def test_no_more_logits_at_once_than_asked_for(chunk_mb, positions):
    program = jax.make_jaxpr(with_gradients(lambda h, t: ours(h, t, chunk_mb=chunk_mb)))(HIDDEN, TABLE)
    shapes = [variable.aval.shape for equation in equations(program.jaxpr) for variable in equation.outvars]
    assert max(np.prod(shape) for shape in shapes if VOCABULARY in shape) == ROWS * positions * VOCABULARY

"""Schedules by their formulas; Adam, decay and clipping against numpy."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny_model import blueprint_of, named, relative, tiny

from transformer.config import OptimizerConfig
from transformer.model.blueprint import matrices
from transformer.training.optimizer import make_optimizer, make_schedule

# --- the learning rate ---


def rate(config: OptimizerConfig, step: int, d_model: int = 512, steps: int = 1000) -> float:
    """At the paper's step, which counts from 1."""
    return float(make_schedule(config, d_model, steps)(jnp.int32(step - 1)))


@pytest.mark.parametrize("step", [1, 2, 3999, 4000, 4001, 16_000, 100_000])
def test_the_papers_schedule(step):
    """Section 5.3, equation 3, with the factor on it."""
    expected = 512**-0.5 * min(step**-0.5, step * 4000**-1.5)
    assert rate(OptimizerConfig(), step) == pytest.approx(expected, rel=1e-5)
    assert rate(OptimizerConfig(learning_rate=2.0), step) == pytest.approx(2 * expected, rel=1e-5)


@pytest.mark.parametrize("schedule", ["inverse_sqrt", "cosine", "constant"])
def test_the_others_rise_evenly_to_the_learning_rate(schedule):
    config = OptimizerConfig(schedule=schedule, learning_rate=3e-4, warmup_steps=100)
    for step in (1, 25, 100):
        assert rate(config, step) == pytest.approx(3e-4 * step / 100, rel=1e-5)


@pytest.mark.parametrize(
    ("schedule", "later"),
    [
        ("inverse_sqrt", {400: 0.5, 900: 1 / 3}),
        ("cosine", {550: (1 + 0.1) / 2, 1000: 0.1}),
        ("constant", {400: 1.0, 1000: 1.0}),
    ],
)
def test_the_others_after_the_warmup(schedule, later):
    config = OptimizerConfig(schedule=schedule, learning_rate=3e-4, warmup_steps=100, final_scale=0.1)
    for step, share in later.items():
        assert rate(config, step) == pytest.approx(3e-4 * share, rel=1e-4)


# --- the update ---


def gradients_of(count: int) -> list[dict]:
    rng = np.random.default_rng(0)
    return [
        {"outer": {"inner": rng.standard_normal((3, 4), np.float32)}, "inner_bias": rng.standard_normal(4, np.float32)}
        for _ in range(count)
    ]


PARAMS = jax.tree.map(lambda leaf: 1 + leaf, gradients_of(1)[0])
MATRICES = {"outer": {"inner": True}, "inner_bias": False}


def optimized(config: OptimizerConfig, gradients: list[dict]) -> dict:
    optimizer = make_optimizer(config, make_schedule(config, 512, 1000), MATRICES)

    @jax.jit
    def after_all(params):
        state = optimizer.init(params)
        for gradient in gradients:
            updates, state = optimizer.update(gradient, state, params)
            params = optax.apply_updates(params, updates)
        return params

    return after_all(PARAMS)


def by_hand(config: OptimizerConfig, gradients: list[dict], decayed: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    """Adam (Kingma and Ba 2015, algorithm 1) in float64, with decoupled decay (Loshchilov and Hutter 2019)."""
    params = {name: leaf.astype(np.float64) for name, leaf in named(PARAMS).items()}
    m, v = (jax.tree.map(np.zeros_like, params) for _ in range(2))
    for t, gradient in enumerate(gradients, start=1):
        gradient = {name: leaf.astype(np.float64) for name, leaf in named(gradient).items()}
        norm = np.sqrt(sum((leaf**2).sum() for leaf in gradient.values()))
        scale = min(1, config.clip_norm / norm) if config.clip_norm else 1
        for name, g in gradient.items():
            g = scale * g
            m[name] = config.beta1 * m[name] + (1 - config.beta1) * g
            v[name] = config.beta2 * v[name] + (1 - config.beta2) * g**2
            m_hat, v_hat = m[name] / (1 - config.beta1**t), v[name] / (1 - config.beta2**t)
            change = m_hat / (np.sqrt(v_hat) + config.epsilon)
            if name in decayed:
                change = change + config.weight_decay * params[name]
            params[name] = params[name] - rate(config, t) * change
    return params


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"beta1": 0.5, "beta2": 0.7, "epsilon": 0.1},
        {"clip_norm": 3.0},  # below the norm of every gradient here
        {"clip_norm": 1e6},
        {"name": "adamw", "weight_decay": 0.1},
        {"name": "adamw", "weight_decay": 0.1, "clip_norm": 3.0},
    ],
)
def test_three_updates_equal_adam_by_hand(changes):
    config = OptimizerConfig(learning_rate=0.1, schedule="inverse_sqrt", warmup_steps=2, **changes)
    gradients = gradients_of(3)
    found = named(optimized(config, gradients))
    expected = by_hand(config, gradients, decayed=("outer/inner",) if config.name == "adamw" else ())
    for name, leaf in expected.items():
        # Of the change, not of the parameters, which it hardly moves.
        assert relative(found[name] - named(PARAMS)[name], leaf - named(PARAMS)[name]) < 1e-4, name


def test_clipping_keeps_the_direction_of_all_gradients_together():
    config = OptimizerConfig(clip_norm=1e-3)
    (gradient,) = gradients_of(1)
    chain = make_optimizer(config, lambda count: 1.0, MATRICES)
    _, state = jax.jit(chain.update)(gradient, chain.init(PARAMS), PARAMS)
    moments = named(optax.tree.get(state, "mu"))
    norm = np.sqrt(sum((leaf**2).sum() for leaf in named(gradient).values()))
    for name, leaf in named(gradient).items():
        assert relative(moments[name], (1 - 0.9) * 1e-3 / norm * leaf) < 1e-5


def test_only_matrices_decay():
    """With gradients of zero only decay moves anything. Here is everything a model can have."""
    blueprint = blueprint_of(tiny(norm="pre", positions="learned", tied_embeddings="none"))
    params = jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float32), blueprint.shapes())
    config = OptimizerConfig(name="adamw", weight_decay=0.1)
    optimizer = make_optimizer(config, lambda count: 1.0, matrices(blueprint.names()))
    zeros = jax.tree.map(np.zeros_like, params)
    updates = jax.jit(lambda params: optimizer.update(zeros, optimizer.init(params), params)[0])(params)
    decayed = {name for name, update in named(updates).items() if np.any(update)}
    for name in decayed:
        np.testing.assert_allclose(named(updates)[name], -0.1, rtol=1e-6)

    attention = ("query", "key", "value", "output")
    blocks = [("encoder", "self_attention"), ("decoder", "self_attention"), ("decoder", "cross_attention")]
    assert decayed == {
        *(f"{stack}/layers/{block}/{matrix}" for stack, block in blocks for matrix in attention),
        *(f"{stack}/layers/feed_forward/{matrix}" for stack in ("encoder", "decoder") for matrix in ("inner", "outer")),
        *(f"{name}/table" for name in ("source_embedding", "target_embedding", "output")),
        *(f"{name}/table" for name in ("source_positions", "target_positions")),
    }


def test_an_update_not_made_leaves_the_state():
    config = OptimizerConfig(name="adamw", clip_norm=1.0)
    optimizer = make_optimizer(config, make_schedule(config, 512, 1000), MATRICES)
    update = jax.jit(optimizer.update)
    first, second = gradients_of(2)
    _, state = update(first, optimizer.init(PARAMS), PARAMS, made=True)
    broken = jax.tree.map(lambda leaf: np.full_like(leaf, np.nan), second)
    _, same = update(broken, state, PARAMS, made=False)
    for ours, expected in zip(jax.tree.leaves(same), jax.tree.leaves(state), strict=True):
        np.testing.assert_array_equal(ours, expected)
    _, later = update(second, state, PARAMS, made=True)
    assert [int(leaf) for leaf in jax.tree.leaves(later) if leaf.ndim == 0] == [2, 2]  # Adam's count, the schedule's


def test_moments_are_updated_where_they_lie():
    """The compiled update copies none of the arrays that it is given for good."""
    config = OptimizerConfig(name="adamw", clip_norm=1.0)
    optimizer = make_optimizer(config, make_schedule(config, 512, 1000), MATRICES)

    def step(params, state, gradients):
        updates, state = optimizer.update(gradients, state, params, made=jnp.isfinite(gradients["inner_bias"][0]))
        return optax.apply_updates(params, updates), state

    arguments = (PARAMS, optimizer.init(PARAMS), gradients_of(1)[0])
    program = jax.jit(step, donate_argnums=(0, 1)).lower(*arguments).compile().as_text()
    assert "f32[3,4]" in program
    assert not re.search(r"f32\[[34][\],].* copy\(", program)

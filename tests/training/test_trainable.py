"""What trains and what does not: frozen arrays and layers, adapters, on one device and on eight."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_step import BATCHES, DROPPING, ONE, Course, Sizes, config_of, course, trainer_of
from tiny_model import VARIANTS, assert_close, blueprint_of, named, relative, tiny

from transformer.config import Config, ConfigError, TransferConfig
from transformer.sharding import to_global
from transformer.training.step import Trainer, TrainState
from transformer.training.trainable import Trainable, put, take

PRE = {"norm": "pre"}
# Everything at once: whole arrays, some layers of an array, adapters of all and of some layers, and both of one array.
MIXED = TransferConfig(
    train_only=("decoder/layers/feed_forward", "encoder:1", "*norm"),
    freeze=("outer_bias", "decoder/layers/*_residual:0"),
    lora_rank=2,
    lora_alpha=3.0,
    lora_targets=("decoder/layers/*_attention", "inner:0", "encoder/layers/feed_forward/outer:1"),
)


def with_transfer(transfer: TransferConfig, model: dict = PRE, **training) -> Config:
    """With weight decay, which must not reach what is frozen."""
    config = config_of(model, **training)
    config.optimizer.name, config.optimizer.weight_decay = "adamw", 0.1
    return dataclasses.replace(config, transfer=transfer)


@functools.cache
def initial() -> TrainState:
    trainer = trainer_of(with_transfer(MIXED))
    with jax.set_mesh(trainer.mesh):
        return jax.device_get(trainer.init())


@functools.cache
def mixed(sizes: Sizes = ONE, accumulate: int = 1) -> tuple[Trainer, Course]:
    """Three steps with dropout on."""
    trainer = trainer_of(with_transfer(MIXED, PRE | DROPPING, accumulate=accumulate), sizes)
    return trainer, course(trainer, BATCHES, initial())


def layers_that_train(name: str) -> set[int]:
    """By MIXED, said another way; 0 and 1 of what is in no stack: all of it."""
    if name.startswith("lora/"):
        return {0, 1}
    parts = name.split("/")
    if parts[-1] == "outer_bias":
        return set()
    if parts[0] == "encoder":
        return {1} | ({0} if "norm" in parts else set())
    if parts[:1] == ["decoder"] and ("feed_forward" in parts or "norm" in parts):
        return {1} if parts[2].endswith("_residual") else {0, 1}
    return {0, 1} if parts[0].endswith("_norm") else set()


# --- steps ---


def test_what_is_frozen_stays_to_the_bit_and_all_else_moves():
    _, done = mixed()
    before, after = named(done.states[0].params), named(done.end.params)
    assert {name.split("/")[0] for name in after} == {
        *("decoder", "decoder_norm", "encoder", "encoder_norm", "lora", "target_embedding")
    }
    for name, array in after.items():
        moving = layers_that_train(name)
        if moving == {0, 1}:
            assert relative(array, before[name] + 1e-30) > 0.003, name
            continue
        for layer in range(2):
            if name.startswith(("encoder/", "decoder/")) and layer in moving:
                assert relative(array[layer], before[name][layer] + 1e-30) > 0.003, name
            else:
                np.testing.assert_array_equal(array[layer], before[name][layer], err_msg=name)


def test_optimizer_and_average_hold_nothing_of_what_is_frozen():
    _, done = mixed()
    for tree in (optax.tree.get(done.end.optimizer, "mu"), optax.tree.get(done.end.optimizer, "nu"), done.end.ema):
        shapes = {name: leaf.shape for name, leaf in named(tree).items()}
        for name, leaf in named(done.end.params).items():
            count = len(layers_that_train(name)) if name.startswith(("encoder/", "decoder/")) else len(leaf)
            if layers_that_train(name):
                assert shapes.pop(name) == (count, *leaf.shape[1:])
        assert not shapes


@pytest.mark.parametrize(
    ("sizes", "accumulate"), [((1, 2, 2, 1, 2), 2), ((1, 1, 8, 1, 1), 1), ((2, 1, 1, 2, 2), 1), (ONE, 2)]
)
def test_eight_devices_and_parts_equal_one(sizes, accumulate):
    trainer, many = mixed(sizes, accumulate)
    _, one = mixed()
    assert_close(many.end, one.end, 1e-5)
    wanted = named(trainer.state_shardings())
    for name, leaf in named(many.last).items():
        assert leaf.sharding.is_equivalent_to(wanted[name], leaf.ndim), name
    assert trainer.train_step._cache_size() == 1


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_trains_by_attention_alone_and_by_adapters(variant):
    for transfer in (
        TransferConfig(train_only=("*_attention",)),
        TransferConfig(lora_rank=2, lora_targets=("layers",)),
    ):
        trainer = trainer_of(with_transfer(transfer, VARIANTS[variant] | {"dtype": "bfloat16"}), (1, 2, 1, 2, 2))
        with jax.set_mesh(trainer.mesh):
            state = trainer.abstract_state()
            new_state, _ = trainer.train_step.trace(state, to_global(BATCHES[0], trainer.mesh)).out_info
        assert jax.tree.map(jnp.shape, new_state) == jax.tree.map(jnp.shape, state)


def products(transfer: TransferConfig) -> int:
    """Matrix products in the program of a step; one in a loop counts once."""
    trainer = trainer_of(with_transfer(transfer))
    with jax.set_mesh(trainer.mesh):
        lowered = trainer.train_step.lower(trainer.abstract_state(), to_global(BATCHES[0], trainer.mesh))
    return lowered.as_text().count("stablehlo.dot_general")


def test_the_gradient_of_what_is_frozen_is_not_made():
    """Encoder: 6 products with weights forward, as many for what comes in and for the weights; 2 of attention, twice
    as many backward. Decoder: 10 and 4. The loss: one forward, two backward."""
    everything = products(TransferConfig())
    assert everything == 3 * (6 + 2) + 3 * (10 + 4) + 3
    without_weights = products(TransferConfig(train_only=("target_embedding",)))
    assert without_weights == everything - 6 - 10
    # Nothing below the last norm is looked at a second time.
    assert products(TransferConfig(train_only=("decoder_norm",))) == 8 + 14 + 2


# --- adapters ---


def gradients(transfer: TransferConfig, state: TrainState) -> dict[str, np.ndarray]:
    """Of the first batch's mean loss, from the first moments after a step."""
    done = course(trainer_of(with_transfer(transfer)), BATCHES[:1], state)
    moments = named(optax.tree.get(done.end.optimizer, "mu"))
    return {name: np.asarray(leaf) / (1 - 0.9) for name, leaf in moments.items()}


@functools.cache
def states() -> tuple[TransferConfig, TrainState, TrainState]:
    """Adapters, b not zeros; a state with them, and one of the same model whose parameters are the sums."""
    transfer = TransferConfig(lora_rank=2, lora_alpha=3.0, lora_targets=("decoder/*/*/output", "inner:1"))
    trainer, plain = trainer_of(with_transfer(transfer)), trainer_of(with_transfer(TransferConfig()))
    rng = np.random.default_rng(0)
    with jax.set_mesh(trainer.mesh):
        state = trainer.init()
        noise = {name: rng.normal(0, 0.1, leaf.shape) for name, leaf in named(state.params).items() if "lora" in name}
        params = jax.tree_util.tree_map_with_path(
            lambda path, leaf: leaf + noise.get(jax.tree_util.keystr(path, simple=True, separator="/"), 0), state.params
        )
        state = dataclasses.replace(state, params=params, ema=trainer.trainable.trained(params))
        used = jax.device_get(trainer.used(state))
        return transfer, jax.device_get(state), dataclasses.replace(jax.device_get(plain.init()), params=used, ema=used)


def test_an_adapter_adds_its_scaled_product():
    _, adapted, summed = states()
    params, used = named(adapted.params), named(summed.params)
    for name in used:
        a, b = (params.get(f"lora/{name}/{side}") for side in "ab")
        if a is None:
            np.testing.assert_array_equal(used[name], params[name])
            continue
        product = np.einsum("lnhr,lrd->lnhd", a, b) if name.endswith("output") else np.einsum("ldr,lrf->ldf", a, b)
        expected = np.array(params[name])
        expected[-len(a) :] += 1.5 * product
        assert relative(used[name], expected) < 1e-6
        assert relative(expected, params[name]) > 0.01
    assert [name for name in params if name.startswith("lora/") and name.endswith("/a")] == [
        "lora/decoder/layers/cross_attention/output/a",
        "lora/decoder/layers/feed_forward/inner/a",
        "lora/decoder/layers/self_attention/output/a",
        "lora/encoder/layers/feed_forward/inner/a",
    ]
    assert params["lora/encoder/layers/feed_forward/inner/a"].shape == (1, 16, 2)
    assert params["lora/decoder/layers/self_attention/output/a"].shape == (2, 2, 8, 2)


def test_its_gradient_follows_that_of_the_sum():
    """d/dA = s G B^T and d/dB = s A^T G, with the gradient G of the loss with respect to the sum."""
    transfer, adapted, summed = states()
    ours, whole, params = gradients(transfer, adapted), gradients(TransferConfig(), summed), named(adapted.params)
    for name in (name.removesuffix("/a").removeprefix("lora/") for name in ours if name.endswith("/a")):
        a, b = (params[f"lora/{name}/{side}"] for side in "ab")
        gradient = whole[name][-len(a) :]
        into = "nh" if name.endswith("output") else "d"
        assert relative(ours[f"lora/{name}/a"], 1.5 * np.einsum(f"l{into}x,lrx->l{into}r", gradient, b)) < 1e-5
        assert relative(ours[f"lora/{name}/b"], 1.5 * np.einsum(f"l{into}r,l{into}x->lrx", a, gradient)) < 1e-5
    assert all(name.startswith("lora/") for name in ours)


def test_before_the_first_step_adapters_change_nothing_and_differ():
    trainer = trainer_of(with_transfer(MIXED))
    with jax.set_mesh(trainer.mesh):
        used = named(jax.device_get(trainer.used(dataclasses.replace(trainer.init(), ema=None))))
    adapters = {name: leaf for name, leaf in named(initial().params).items() if name.startswith("lora/")}
    for name, leaf in named(initial().params).items():
        if name in used:
            np.testing.assert_array_equal(used[name], leaf)
    assert used.keys() | adapters.keys() == named(initial().params).keys()
    assert all(np.any(leaf) == name.endswith("/a") for name, leaf in adapters.items())
    starts = [leaf.ravel()[:4].tolist() for name, leaf in adapters.items() if name.endswith("/a")]
    assert len({tuple(start) for start in starts}) == len(starts)


# --- averages, and runs without any of this ---


def test_what_is_used_is_the_average_of_what_trains_with_its_adapters_added():
    trainer, done = mixed()
    with jax.set_mesh(trainer.mesh):
        used = trainer.used(done.last)
        averaged = trainer.trainable.joined(done.last.params, done.last.ema)
        expected = trainer.used(dataclasses.replace(done.last, params=averaged, ema=None))
    assert_close(used, expected, 0)
    own = named(trainer.used(dataclasses.replace(done.last, ema=None)))
    assert relative(named(used)["decoder_norm/scale"], own["decoder_norm/scale"]) > 1e-4
    assert trainer.blueprint.shapes().keys() == used.keys()


def test_without_settings_the_state_is_all_parameters():
    trainer = trainer_of(config_of({}))
    assert trainer.trainable.is_all
    state = trainer.abstract_state()
    assert trainer.used(state) is state.ema
    assert trainer.used(dataclasses.replace(state, ema=None)) is state.params


# --- arrays ---


@pytest.mark.parametrize("layers", [None, (0,), (1, 2), (4,), (0, 2, 3), (0, 4), (0, 1, 2, 3)])
def test_some_layers_are_taken_and_put_back(layers):
    array, part = jnp.arange(10).reshape(5, 2), jnp.arange(100, 110).reshape(5, 2)
    chosen = list(range(5) if layers is None else layers)
    np.testing.assert_array_equal(take(array, layers), array[np.array(chosen)])
    expected = np.array(array)
    expected[chosen] = part[: len(chosen)]
    np.testing.assert_array_equal(put(array, layers, part[: len(chosen)]), expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"freeze": ("*",)}, r"transfer.freeze = \('\*',\): leaves nothing to train. Freeze fewer"),
        ({"train_only": ("encoder",), "freeze": ("layers",)}, "transfer.freeze .* leaves nothing to train"),
        ({"train_only": ("endocer",)}, "transfer.train_only = 'endocer': .* Did you mean encoder"),
        ({"lora_rank": 2, "lora_targets": ("qery",)}, "transfer.lora_targets = 'qery': .* Did you mean query"),
        (
            {"lora_rank": 2, "lora_targets": ("query", "target_embedding")},
            "transfer.lora_targets = 'target_embedding': target_embedding/table is no matrix of a layer. Choose from "
            "inner, key, outer, output, query, value, or train it whole with transfer.train_only",
        ),
        ({"lora_rank": 2, "lora_targets": ("query:2",)}, "has no layer 2"),
    ],
)
def test_what_cannot_be_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        Trainable.of(TransferConfig(**changes), blueprint_of(tiny()))

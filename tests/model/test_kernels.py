"""Which kernel computes an attention, what is refused and told of it, and that a model's output is the same by each."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attention_cases import MASKS, SEGMENTED_CAUSAL, places
from flax import nnx
from tiny_model import assert_close, batch_of, blueprint_of, equations, examples_of, random_params, tiny

from transformer import config as config_module
from transformer.config import Config, ConfigError, MeshConfig, ModelConfig
from transformer.config.kernels import FUSED, obstacles
from transformer.model import blockwise, cudnn, kernel_choice, kernels, splash
from transformer.model.attention import MultiHeadAttention
from transformer.model.kernels import Call, Kernels, serves
from transformer.model.masks import Causal, Given, Padding, Prompt, SameSegment
from transformer.model.relative_positions import relative_positions
from transformer.sharding import make_mesh, to_global
from transformer.training.step import Trainer

ROW = places(1, 40)
CALL = Call(SEGMENTED_CAUSAL, ROW, ROW, own=True)
BATCH = batch_of([examples_of((3, 4), (4, 3)), examples_of((5, 6))], source_length=8, target_length=8)
BATCH["target_prompt"] = np.zeros((2, 8), np.int32)

# What one kernel at least cannot serve, beside what both can.
OBSTACLES = {
    "dtype": "float32",
    "attention_dropout": 0.1,
    "positions": "alibi",
    "mask": "prefix",
    "logit_soft_cap": 2.0,
    "d_k": 20,
    "d_v": 16,
}


class Sharper(MultiHeadAttention):
    def scores(self, q_BTNH, places, memory):
        return 2 * super().scores(q_BTNH, places, memory)


class OwnClass:
    pass


def model(**changes) -> ModelConfig:
    return tiny(**({"dtype": "bfloat16"} | changes))


@pytest.fixture
def on_a_tpu(monkeypatch):
    """As if there were one; what it would compute is interpreted."""
    monkeypatch.setattr(kernels, "on", lambda platform: ("splash", "blockwise"))
    monkeypatch.setattr(splash, "attend", functools.partial(splash.attend, interpret=True))


@pytest.fixture
def on_a_gpu(monkeypatch):
    """As if there were one; what cuDNN is asked for, which is noted, JAX's own function computes."""
    ask, asked = jax.nn.dot_product_attention, []

    def answer(*arrays, implementation, **options):
        asked.append(implementation)
        return ask(*arrays, implementation="xla", **options)

    monkeypatch.setattr(kernels, "on", lambda platform: ("cudnn", "blockwise"))
    monkeypatch.setattr(jax.nn, "dot_product_attention", answer)
    return asked


def kernel_calls(config: ModelConfig) -> int:
    """How many attentions of a model are computed by a Pallas kernel."""
    blueprint = blueprint_of(config)
    traced = jax.make_jaxpr(lambda params: blueprint.bind(params)(BATCH))(random_params(blueprint))
    return sum(equation.primitive.name == "pallas_call" for equation in equations(traced.jaxpr))


# --- what is asked ---


@pytest.mark.parametrize("name", MASKS)
def test_masks_of_the_package_are_served_by_all(name):
    call = dataclasses.replace(CALL, mask=MASKS[name])
    assert all(serves(kernel, call) for kernel in FUSED)


@pytest.mark.parametrize(
    "mask",
    [
        SameSegment() & (Causal() | Prompt()),
        SameSegment() & Given(jnp.ones((1, 1, 40, 40), bool)),
        Causal(),  # positions of several examples of a row
        Causal() & Padding(),
    ],
    ids=["prefix", "given", "causal alone", "causal, padding"],
)
def test_masks_that_splash_cannot_be_told(mask):
    call = dataclasses.replace(CALL, mask=mask)
    assert not serves("splash", call)
    assert serves("cudnn", call) and not call.causal


def test_columns_are_positions_in_one_sequence_only():
    assert CALL.causal
    other = places(1, 36)
    for call in (
        dataclasses.replace(CALL, own=False),
        dataclasses.replace(CALL, keys=other),
        dataclasses.replace(CALL, keys=dataclasses.replace(ROW, contiguous=False)),
    ):
        assert not call.causal
        assert not serves("splash", call)
        assert serves("splash", dataclasses.replace(call, mask=SameSegment()))


def test_decoding_is_plain():
    step = dataclasses.replace(CALL, queries=dataclasses.replace(ROW, contiguous=False))
    assert not any(serves(kernel, step) for kernel in FUSED)


def test_short_sequences_are_left_to_xla_unless_a_kernel_is_forced(on_a_tpu):
    long = places(1, kernels.SHORTEST)
    for queries, keys in ((ROW, long), (long, ROW), (ROW, ROW)):
        call = Call(SameSegment(), queries, keys, own=False)
        assert Kernels.of(model(), "cross").choose(call) == "xla"
        assert Kernels.of(model(kernel="splash"), "cross").choose(call) == "splash"
    assert Kernels.of(model(), "cross").choose(Call(SameSegment(), long, long, own=False)) == "splash"
    assert Kernels.of(model(kernel="xla"), "cross").choose(Call(SameSegment(), long, long, own=False)) == "xla"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_on_a_cpu_long_sequences_are_computed_in_blocks(dtype):
    def chosen(length, key_length=kernels.SHORTEST_BLOCKWISE, mask=MASKS["segments"], **changes):
        call = Call(mask, places(1, length), places(1, key_length), own=False)
        return Kernels.of(model(dtype=dtype, **changes), "cross").choose(call)

    long = kernels.SHORTEST_BLOCKWISE
    assert chosen(long) == "blockwise"
    assert chosen(long - 1) == chosen(long, long - 1) == "xla"
    assert chosen(40, 40, kernel="blockwise") == "blockwise"
    assert chosen(long, attention_dropout=0.1) == chosen(long, kernel="xla") == "xla"
    assert chosen(long, mask=SameSegment() & Given(jnp.ones((1, 1, long, long), bool))) == "xla"


def test_a_kernel_of_another_platform_is_left_for_xla():
    """A checkpoint of a run that forced a kernel translates anywhere."""
    for kernel in ("splash", "cudnn"):
        long = places(1, 1024)
        assert Kernels.of(model(kernel=kernel), "cross").choose(Call(SameSegment(), long, long, own=False)) == "xla"


# --- a whole model ---


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_kv_heads": 1, "qk_norm": True, "positions": "rotary", "logit_soft_cap": 2.0, "d_v": 4, "norm": "pre"},
        {"architecture": "language_model", "attention_chunk": 2, "remat": "all_but_products"},
    ],
    ids=["paper", "modern", "language model"],
)
def test_a_model_is_the_same_by_splash(changes, on_a_tpu):
    """Packed rows, gradients of all parameters. On a CPU activations are float32, with bfloat16 products of weights."""
    config = model(**changes)
    assert kernel_calls(dataclasses.replace(config, kernel="splash")) == len(config.attention_roles)
    assert_the_same_by("splash", config)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_kv_heads": 1, "qk_norm": True, "positions": "rotary", "norm": "pre", "attention_window": 3},
        {"architecture": "language_model", "mask": "prefix", "attention_chunk": 2},
    ],
    ids=["paper", "modern", "prefix language model"],
)
def test_a_model_is_the_same_by_cudnn(changes, on_a_gpu):
    config = model(**({"d_k": 16} | changes))
    assert_the_same_by("cudnn", config)
    assert {*on_a_gpu} == {"cudnn"} and len(on_a_gpu) >= len(config.attention_roles)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "dtype": "float32",
            "num_kv_heads": 1,
            "qk_norm": True,
            "positions": "rotary",
            "logit_soft_cap": 2.0,
            "d_v": 4,
        },
        {"architecture": "language_model", "mask": "prefix", "attention_window": 3, "remat": "all_but_products"},
    ],
    ids=["paper", "modern", "prefix language model"],
)
def test_a_model_is_the_same_in_blocks(changes, monkeypatch):
    monkeypatch.setattr(blockwise, "LARGEST", 8)
    calls, attend = [], blockwise.attend
    monkeypatch.setattr(blockwise, "attend", lambda *arrays, **options: calls.append(1) or attend(*arrays, **options))
    config = model(**changes)
    assert_the_same_by("blockwise", config)
    assert len(calls) >= len(config.attention_roles)


def assert_the_same_by(kernel: str, config: ModelConfig) -> None:
    """What real targets find, and the gradients of all parameters. Half of what a language model reads is a prompt."""
    params = random_params(blueprint_of(config))
    batch = BATCH | {"target_prompt": np.asarray(BATCH["target_positions"] < 2, np.int32)}
    real = jnp.asarray(BATCH["target_segments"] > 0)[:, :, None]

    def found(kernel):
        blueprint = blueprint_of(dataclasses.replace(config, kernel=kernel))

        def loss(params):
            x_BTD = jnp.where(real, blueprint.bind(params)(batch), 0)
            return jnp.sum(x_BTD * jnp.cos(jnp.arange(x_BTD.size)).reshape(x_BTD.shape)), x_BTD

        (_, x_BTD), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
        return x_BTD, gradients

    # What rounds to bfloat16 after tiny differences may round to the other side.
    assert_close(found(kernel), found("xla"), 0.01)


@pytest.mark.parametrize("kernel", ["splash", "blockwise"])
def test_a_training_step_on_many_devices_is_the_same_by(kernel, on_a_tpu):
    mesh = make_mesh(MeshConfig(data=1, fsdp=2, sequence=2, tensor=2))
    rows = [[one] for one in examples_of((3, 4), (4, 3), (5, 6), (2, 2))]
    batch = batch_of(rows, source_length=8, target_length=8)

    batch["target_prompt"] = 0 * batch["targets"]
    config = Config(model=model(architecture="language_model", num_heads=4, num_kv_heads=2, num_decoder_layers=1))

    def sums(kernel):
        chosen = dataclasses.replace(config, model=dataclasses.replace(config.model, kernel=kernel))
        trainer = Trainer.of(chosen, blueprint_of(chosen.model), mesh)
        with jax.set_mesh(mesh):
            _, report = trainer.train_step(trainer.init(), to_global(batch, mesh))
        return jax.device_get((report.window.sums.loss, report.window.gradient_norms))

    np.testing.assert_allclose(sums(kernel), sums("xla"), rtol=1e-3)


@pytest.mark.parametrize("attention", ["Sharper", "OwnClass"])
def test_own_scores_are_never_left_to_a_kernel(attention, on_a_tpu):
    config = model(attention=f"{__name__}:{attention}")
    with pytest.raises(ConfigError, match=f"would not compute the scores of .*:{attention}. Set model.kernel=auto"):
        kernel_choice.check(dataclasses.replace(config, kernel="splash"), "tpu")
    assert "by xla: no other kernel would compute the scores of" in kernel_choice.explain(config, "tpu")
    if attention == "Sharper":
        assert kernel_calls(dataclasses.replace(config, kernel="splash")) == 0


def test_a_subclass_that_scores_as_usual_keeps_its_kernel(on_a_tpu):
    config = model(attention=f"{__name__}:Renamed", kernel="splash")
    kernel_choice.check(config, "tpu")
    assert kernel_calls(config) == 3


class Renamed(MultiHeadAttention):
    """Keys are its own; scores are not."""

    def keys_values(self, y_BSD, places):
        memory = super().keys_values(y_BSD, places)
        return dataclasses.replace(memory, keys_BSKH=2 * memory.keys_BSKH)


def test_weights_are_there_whatever_computes_the_heads(on_a_tpu):
    params = random_params(blueprint_of(model()))
    ours, expected = (
        jax.jit(lambda params, kernel=kernel: blueprint_of(model(kernel=kernel)).bind(params).attention_weights(BATCH))(
            params
        )
        for kernel in ("splash", "xla")
    )
    assert_close(ours, expected, 0.01)


# --- refusals ---


@pytest.mark.parametrize("kernel", FUSED)
@pytest.mark.parametrize("field", OBSTACLES)
def test_what_a_forced_kernel_cannot_serve_is_refused_with_the_way_out(kernel, field, on_a_tpu):
    architecture = "language_model" if field == "mask" else "encoder_decoder"
    config = model(**({"d_k": 16, field: OBSTACLES[field], "kernel": kernel, "architecture": architecture}))
    found = [each for role in config.attention_roles for each in obstacles(kernel, config, role)]
    whole = Config(model=config)
    if architecture == "language_model":
        whole.data.train, whole.data.validation, whole.data.test = ("text:a",), ("text:b",), ()
        whole.evaluation.metric = "loss"
    if not found:
        config_module.validate(whole)
        return
    with pytest.raises(ConfigError) as caught:
        config_module.validate(whole)
    message = str(caught.value)
    assert message.startswith(f"config.model.kernel = '{kernel}': cannot serve model.{field} = {OBSTACLES[field]!r}")
    assert f"Set model.kernel=auto, or model.{field}=" in message
    # The way out is one.
    config_module.validate(dataclasses.replace(whole, model=dataclasses.replace(config, kernel="auto")))
    way_out = dataclasses.replace(config, **{field: found[0].served})
    config_module.validate(dataclasses.replace(whole, model=way_out))


def test_what_is_not_refused_is_served(on_a_tpu):
    """Every obstacle is one: without it all attentions are the kernel's."""
    assert kernel_calls(model(kernel="splash")) == 3
    for field in ("logit_soft_cap", "d_k", "d_v"):
        assert not obstacles("splash", model(**{field: OBSTACLES[field]}), "encoder")
        assert kernel_calls(model(**{field: OBSTACLES[field], "kernel": "splash"})) == 3


def test_positions_that_touch_scores_are_obstacles():
    for positions in ("none", "sinusoidal", "rotary", "learned", "t5", "shaw", "alibi"):
        config = model(positions=positions)
        touches = relative_positions(config, "encoder", rngs=nnx.Rngs(params=0)).touches_scores
        for kernel in FUSED:
            assert bool(obstacles(kernel, dataclasses.replace(config, d_k=16), "encoder")) == touches
            assert not obstacles(kernel, dataclasses.replace(config, d_k=16), "cross")


# --- the start of a run ---


@pytest.mark.parametrize(
    ("kernel", "platform", "told"),
    [
        ("splash", "cpu", "is for tpus, and this run is on a cpu"),
        ("splash", "gpu", "is for tpus, and this run is on a gpu"),
        ("cudnn", "tpu", "is for gpus, and this run is on a tpu"),
        ("cudnn", "gpu", "there is no GPU"),
    ],
)
def test_a_kernel_of_another_platform_is_refused(kernel, platform, told):
    with pytest.raises(ConfigError) as caught:
        kernel_choice.check(model(kernel=kernel), platform)
    assert str(caught.value) == f"config.model.kernel = '{kernel}': {told}. Set model.kernel=auto."
    for other in ("auto", "xla", "blockwise"):
        kernel_choice.check(model(kernel=other), platform)


@pytest.mark.parametrize(
    ("platform", "changes", "told"),
    [
        ("cpu", {}, "computed by blockwise from 1024 positions on, by xla where there are fewer and in decoding."),
        (
            "cpu",
            {"attention_dropout": 0.1},
            "computed by xla (blockwise cannot serve model.attention_dropout = 0.1: it",
        ),
        ("cpu", {"kernel": "blockwise"}, "computed by blockwise, as config.model.kernel says, and by xla in decoding."),
        ("gpu", {}, "blockwise from 4096 positions on, by xla where there are fewer and in decoding (cudnn cannot be"),
        ("tpu", {}, "computed by splash from 256 positions on, by xla where there are fewer and in decoding."),
        ("tpu", {"kernel": "xla"}, "computed by xla, as config.model.kernel says."),
        ("tpu", {"kernel": "splash"}, "computed by splash, as config.model.kernel says, and by xla in decoding."),
        ("tpu", {"dtype": "float32"}, "and in decoding (splash cannot serve model.dtype = 'float32': it rounds"),
        (
            "tpu",
            {"positions": "alibi"},
            "it never holds the scores they change); cross by splash from 256 positions on",
        ),
    ],
)
def test_the_choice_is_told_with_its_reason(platform, changes, told):
    text = kernel_choice.explain(model(**changes), platform)
    assert told in text
    assert text[0].isupper() and text.endswith(".")


def test_an_able_gpu_has_cudnn(monkeypatch):
    monkeypatch.setattr(cudnn, "missing", lambda: None)
    kernel_choice.check(model(kernel="cudnn"), "gpu")
    assert "by cudnn from 256 positions on" in kernel_choice.explain(model(d_k=16), "gpu")

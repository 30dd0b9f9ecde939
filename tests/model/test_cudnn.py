"""cuDNN's attention is asked for what plain attention is, and lowers for CUDA. No GPU has run it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attention_cases import MASKS, SEGMENTED_CAUSAL, Case, plain
from jax.export import DisabledSafetyCheck
from tiny_model import assert_close

from transformer import sharding
from transformer.config import MeshConfig
from transformer.model import cudnn
from transformer.model.kernels import Call
from transformer.model.masks import Given, SameSegment

KERNELS = ("__cudnn$fmhaScaleBiasSoftmax", "__cudnn$fmhaScaleBiasSoftmaxBackward")


def kernel(mask):
    def attend(q_BTNH, keys_BSKH, values_BSKH, queries, keys):
        causal = Call(mask, queries, keys, own=True).causal
        return cudnn.attend(q_BTNH, keys_BSKH, values_BSKH, mask, queries, keys, causal=causal)

    return attend


@pytest.fixture
def by_xla(monkeypatch):
    """JAX's own function computes what it would ask cuDNN for."""
    ask = jax.nn.dot_product_attention

    def answer(*arrays, implementation, **options):
        assert implementation == "cudnn"
        return ask(*arrays, implementation="xla", **options)

    monkeypatch.setattr(jax.nn, "dot_product_attention", answer)


def both_ways(case: Case, mask, ours=kernel):
    (ours, our_gradients), (expected, gradients) = (jax.jit(case.found(of(mask)))(case) for of in (ours, plain))
    return (case.of_real(ours), our_gradients), (case.of_real(expected), gradients)


@pytest.mark.parametrize("name", MASKS)
def test_it_is_asked_for_the_mask(name, by_xla):
    assert_close(*both_ways(Case.random(), MASKS[name]), 1e-5)


@pytest.mark.parametrize(
    ("changes", "mask"),
    [
        ({"length": 25, "key_length": 25, "heads": 4}, SEGMENTED_CAUSAL),
        ({"length": 25, "key_length": 36}, SameSegment()),
        ({}, Given(jnp.asarray(np.random.default_rng(0).random((1, 1, 40, 40)) < 0.5).at[:, :, :, 0].set(True))),
    ],
    ids=["odd, grouped", "odd, cross", "any mask"],
)
def test_shapes(changes, mask, by_xla):
    assert_close(*both_ways(Case.random(**changes), mask), 1e-5)


def test_on_several_devices(by_xla):
    """Queries are split, too: then it is not told that the mask is causal, which it would count from their first."""
    case = Case.random(length=80, key_length=80, rows=4, heads=4, key_heads=2)
    expected, gradients = jax.jit(case.found(plain(SEGMENTED_CAUSAL)))(case)
    mesh = sharding.make_mesh(MeshConfig(data=2, sequence=2, tensor=2))
    split = case.split(mesh)
    with jax.set_mesh(mesh):
        ours, our_gradients = jax.jit(split.found(kernel(SEGMENTED_CAUSAL)))(split)
    assert_close((case.of_real(jax.device_get(ours)), our_gradients), (case.of_real(expected), gradients), 1e-5)


def test_it_lowers_for_cuda(monkeypatch):
    """Where there is no cuDNN, JAX's check of its version has to be passed by: it lowers, which is all that is seen."""
    from jax._src.cudnn import fused_attention_stablehlo

    monkeypatch.setattr(fused_attention_stablehlo, "check_cudnn_version", lambda: 91200)
    case = Case.random(length=25, key_length=25, heads=4, size=64, value_size=64, dtype="bfloat16")
    checks = [DisabledSafetyCheck.custom_call(name) for name in KERNELS]
    lowered = jax.export.export(
        jax.jit(case.found(kernel(SEGMENTED_CAUSAL))), platforms=["cuda"], disabled_checks=checks
    )(case)
    for name in KERNELS:
        assert f"@{name}(" in lowered.mlir_module()


@pytest.mark.parametrize(
    ("capability", "told"), [("7.5", "this is 7.5"), ("8.0", None), ("9.0", None), ("gfx90a", "this is gfx90a")]
)
def test_which_gpus_have_it(capability, told, monkeypatch):
    class Gpu:
        compute_capability = capability

    monkeypatch.setattr(jax, "devices", lambda platform: [Gpu])
    missing = cudnn.missing.__wrapped__()
    assert missing is None if told is None else told in missing


def test_no_gpu():
    assert cudnn.missing() == "there is no GPU"

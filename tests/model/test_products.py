"""bfloat16: every product with weights is of bfloat16 numbers; parameters and their gradients stay float32."""

import collections
import contextlib
import functools
import math
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_model import batch_of, blueprint_of, equations, examples_of, random_params, relative, tiny

import transformer.model
from transformer import cores, sharding
from transformer.config import MeshConfig
from transformer.model.products import activation_product, compiler_options, computed_in, product
from transformer.training.loss import smoothed_cross_entropy

ROOM = Path(transformer.model.__file__).parent
SOURCE = "".join(path.read_text() for path in ROOM.glob("*.py"))
SPECS = sorted(set(re.findall(r'(?<!_)product\(\s*"(.+?)"', SOURCE)))
ACTIVATION_SPECS = sorted(set(re.findall(r'activation_product\(\s*"(.+?)"', SOURCE)))
BATCH = batch_of([examples_of((3, 4), (4, 3)), examples_of((5, 2))], source_length=8, target_length=8)


def test_the_products_are_found():
    assert {"BTD,DF->BTF", "BTD,DNH->BTNH"} < set(SPECS)
    assert {"BTNH,BSNH->BNTS", "BNTS,BSNH->BNTH"} <= set(ACTIVATION_SPECS)


def operands(spec: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two random arrays for the letters, and a gradient for the result."""
    sizes = {letter: size for size, letter in enumerate("BTSNHDFKGRV", start=2)}
    rng = np.random.default_rng(0)
    return tuple(
        rng.standard_normal([sizes[letter] for letter in letters], np.float32) for letters in re.split(",|->", spec)
    )


def rounded(array: np.ndarray) -> np.ndarray:
    return np.asarray(jnp.asarray(array, jnp.bfloat16), np.float32)


@pytest.mark.parametrize("instructions", [True, False])
@pytest.mark.parametrize("spec", SPECS)
def test_on_a_cpu_both_passes_are_of_rounded_numbers_added_up_in_float32(spec, instructions, monkeypatch):
    monkeypatch.setattr(cores, "have_bfloat16", lambda: instructions)
    x, weights, gradient = operands(spec)

    @jax.jit  # compiled as one, XLA leaves out casts there and back
    def both(x, weights, gradient):
        value, pull = jax.vjp(lambda x, weights: product(spec, x, weights, (None,), "bfloat16"), x, weights)
        return value, *pull(gradient)

    found = value, *_ = both(x, weights, gradient)
    (x_letters, weight_letters), result = spec.split("->")[0].split(","), spec.split("->")[1]
    expected = (
        np.einsum(spec, rounded(x), rounded(weights)),
        np.einsum(f"{result},{weight_letters}->{x_letters}", rounded(gradient), rounded(weights)),
        np.einsum(f"{x_letters},{result}->{weight_letters}", rounded(x), rounded(gradient)),
    )
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == jnp.float32
        assert relative(ours, theirs) < 1e-6
    assert relative(value, np.einsum(spec, x, weights)) > 1e-4, "rounding should be seen"


@pytest.mark.parametrize("sizes", [None, {"data": 1}, {"data": 4, "sequence": 2}, {"fsdp": 4, "tensor": 2}], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("spec", ["BTD,DF->BTF", "BTF,FD->BTD", "BTD,DNH->BTNH", "BTNH,NHD->BTD"])
def test_gradients_on_any_mesh_as_a_run_compiles_them(spec, dtype, sizes):
    """Of small whole numbers: every order of adding up gives the same."""
    length = {"B": 4, "T": 6, "D": 64, "F": 96, "N": 4, "H": 16}
    axes = {"B": "batch", "T": "length", "D": "embed", "F": "feed_forward", "N": "heads", "H": None}
    x_letters, weight_letters, result = re.split(",|->", spec)
    rng = np.random.default_rng(0)
    x, weights, gradient = (
        rng.integers(-3, 4, [length[letter] for letter in letters]).astype(np.float32)
        for letters in (x_letters, weight_letters, result)
    )
    names = tuple(axes[letter] for letter in weight_letters)

    def used(letters: str):
        return sharding.used(*(axes[letter] for letter in letters))

    @functools.partial(jax.jit, compiler_options=compiler_options("cpu", ""))
    def gradients(x, weights, gradient):
        # Copies, whose gradients are summed up over devices at the end, are what a step takes gradients of.
        weights = sharding.copies(weights, names)
        _, pull = jax.vjp(lambda *factors: product(spec, *factors, names, dtype, used(result)), x, weights)
        of_x, of_weights = pull(gradient)
        return of_x, sharding.stored(of_weights, names)

    with contextlib.ExitStack() as stack:
        if sizes:
            mesh = sharding.make_mesh(MeshConfig(**sizes), jax.devices()[: math.prod(sizes.values())])
            stack.enter_context(jax.set_mesh(mesh))
            places = used(x_letters), sharding.STORED.spec(names), used(result)
            x, weights, gradient = map(jax.device_put, (x, weights, gradient), places)
        of_x, of_weights = gradients(x, weights, gradient)
    np.testing.assert_array_equal(of_x, np.einsum(f"{result},{weight_letters}->{x_letters}", gradient, weights))
    np.testing.assert_array_equal(of_weights, np.einsum(f"{x_letters},{result}->{weight_letters}", x, gradient))


@pytest.mark.parametrize("spec", ["BTD,FD->BTF", "BTD,DF->FBT", "BTD,BDF->BTF", "BTD,D->BT", "BT,F->BTF"])
def test_gradients_of_products_of_other_forms(spec):
    """As attention of somebody's own may make them."""
    x, weights, gradient = operands(spec)
    _, pull = jax.vjp(lambda *factors: product(spec, *factors, (None,) * weights.ndim, "float32"), x, weights)
    x_letters, weight_letters, result = re.split(",|->", spec)
    of_x, of_weights = pull(gradient)
    assert relative(of_x, np.einsum(f"{result},{weight_letters}->{x_letters}", gradient, weights)) < 1e-6
    assert relative(of_weights, np.einsum(f"{x_letters},{result}->{weight_letters}", x, gradient)) < 1e-6


@pytest.mark.parametrize(
    ("platform", "flags", "left_out"),
    [
        ("tpu", "--xla_disable_hlo_passes=fusion", None),
        ("cpu", "--xla_dump_to=x", "cse_barrier_expander"),
        ("cpu", "--xla_disable_hlo_passes=dce,fusion --xla_dump_to=x", "dce,fusion,cse_barrier_expander"),
    ],
)
def test_passes_that_a_user_leaves_out_stay_left_out(platform, flags, left_out):
    assert compiler_options(platform, flags).get("xla_disable_hlo_passes") == left_out


@pytest.mark.parametrize("spec", ACTIVATION_SPECS)
@pytest.mark.parametrize(("platform", "flows_in"), [("cpu", jnp.float32), ("tpu", jnp.bfloat16)])
def test_products_of_activations_are_in_the_type_activations_flow_in(spec, platform, flows_in, monkeypatch):
    monkeypatch.setattr(sharding, "platform", lambda: platform)
    x, y, _ = operands(spec)
    found = activation_product(spec, x, y, "bfloat16")
    assert found.dtype == flows_in
    assert relative(found, np.einsum(spec, x, y)) < (1e-6 if platform == "cpu" else 2e-2)


def loss(blueprint, params, dtype):
    model = blueprint.bind(params)
    hidden_BTD, table_VD = model(BATCH), model.output_table()
    real_BT = BATCH["target_segments"] > 0
    sums = smoothed_cross_entropy(
        hidden_BTD, table_VD, BATCH["targets"], real_BT, smoothing=0.1, dtype=dtype, chunk_mb=1
    )
    return sums.loss / sums.tokens, hidden_BTD


def loss_and_gradients(dtype):
    blueprint = blueprint_of(tiny(dtype=dtype))
    return jax.value_and_grad(lambda params: loss(blueprint, params, dtype), has_aux=True), random_params(blueprint)


@pytest.fixture(scope="module")
def in_float32():
    function, params = loss_and_gradients("float32")
    return jax.device_get(jax.jit(function)(params))


def assert_near_float32(found, in_float32):
    (value, hidden_BTD), gradients = found
    (expected, expected_hidden_BTD), expected_gradients = in_float32
    assert value.dtype == jnp.float32
    assert 1e-6 < abs(value - expected) / expected < 1e-2
    assert 1e-4 < relative(hidden_BTD, expected_hidden_BTD) < 2e-2
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(gradients))
    ours, theirs = (
        np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]) for tree in (gradients, expected_gradients)
    )
    assert 1e-4 < relative(ours, theirs) < 5e-2


def test_a_bfloat16_model_is_near_the_float32_model(in_float32):
    function, params = loss_and_gradients("bfloat16")
    found = jax.jit(function)(params)
    assert found[0][1].dtype == jnp.float32, "on a CPU activations stay float32"
    assert_near_float32(found, in_float32)


def test_elsewhere_activations_are_bfloat16_too(in_float32, monkeypatch):
    monkeypatch.setattr(sharding, "platform", lambda: "tpu")
    function, params = loss_and_gradients("bfloat16")
    found = jax.jit(function)(params)
    assert found[0][1].dtype == jnp.bfloat16
    assert_near_float32(found, in_float32)


@pytest.mark.parametrize(("platform", "instructions"), [("cpu", True), ("cpu", False), ("tpu", False)])
def test_which_products_of_a_training_step_are_of_bfloat16(platform, instructions, monkeypatch):
    """A CPU without instructions for them has none."""
    monkeypatch.setattr(sharding, "platform", lambda: platform)
    monkeypatch.setattr(cores, "have_bfloat16", lambda: instructions)
    as_said = "bfloat16" if platform == "tpu" or instructions else "float32"
    assert (computed_in("bfloat16"), computed_in("float32")) == (as_said, "float32")
    function, params = loss_and_gradients("bfloat16")
    program = jax.make_jaxpr(function)(params)
    products = [equation for equation in equations(program.jaxpr) if equation.primitive.name == "dot_general"]
    inputs = collections.Counter(tuple(str(v.aval.dtype) for v in equation.invars) for equation in products)
    # A stack is one scanned body. With weights: 4 + 2 in the encoder, 4 + 4 + 2 in the decoder, 1 in the loss; without:
    # 2 an attention. Backward there are twice as many.
    with_weights, without = 3 * (6 + 10 + 1), 3 * (2 + 4)
    if platform == "cpu":
        of_activations = {("float32", "float32"): without}
        assert inputs == collections.Counter({(as_said, as_said): with_weights}) + collections.Counter(of_activations)
        # A product of bfloat16 that returns bfloat16 is the slow one there.
        assert {str(equation.outvars[0].aval.dtype) for equation in products} == {"float32"}
    else:
        assert inputs == {("bfloat16", "bfloat16"): with_weights + without}

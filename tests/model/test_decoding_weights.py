"""Compact matrices: products within the rounding they promise, whatever the shape, and the same search by them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_model import VARIANTS, VOCABULARY, blueprint_of, random_params, tiny

from transformer import cores
from transformer.config import DecodingConfig, MeshConfig
from transformer.evaluation.search import Search
from transformer.model.compact import Compact, compact
from transformer.model.decoding_weights import in_precision, prepare
from transformer.model.products import product
from transformer.sharding import make_mesh

CASES = {
    "BTD,DF->BTF": ((16,), (24,)),
    "BTD,DNH->BTNH": ((16,), (4, 6)),
    "BTNV,NVD->BTD": ((4, 6), (16,)),
}


@pytest.mark.parametrize("rows", [(1, 1), (2, 3)])
@pytest.mark.parametrize("spec", CASES)
@pytest.mark.parametrize(("precision", "steps"), [("bfloat16", 256), ("int8", 127)])
def test_a_product_is_rounded_by_half_a_step_of_the_largest_of_a_row_and_of_an_output(spec, rows, precision, steps):
    inputs, outputs = CASES[spec]
    rng = np.random.default_rng(0)
    # Rows and outputs of very different sizes: a scale for all of them would lose the small ones.
    x = rng.standard_normal((*rows, *inputs)) * 10.0 ** rng.integers(-3, 3, (*rows, *[1] * len(inputs)))
    matrix = rng.standard_normal((*inputs, *outputs)) * 10.0 ** rng.integers(-3, 3, outputs)
    x, matrix = jnp.asarray(x, jnp.float32), jnp.asarray(matrix, jnp.float32)
    names = (None,) * matrix.ndim
    expected = product(spec, x, matrix, names, "float32")
    ours = product(spec, x, compact(matrix, len(inputs), precision), names, "float32")
    assert ours.dtype == jnp.float32

    count = np.prod(inputs)
    of_rows = np.abs(x).reshape(*rows, count).max(-1).reshape(*rows, *[1] * len(outputs))
    of_outputs = np.abs(matrix).reshape(count, *outputs).max(0)
    # Half a step of either factor, each of which is at most the largest: together a step of both, and a little.
    allowed = 1.01 * count * of_rows * of_outputs / steps
    error = np.abs(ours - expected)
    assert (error <= allowed).all()
    assert (error > 0).any()


@pytest.mark.parametrize("rows", [(1, 1), (2, 3)])
@pytest.mark.parametrize("spec", CASES)
def test_a_float32_matrix_with_its_outputs_first_is_not_rounded(spec, rows):
    inputs, outputs = CASES[spec]
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((*rows, *inputs)), jnp.float32)
    matrix = jnp.asarray(rng.standard_normal((*inputs, *outputs)), jnp.float32)
    names = (None,) * matrix.ndim
    ours = product(spec, x, compact(matrix, len(inputs), "float32"), names, "float32")
    np.testing.assert_allclose(ours, product(spec, x, matrix, names, "float32"), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("spec", CASES)
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
def test_a_product_makes_no_copy_of_a_matrix(spec, precision):
    inputs, outputs = ([16 * size for size in sizes] for sizes in CASES[spec])
    x = jnp.ones((2, 1, *inputs))
    weights = compact(jnp.ones((*inputs, *outputs)), len(inputs), precision)
    names = (None,) * (len(inputs) + len(outputs))
    program = jax.jit(lambda x, weights: product(spec, x, weights, names, "float32")).lower(x, weights).compile()
    assert program.memory_analysis().temp_size_in_bytes < weights.values_OI.nbytes / 4


def test_zeros_stay_zeros():
    matrix = compact(jnp.zeros((4, 3)), 1, "int8")
    assert not product("BTD,DF->BTF", jnp.zeros((1, 2, 4)), matrix, (None, None), "float32").any()


@pytest.fixture
def compact_throughout(monkeypatch):
    """A CPU, if there were one, on which matrices are compact in every precision."""
    monkeypatch.setattr(cores, "have_bfloat16", lambda: True)
    monkeypatch.setattr(cores, "have_512_bits", lambda: False)


@pytest.mark.usefixtures("compact_throughout")
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
def test_every_matrix_of_a_layer_is_compact_and_nothing_else(precision):
    blueprint = in_precision(blueprint_of(tiny(activation="swiglu", positions="t5")), precision)
    params = jax.tree.map(jnp.asarray, random_params(blueprint))
    weights = jax.jit(lambda params: prepare(blueprint, params, precision))(params)
    is_compact = lambda leaf: isinstance(leaf, Compact)  # noqa: E731
    for layer in (*weights.encoder, *weights.decoder):
        leaves = jax.tree_util.tree_leaves_with_path(layer, is_leaf=is_compact)
        for path, leaf in leaves:
            matrix = path[-1].key in ("query", "key", "value", "output", "inner", "gate", "outer")
            assert is_compact(leaf) == matrix, jax.tree_util.keystr(path)
    assert weights.output_DV.values_OI.shape == (VOCABULARY, 16)
    assert weights.output_DV.values_OI.dtype == precision


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("precision", ["model", "bfloat16", "float32"])
def test_a_cpu_without_instructions_for_bfloat16_takes_float32(dtype, precision, monkeypatch):
    monkeypatch.setattr(cores, "have_bfloat16", lambda: False)
    blueprint = in_precision(blueprint_of(tiny(dtype=dtype)), precision)
    assert blueprint.config().dtype == "float32"
    params = jax.tree.map(jnp.asarray, random_params(blueprint))
    weights = prepare(blueprint, params, precision)
    assert {leaf.dtype for leaf in jax.tree.leaves(weights)} == {jnp.dtype("float32")}


ONE_DEVICE = make_mesh(MeshConfig(), jax.devices()[:1])


def found(precision, beam_size, mesh=ONE_DEVICE, **variant):
    """What a search of three sentences finds."""
    blueprint = blueprint_of(tiny(**variant))
    settings = DecodingConfig(beam_size=beam_size, extra_length=4, batch_size=8)
    search = Search([blueprint], mesh, precision)
    with jax.set_mesh(mesh):
        params = jax.device_put(random_params(blueprint), blueprint.shardings(mesh))
    return search(search.prepare([params]), [[5, 9, 7], [20, 21], [8]], settings)


@pytest.mark.usefixtures("compact_throughout")
@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
@pytest.mark.parametrize("beam_size", [1, 3])
def test_a_search_in_fewer_bits_gives_about_the_same_log_probabilities(precision, beam_size):
    plain, ours = (found(which, beam_size) for which in ("float32", precision))
    for (expected,), (output,) in zip(plain, ours, strict=True):
        assert output.log_probability == pytest.approx(expected.log_probability, rel=0.2)
    assert [best.log_probability for (best,) in ours] != [best.log_probability for (best,) in plain]


@pytest.mark.parametrize("beam_size", [1, 3])
def test_a_search_in_float32_is_the_same_whichever_way_matrices_lie(beam_size, monkeypatch):
    def with_bits(have):
        monkeypatch.setattr(cores, "have_512_bits", lambda: have)
        return found("float32", beam_size)

    for (expected,), (output,) in zip(with_bits(True), with_bits(False), strict=True):
        assert output.tokens == expected.tokens
        assert output.log_probability == pytest.approx(expected.log_probability, rel=1e-5)


@pytest.mark.usefixtures("compact_throughout")
@pytest.mark.parametrize(
    ("precision", "variant"), [("float32", "pre_sinusoidal"), ("bfloat16", "paper"), ("int8", "modern")]
)
def test_a_mesh_finds_the_same_with_compact_matrices(precision, variant):
    on_mesh = found(precision, 3, make_mesh(MeshConfig(data=2, fsdp=2, tensor=2)), **VARIANTS[variant])
    for (expected,), (output,) in zip(found(precision, 3, **VARIANTS[variant]), on_mesh, strict=True):
        assert output.tokens == expected.tokens
        assert output.log_probability == pytest.approx(expected.log_probability, rel=1e-4)

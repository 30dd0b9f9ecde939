"""Who depends on whom, what the weights are, and that the way of running the layers changes nothing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import paper_reference
import pytest
from tiny_model import (
    VARIANTS,
    VOCABULARY,
    batch_of,
    blueprint_of,
    equations,
    examples_of,
    from_reference,
    named,
    random_params,
    relative,
    tiny,
)

from transformer import sharding
from transformer.model import layers, transformer
from transformer.model.dropout import DropoutKey

ONE, TWO = examples_of((3, 4), (4, 3))
# The same two examples in one row, then each alone, then a row of nothing.
BATCH = batch_of([[ONE, TWO], [ONE], [TWO], []], source_length=8, target_length=9)


def hidden(blueprint, params, batch=BATCH, key=None):
    return jax.jit(lambda params: blueprint.bind(params)(batch, key))(params)


@functools.cache
def seen_through_gradients(variant: str) -> tuple[np.ndarray, np.ndarray]:
    """(influence, output): bool [B, T, V], which tokens' embeddings move the output at t at all; and the output."""
    blueprint = blueprint_of(tiny(**VARIANTS[variant]))
    params = random_params(blueprint)
    embeddings = {name: params[name] for name in ("source_embedding", "target_embedding") if name in params}
    direction_D = np.random.default_rng(1).standard_normal(16, np.float32)

    def output(embeddings, params):
        hidden_BTD = blueprint.bind(params | embeddings)(BATCH)
        return jnp.einsum("BTD,D->BT", hidden_BTD, direction_D), hidden_BTD

    jacobians, hidden_BTD = jax.jit(jax.jacrev(output, has_aux=True))(embeddings, params)
    influence_BTV = sum(np.abs(table["table"]).sum(-1) for table in jacobians.values()) != 0
    return influence_BTV, np.asarray(hidden_BTD)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_token_sees_its_own_source_and_its_past_and_nothing_else(variant):
    """Causality, packing and padding at once. In every row all tokens differ, so a row of the table is a place."""
    influence_BTV, _ = seen_through_gradients(variant)
    checked = 0
    for row, t in zip(*np.nonzero(BATCH["target_segments"]), strict=True):
        segment = BATCH["target_segments"][row, t]
        own_source = BATCH["source"][row][BATCH["source_segments"][row] == segment]
        own_target = BATCH["target_inputs"][row][BATCH["target_segments"][row] == segment]
        past = own_target[: BATCH["target_positions"][row, t] + 1]
        assert set(np.flatnonzero(influence_BTV[row, t])) == {*own_source, *past}
        checked += 1
    assert checked == 14


@pytest.mark.parametrize("variant", VARIANTS)
def test_packed_equals_alone(variant):
    _, hidden_BTD = seen_through_gradients(variant)
    assert relative(hidden_BTD[0, :4], hidden_BTD[1, :4]) < 1e-5
    assert relative(hidden_BTD[0, 4:7], hidden_BTD[2, :3]) < 1e-5
    assert relative(hidden_BTD[1, :3], hidden_BTD[2, :3]) > 0.1


@pytest.mark.parametrize("variant", VARIANTS)
def test_padding_is_finite(variant):
    _, hidden_BTD = seen_through_gradients(variant)
    assert np.isfinite(hidden_BTD).all()


# --- the order of things inside ---


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_dropout_is_on_every_sublayer_and_on_embeddings_plus_positions(norm, monkeypatch):
    """Section 5.4: "to the output of each sub-layer, before it is added", and "to the sums of the embeddings and the
    positional encodings in both the encoder and decoder stacks". Each place has a mask of its own."""
    seeds = []

    def recording(x_BTD, rate, key):
        assert rate == 0.3
        jax.debug.callback(lambda seed: seeds.append(int(seed)), key.seed)
        return x_BTD

    for module in (layers, transformer):
        monkeypatch.setattr(module, "dropout", recording)
    blueprint = blueprint_of(tiny(norm=norm, dropout=0.3, num_decoder_layers=3))
    key = DropoutKey.of(0, jnp.int32(0), jnp.arange(4))
    hidden(blueprint, random_params(blueprint), key=key).block_until_ready()
    jax.effects_barrier()
    sites = 1 + 2 * 2 + 1 + 3 * 3
    assert len(seeds) == sites
    assert len(set(seeds)) == sites


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_where_dropout_takes_all_from_sublayers_only_embeddings_and_norms_remain(norm, monkeypatch):
    """So dropout acts inside the residual: the x that goes around the sub-layer stays whole."""
    monkeypatch.setattr(layers, "dropout", lambda x_BTD, rate, key: 0 * x_BTD)
    blueprint = blueprint_of(tiny(norm=norm))
    params = random_params(blueprint)
    output_BTD = hidden(blueprint, params)

    x_BTD = 4 * params["target_embedding"]["table"][BATCH["target_inputs"]]
    x_BTD = x_BTD + paper_reference.sinusoids(BATCH["target_positions"], 16)
    if norm == "pre":
        norms = [params["decoder_norm"]]
    else:
        parts = [
            params["decoder"]["layers"][f"{name}_residual"]["norm"]
            for name in ("self_attention", "cross_attention", "feed_forward")
        ]
        norms = [jax.tree.map(lambda leaf, i=i: leaf[i], part) for i in range(2) for part in parts]
    for one in norms:
        x_BTD, _ = paper_reference.layer_norm(one, x_BTD)
    assert relative(output_BTD, x_BTD) < 1e-5


# --- attention weights ---


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_attention_weights_are_those_of_the_reference(norm, monkeypatch):
    recorded = []
    masked_softmax = paper_reference.masked_softmax

    def recording(scores, mask):
        recorded.append(masked_softmax(scores, mask))
        return recorded[-1]

    monkeypatch.setattr(paper_reference, "masked_softmax", recording)
    theirs = paper_reference.init(
        np.random.default_rng(0),
        vocabulary=VOCABULARY,
        layers=2,
        d_model=16,
        d_ff=24,
        heads=2,
        d_k=3,
        d_v=5,
        pre_norm=norm == "pre",
    )
    paper_reference.forward(theirs, BATCH, pre_norm=norm == "pre")
    # In the order in which the reference computes them.
    expected = {
        "encoder_LBNSS": np.stack(recorded[:2]),
        "decoder_LBNTT": np.stack(recorded[2::2]),
        "cross_LBNTS": np.stack(recorded[3::2]),
    }

    blueprint = blueprint_of(tiny(norm=norm, d_k=3, d_v=5))
    params = jax.tree.map(np.float32, from_reference(theirs))
    ours = jax.jit(lambda params: blueprint.bind(params).attention_weights(BATCH))(params)
    for name, weights in expected.items():
        found = np.asarray(getattr(ours, name))
        assert found.dtype == np.float32
        assert found.shape == weights.shape
        np.testing.assert_allclose(found.sum(-1), 1, atol=1e-5)
        sees_something = weights.sum(-1) > 0  # what padding "attends" to means nothing
        assert sees_something.any() and not sees_something.all()
        assert relative(found[sees_something], weights[sees_something]) < 1e-5
        assert not found[sees_something][weights[sees_something] == 0].any()


# --- running the layers ---


def unrolled(unroll: int):
    blueprint = blueprint_of(tiny(unroll=unroll, dropout=0.3, num_decoder_layers=3))
    key = DropoutKey.of(0, jnp.int32(0), jnp.arange(4))

    return hidden(blueprint, random_params(blueprint), key=key)


def test_unrolling_changes_nothing():
    """Of 3 layers and 2, 2 at a time leave a remainder and none. Dropout is on: a layer's masks know their layer."""
    assert relative(unrolled(2), unrolled(1)) < 1e-5


def gradient_program(remat: str, **changes):
    blueprint = blueprint_of(tiny(**({"remat": remat, "dropout": 0.3, "num_decoder_layers": 3} | changes)))
    key = DropoutKey.of(0, jnp.int32(0), jnp.arange(4))

    def loss(params):
        return jnp.sum(jnp.square(blueprint.bind(params)(BATCH, key)))

    return jax.jit(jax.grad(loss)), random_params(blueprint)


@pytest.mark.parametrize("remat", ["all_but_products", "all"])
def test_recomputing_changes_no_gradient_and_keeps_less(remat):
    (plain, params), (again, _) = gradient_program("none"), gradient_program(remat)
    expected = plain(params)
    for name, gradient in named(again(params)).items():
        assert relative(gradient, named(expected)[name]) < 1e-5, name
    kept = [program.lower(params).compile().memory_analysis().temp_size_in_bytes for program in (plain, again)]
    assert kept[1] < kept[0]


def test_what_is_computed_again():
    """Of the products without weights the two of each of the three attentions; of those with weights none, or all."""

    def products(remat: str) -> int:
        gradient, params = gradient_program(remat)
        program = jax.make_jaxpr(gradient)(params)
        return sum(equation.primitive.name == "dot_general" for equation in equations(program.jaxpr))

    plain = products("none")
    assert products("all_but_products") == plain + 2 * 3
    assert products("all") >= plain + 2 * 3 + 6 + 10 - 2  # but for the last product of each stack


@pytest.mark.parametrize(
    ("layers", "unroll", "kept_apart"),
    [(3, 1, False), (4, 2, False), (3, 3, True), (3, 2, True), (1, 1, True)],
)
def test_without_a_loop_recomputation_is_kept_apart(layers, unroll, kept_apart, monkeypatch):
    """Else the compiler would merge it with what it repeats. Of 3 layers, 2 at a time leave one turn and one layer."""
    monkeypatch.setattr(sharding, "platform", lambda: "tpu")  # on a CPU products have barriers of their own
    program, params = gradient_program("all", num_encoder_layers=4, num_decoder_layers=layers, unroll=unroll)
    assert ("optimization_barrier" in program.lower(params).as_text()) == kept_apart

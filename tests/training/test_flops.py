import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from transformer.config import ModelConfig
from transformer.model.blueprint import Blueprint
from transformer.training.flops import BatchCounts, count, training_flops


def segments(*rows):
    """Rows of segment lengths -> a batch side of width 10: segments(...)[0] is 1 1 2 2 2 0 ... for (2, 3)."""
    side = np.zeros((len(rows), 10), np.int32)
    for row, lengths in zip(side, rows, strict=True):
        numbered = np.repeat(np.arange(1, len(lengths) + 1), lengths)
        row[: len(numbered)] = numbered
    return side


def test_counts_tokens_and_pairs_within_examples():
    source, target = segments((2, 3), (4,)), segments((1, 5), (2,))
    counts = count({"source_segments": source, "target_segments": target})

    def pairs(queries, keys):
        same = (queries[:, :, None] == keys[:, None, :]) & (queries[:, :, None] > 0)
        return int(same.sum())

    assert counts == BatchCounts(
        source_tokens=9,
        target_tokens=8,
        padded_source_tokens=20,
        padded_target_tokens=20,
        source_pairs=pairs(source, source),
        target_pairs=pairs(target, target),
        cross_pairs=pairs(target, source),
    )
    assert counts.cross_pairs == 2 * 1 + 3 * 5 + 4 * 2


def test_a_tiny_case_by_hand():
    # One head of d_k = 2, d_v = 3; D = 4, F = 5; one layer of each; 3 source and 2 target tokens; 7 pieces.
    model = ModelConfig(d_model=4, num_heads=1, d_k=2, d_v=3, d_ff=5, num_encoder_layers=1, num_decoder_layers=1)
    counts = BatchCounts(3, 2, 10, 10, source_pairs=9, target_pairs=4, cross_pairs=6)
    encoder = 3 * (4 * 2 + 4 * 2 + 4 * 3 + 3 * 4) + 9 * (2 + 3) + 3 * (4 * 5 + 5 * 4)
    decoder_self = 2 * (4 * 2 + 4 * 2 + 4 * 3 + 3 * 4) + 4 * (2 + 3)
    decoder_cross = 2 * (4 * 2 + 3 * 4) + 3 * (4 * 2 + 4 * 3) + 6 * (2 + 3)
    decoder = decoder_self + decoder_cross + 2 * (4 * 5 + 5 * 4)
    output = 2 * 4 * 7
    assert training_flops(model, 7, counts) == 3 * 2 * (encoder + decoder + output)


def test_is_linear_in_the_counts():
    model = ModelConfig()
    one, other = BatchCounts(3, 2, 10, 10, 9, 4, 6), BatchCounts(5, 7, 10, 10, 13, 25, 35)
    together = training_flops(model, 100, one + other)
    assert together == training_flops(model, 100, one) + training_flops(model, 100, other)


def product_flops(jaxpr):
    """The FLOPs of every product in a program, those in loops as often as they run."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            ((contracted, _), _) = equation.params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            total += 2 * equation.outvars[0].aval.size * int(np.prod([left[axis] for axis in contracted]))
        turns = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
        total += turns * sum(product_flops(inner) for inner in jaxprs_in_params(equation.params))
    return total


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_heads": 4, "num_kv_heads": 2, "activation": "swiglu", "positions": "rotary", "qk_norm": True},
        {"architecture": "language_model", "activation": "geglu", "d_k": 5},
    ],
)
def test_are_the_products_of_the_model_forward_and_backward(changes):
    # On a batch without padding, of one example a row, the formula is what the program does.
    sizes = {"d_model": 16, "num_heads": 2, "d_k": 4, "d_v": 6, "d_ff": 24}
    config = ModelConfig(**(sizes | {"num_encoder_layers": 2, "num_decoder_layers": 3} | changes))
    rows, source_length, target_length, pieces = 3, 5, 4, 11
    side = {"source": source_length, "source_segments": source_length, "source_positions": source_length}
    if config.architecture == "language_model":
        side = {"target_prompt": target_length}
    side |= {"target_inputs": target_length, "target_segments": target_length, "target_positions": target_length}
    batch = {name: np.ones((rows, length), np.int32) for name, length in side.items()}
    blueprint = Blueprint.of(config, pieces, pieces)

    def loss(params):
        model = blueprint.bind(params)
        logits_BTV = jnp.einsum("BTD,VD->BTV", model(batch), model.output_table())
        return jnp.sum(logits_BTV**2)

    program = jax.make_jaxpr(jax.grad(loss))(blueprint.shapes())
    assert training_flops(config, pieces, count(batch)) == product_flops(program.jaxpr)

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params
from jax.interpreters import partial_eval

from transformer.config import ModelConfig, TransferConfig
from transformer.model.blueprint import Blueprint
from transformer.training import leaves
from transformer.training.flops import BatchCounts, count, training_flops
from transformer.training.trainable import Trainable


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


ROWS, SOURCE, TARGET, PIECES = 3, 5, 4, 11
SIDES = {"source": SOURCE, "source_segments": SOURCE, "source_positions": SOURCE}
SIDES |= {"target_inputs": TARGET, "target_segments": TARGET, "target_positions": TARGET}
# Without padding, and of one example a row, so that the formula is what the program does.
BATCH = {name: np.ones((ROWS, length), np.int32) for name, length in SIDES.items()}
COUNTED = count(BATCH)


def small(**changes) -> ModelConfig:
    sizes = {"d_model": 16, "num_heads": 2, "d_k": 4, "d_v": 6, "d_ff": 24}
    return ModelConfig(**(sizes | {"num_encoder_layers": 2, "num_decoder_layers": 3} | changes))


def made(config: ModelConfig, transfer: TransferConfig) -> int:
    """What the program of the gradient with respect to what changes computes."""
    blueprint = Blueprint.of(config, PIECES, PIECES)
    trainable = Trainable.of(transfer, blueprint)
    batch = BATCH if config.architecture == "encoder_decoder" else BATCH | {"target_prompt": BATCH["target_inputs"]}

    def loss(changing, params):
        model = blueprint.bind(trainable.model(params, changing))
        return jnp.sum(jnp.einsum("BTD,VD->BTV", model(batch), model.output_table()) ** 2)

    shapes = leaves.named(blueprint.shapes())
    changing = leaves.nested({name: shapes[name] for name in trainable.changing_names})
    program = jax.make_jaxpr(jax.grad(loss))(changing, blueprint.shapes()).jaxpr
    # What compiling drops, such as one of two gradients that are written together.
    used, _ = partial_eval.dce_jaxpr(program, [True] * len(program.outvars))
    return product_flops(used)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_heads": 4, "num_kv_heads": 2, "activation": "swiglu", "positions": "rotary", "qk_norm": True},
        {"architecture": "language_model", "activation": "geglu", "d_k": 5},
    ],
)
def test_are_the_products_of_the_model_forward_and_backward(changes):
    config = small(**changes)
    assert training_flops(config, PIECES, COUNTED) == made(config, TransferConfig())


@pytest.mark.parametrize("changes", [{}, {"norm": "pre", "tied_embeddings": "none", "num_kv_heads": 1}])
@pytest.mark.parametrize(
    "transfer",
    [
        {"train_only": ("*_attention",)},
        {"lora_rank": 2},
        {"lora_rank": 2, "lora_targets": ("cross_attention/key",)},
        {"train_only": ("cross_attention/value",)},
        {"train_only": ("decoder/*/feed_forward",)},
        {"train_only": ("encoder/*/*/inner",)},
        {"freeze": ("encoder", "*_embedding")},
        {"freeze": ("decoder",)},
        {"train_only": ("target_embedding",)},
        {"train_only": ("decoder/*/*/norm",)},
    ],
)
def test_gradients_that_nobody_asks_for_are_not_counted(changes, transfer):
    config, transfer = small(**changes), TransferConfig(**transfer)
    names = Trainable.of(transfer, Blueprint.of(config, PIECES, PIECES)).changing_names
    found = training_flops(config, PIECES, COUNTED, names)
    assert found == made(config, transfer)
    assert found < training_flops(config, PIECES, COUNTED)


def test_all_names_are_all_parameters():
    names = leaves.named(Blueprint.of(small(), PIECES, PIECES).shapes())
    assert training_flops(small(), PIECES, COUNTED, names) == training_flops(small(), PIECES, COUNTED)

"""Parameters: how many, of which names, the same on every mesh."""

import ast
import itertools
import re

import jax
import numpy as np
import pytest
from tiny_model import VARIANTS, blueprint_of, named, tiny

from transformer.config import MeshConfig, ModelConfig
from transformer.model.blueprint import Blueprint, count
from transformer.sharding import Rules, make_mesh

BASE = {"d_model": 512, "num_heads": 8, "d_ff": 2048}
BIG = {"d_model": 1024, "num_heads": 16, "d_ff": 4096}


def by_the_paper(d_model, h, d_k, d_v, d_ff, layers, vocabulary) -> dict[str, int]:
    """Sections 3.1 to 3.4: what each block holds."""
    attention = h * (d_model * d_k + d_model * d_k + d_model * d_v) + h * d_v * d_model  # W^Q, W^K, W^V; W^O
    feed_forward = d_model * d_ff + d_ff + d_ff * d_model + d_model  # W_1, b_1, W_2, b_2
    norm = 2 * d_model
    return {
        "target_embedding": vocabulary * d_model,
        "encoder": layers * (attention + feed_forward + 2 * norm),
        "decoder": layers * (2 * attention + feed_forward + 3 * norm),
    }


@pytest.mark.parametrize(
    ("sizes", "expected", "millions"),
    [
        (BASE, by_the_paper(512, 8, 64, 64, 2048, 6, 37_000), 65),
        (BIG, by_the_paper(1024, 16, 64, 64, 4096, 6, 37_000), 213),
        # Table 3, rows B: heads of other widths.
        (BASE | {"d_k": 16}, by_the_paper(512, 8, 16, 16, 2048, 6, 37_000), None),
        (BASE | {"d_k": 32, "d_v": 128}, by_the_paper(512, 8, 32, 128, 2048, 6, 37_000), None),
    ],
    ids=["base", "big", "d_k", "d_k_d_v"],
)
def test_parameters_block_by_block(sizes, expected, millions):
    shapes = Blueprint.of(ModelConfig(**sizes), 37_000, 37_000).shapes()
    assert {name: count(block) for name, block in shapes.items()} == expected
    if millions is not None:
        # Table 3's own column fits no single vocabulary.
        assert sum(expected.values()) == pytest.approx(millions * 1e6, abs=4e6)


@pytest.mark.parametrize(
    ("changes", "more"),
    [
        ({"norm": "pre"}, {"encoder_norm": 32, "decoder_norm": 32}),
        ({"positions": "learned", "max_length": 50}, {"source_positions": 800, "target_positions": 800}),
        ({"positions": "none"}, {}),
        ({"tied_embeddings": "output"}, {"source_embedding": 70 * 16}),
        ({"tied_embeddings": "none"}, {"source_embedding": 70 * 16, "output": 30 * 16}),
    ],
)
def test_what_options_add_to_the_paper(changes, more):
    source_size = 70 if "source_embedding" in more else 30
    blueprint = Blueprint.of(tiny(**changes), source_size, 30)
    expected = by_the_paper(16, 2, 8, 8, 24, 2, 30) | more
    assert {name: count(block) for name, block in blueprint.shapes().items()} == expected
    assert blueprint.vocab_sizes() == (source_size, 30)


def test_one_embedding_cannot_serve_two_vocabularies():
    with pytest.raises(ValueError, match="one vocabulary, not 30 and 31"):
        Blueprint.of(tiny(), 30, 31)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_dimension_of_every_parameter_has_a_name(variant):
    blueprint = blueprint_of(tiny(**VARIANTS[variant]))
    # The names as text: named() would go on into the tuples.
    all_names = named(jax.tree.map(str, blueprint.names(), is_leaf=lambda leaf: isinstance(leaf, tuple)))
    shapes = named(blueprint.shapes())
    assert all_names.keys() == shapes.keys()
    for path, shape in shapes.items():
        names = ast.literal_eval(all_names[path])
        assert len(names) == len(shape.shape), path
        assert set(names) <= {*Rules.__dataclass_fields__, "layers", None}, path
        assert (names[0] == "layers") == ("layers" in path), path
        # What is large must be split over both fsdp and tensor; tables of positions are not worth it.
        of_one_layer = set(names) - {"layers"}
        if len(shape.shape) - ("layers" in path) > 1 and not re.search("positions|relative", path):
            assert "embed" in of_one_layer and of_one_layer & {"heads", "feed_forward", "vocabulary"}, path


@pytest.fixture(scope="module")
def fresh():
    """Initial parameters of one model on one device, on eight, and with another seed."""
    config = tiny()
    blueprint = blueprint_of(config)
    one = make_mesh(MeshConfig(), jax.devices()[:1])
    eight = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    return [
        named(jax.device_get(blueprint.init(seed, config, mesh))) for seed, mesh in ((0, one), (0, eight), (1, one))
    ]


def test_initial_parameters_are_the_same_on_every_mesh(fresh):
    one, eight, _ = fresh
    for name, values in one.items():
        np.testing.assert_array_equal(eight[name], values, err_msg=name)


def test_initial_parameters_are_all_drawn_afresh(fresh):
    """No two layers, heads or matrices begin alike, and none begins alike with two seeds."""
    drawn = []
    for values in (fresh[0], fresh[2]):
        for name, array in values.items():
            if name.split("/")[-1] in ("scale", "bias", "inner_bias", "outer_bias"):
                assert (array == (1 if name.endswith("scale") else 0)).all(), name
            else:
                drawn += [(name, np.sort(part.ravel())[:8]) for part in (array if "layers" in name else [array])]
    assert len(drawn) == 2 * (1 + 2 * (6 + 10))
    for (name, first), (other, second) in itertools.combinations(drawn, 2):
        assert not np.array_equal(first, second), (name, other)


def test_initial_parameters_have_their_variance(fresh):
    """Glorot and Bengio's 2 / (fan_in + fan_out); the embedding's 1 / d_model, so that times sqrt(d_model) it is 1."""
    for name, array in fresh[0].items():
        last = name.split("/")[-1]
        variance = {
            "table": 1 / 16,
            **dict.fromkeys(("query", "key", "value", "output"), 2 / (16 + 2 * 8)),
            **dict.fromkeys(("inner", "outer"), 2 / (16 + 24)),
        }.get(last)
        if variance is not None:
            # Four standard deviations of a sample's variance; a uniform one's is smaller than a normal one's.
            assert array.var() == pytest.approx(variance, rel=4 * np.sqrt(2 / array.size)), name

"""An attention class of the user's, in a module outside the package, works by config alone."""

import importlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_cached_decoding import assert_cached_is_uncached
from tiny_model import VOCABULARY, batch_of, blueprint_of, examples_of, random_params, relative, tiny

from transformer import config as config_module
from transformer.config import Config, ConfigError, MeshConfig
from transformer.model.attention import MultiHeadAttention, attention_class
from transformer.model.blueprint import Blueprint
from transformer.model.masks import Places, SameSegment, distances
from transformer.sharding import make_mesh, to_global
from transformer.training.step import Trainer

# Attention with linear biases (Press et al. 2022), with a slope a head that is learned.
MODULE = """
import jax.numpy as jnp
from flax import nnx

from transformer.model.attention import MultiHeadAttention


class Biased(MultiHeadAttention):
    def __init__(self, config, *, role, rngs):
        super().__init__(config, role=role, rngs=rngs)
        self.slope = nnx.Param(2.0 ** -jnp.arange(1.0, 1 + config.num_heads), axes=("heads",))

    def scores(self, q_BTNH, places, memory):
        distance_B1TS = abs(places.positions_BT[:, None, :, None] - memory.places.positions_BT[:, None, None, :])
        bias_BNTS = self.slope[...][None, :, None, None] * distance_B1TS.astype(jnp.float32)
        return super().scores(q_BTNH, places, memory) - bias_BNTS
"""
# Keys at even positions only, and oneself: any boolean will do.
MASK_MODULE = """
import dataclasses

import jax

from transformer.model.attention import MultiHeadAttention
from transformer.model.masks import Mask


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Even(Mask):
    def allowed(self, queries, keys):
        at, of = queries.positions_BT[:, None, :, None], keys.positions_BT[:, None, None, :]
        return (of % 2 == 0) | (of == at)


class SeesEven(MultiHeadAttention):
    def __call__(self, x_BTD, places, memory, mask, key=None):
        return super().__call__(x_BTD, places, memory, mask & Even(), key)

    def weights(self, x_BTD, places, memory, mask):
        return super().weights(x_BTD, places, memory, mask & Even())
"""


@pytest.fixture(scope="module", autouse=True)
def outside(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outside")
    (folder / "mine").mkdir()
    (folder / "mine" / "linear_bias.py").write_text(MODULE)
    (folder / "mine" / "even.py").write_text(MASK_MODULE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield
    for name in ("mine.linear_bias", "mine.even", "mine"):
        sys.modules.pop(name, None)


def own(**changes):
    return tiny(attention="mine.linear_bias:Biased", positions="none", **changes)


def test_trains_by_config_alone():
    config = Config(model=own())
    # As a run does: through validation and JSON.
    config = config_module.from_json(config_module.to_json(config_module.validate(config)))
    blueprint = Blueprint.of(config.model, VOCABULARY, VOCABULARY)
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    trainer = Trainer.of(config, blueprint, mesh)
    batch = batch_of([[one] for one in examples_of((3, 4), (4, 3))], source_length=4, target_length=4)
    with jax.set_mesh(mesh):
        state = trainer.init()
        before = jax.device_get(state.params)
        state, report = trainer.train_step(state, to_global(batch, mesh))
    assert np.isfinite(report.window.sums.loss)
    for stack, attention in (("encoder", "self"), ("decoder", "self"), ("decoder", "cross")):
        old, new = (params[stack]["layers"][f"{attention}_attention"]["slope"] for params in (before, state.params))
        assert (np.asarray(new) != old).all(), "its own parameters should be trained"


class ByDistance(MultiHeadAttention):
    def scores(self, q_BTNH, places, memory):
        return super().scores(q_BTNH, places, memory) - jnp.abs(distances(places, memory.places))[:, None]


def test_how_far_another_text_is_goes_by_position():
    """In a packed row the second pair's two sides begin at different columns, as long as both sides of the row are."""
    one, two = examples_of((3, 4), (4, 3))
    batch = batch_of([[one, two], [one], [two]], source_length=8, target_length=8)
    blueprint = blueprint_of(tiny(attention=f"{__name__}:ByDistance", positions="none"))
    hidden_BTD = jax.jit(lambda params: blueprint.bind(params)(batch))(random_params(blueprint))
    assert relative(hidden_BTD[0, :4], hidden_BTD[1, :4]) < 1e-5
    assert relative(hidden_BTD[0, 4:7], hidden_BTD[2, :3]) < 1e-5


def test_cached_equals_uncached():
    assert_cached_is_uncached(own())


def test_a_mask_of_ones_own():
    config = tiny(attention="mine.even:SeesEven", positions="rotary")
    assert_cached_is_uncached(config)
    batch = batch_of([examples_of((4, 6))], source_length=4, target_length=6)
    blueprint = blueprint_of(config)
    seen = jax.jit(lambda params: blueprint.bind(params).attention_weights(batch))(random_params(blueprint))
    unseen_TT = (np.arange(6)[None, :] % 2 == 1) & ~np.eye(6, dtype=bool)
    assert not np.asarray(seen.decoder_LBNTT)[..., unseen_TT].any()
    assert np.asarray(seen.decoder_LBNTT)[..., np.tril(~unseen_TT)].all()


def test_it_is_what_the_model_attends_with():
    """Positions come in through its bias alone: with slopes of 0 it is the paper's attention, with others it is not."""
    batch = batch_of([examples_of((3, 4))], source_length=3, target_length=4)
    blueprint, plain = blueprint_of(own()), blueprint_of(tiny(positions="none"))
    assert isinstance(blueprint.bind(blueprint.shapes()).decoder.layers.cross_attention, MultiHeadAttention)
    params = random_params(blueprint)

    def slopes(path, leaf):
        return 0 * leaf if path[-1].key == "slope" else leaf

    flat = jax.tree_util.tree_map_with_path(slopes, params)

    def without_slope(tree):
        return {k: without_slope(v) for k, v in tree.items() if k != "slope"} if isinstance(tree, dict) else tree

    run = jax.jit(lambda params: blueprint.bind(params)(batch))
    expected = jax.jit(lambda params: plain.bind(params)(batch))(without_slope(params))
    assert relative(run(flat), expected) < 1e-5
    assert relative(run(params), expected) > 1e-2


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("mine.missing:Biased", ["No module named 'mine.missing'", "PYTHONPATH"]),
        ("not_installed_anywhere:Biased", ["No module named 'not_installed_anywhere'", "PYTHONPATH"]),
        ("mine.linear_bias:Missing", ["has no attribute 'Missing'", "Name a class that the module defines"]),
        ("mine.linear_bias:nnx", ["is module, not a class", "Name a class"]),
    ],
)
def test_what_is_not_there_is_said_with_the_way_out(name, told):
    with pytest.raises(ConfigError) as caught:
        attention_class(tiny(attention=name))
    for text in ("config.model.attention", name, *told):
        assert text in str(caught.value)


def test_a_fault_inside_the_module_is_not_hidden(outside, tmp_path, monkeypatch):
    """An import that fails within the user's module is told as such, and its other errors come through as they are."""
    (tmp_path / "faulty_module.py").write_text("1 / 0\n")
    (tmp_path / "needy_module.py").write_text("import not_installed_anywhere\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    with pytest.raises(ZeroDivisionError):
        attention_class(tiny(attention="faulty_module:Biased"))
    with pytest.raises(ConfigError, match="No module named 'not_installed_anywhere'"):
        attention_class(tiny(attention="needy_module:Biased"))


def test_nobody_can_describe_its_programs():
    """They are not kept for a later process: its code may be another by then."""
    assert blueprint_of(own()).description() is None


def test_a_query_with_nothing_to_see_is_finite():
    """Padding in a batch: all keys are masked, and neither the output nor a gradient is NaN."""
    blueprint = blueprint_of(tiny(num_encoder_layers=1, num_decoder_layers=1))
    attention = blueprint.bind(random_params(blueprint)).encoder.unstacked()[0].self_attention
    x_BTD = jnp.ones((1, 2, 16))
    places = Places(jnp.zeros((1, 2), jnp.int32), jnp.zeros((1, 2), jnp.int32))

    def output(x_BTD):
        memory = attention.keys_values(x_BTD, places)
        return attention(x_BTD, places, memory, SameSegment()).sum()

    value, gradient = jax.jit(jax.value_and_grad(output))(x_BTD)
    assert np.isfinite(value) and np.isfinite(gradient).all()

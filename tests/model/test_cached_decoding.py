"""Decoding with a cache equals running the whole model over each hypothesis, whatever the ancestry of the hypotheses.

Letters: T positions, B sentences, K slots, V vocabulary.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from tiny_model import VARIANTS, VOCABULARY, blueprint_of, random_params, relative, tiny

from transformer.config import DecodingConfig, MeshConfig
from transformer.evaluation.search import Search
from transformer.model.encoder_decoder import source_places
from transformer.sharding import USED, make_mesh

SLOTS, LENGTH = 3, 5
SOURCE_SIZES = (4, 6, 1, 3)


@dataclasses.dataclass(frozen=True)
class Course:
    """A search as the model sees it: what each slot appended when, and whose past each hypothesis took over."""

    tokens_TBK: np.ndarray
    slots_TBKT: np.ndarray

    def prefixes(self) -> np.ndarray:
        """[T, B, K, T]: the tokens of hypothesis k up to position t, 0 beyond."""
        prefixes = np.zeros_like(self.slots_TBKT)
        for t, b, k, past in np.ndindex(prefixes.shape):
            if past <= t:
                prefixes[t, b, k, past] = self.tokens_TBK[past, b, self.slots_TBKT[t, b, k, past]]
        return prefixes


def random_course() -> Course:
    rng = np.random.default_rng(0)
    shape = (LENGTH, len(SOURCE_SIZES), SLOTS)
    # Entries beyond the present mean nothing: here they are any.
    slots_TBKT = rng.integers(0, SLOTS, (*shape, LENGTH), np.int32)
    for t in range(LENGTH):
        if t:
            parents_BK = rng.integers(0, SLOTS, shape[1:])
            slots_TBKT[t, :, :, :t] = np.take_along_axis(slots_TBKT[t - 1], parents_BK[:, :, None], axis=1)[:, :, :t]
        slots_TBKT[t, :, :, t] = np.arange(SLOTS)
    return Course(rng.integers(3, VOCABULARY, shape, np.int32), slots_TBKT)


COURSE = random_course()


def sources() -> dict[str, np.ndarray]:
    tokens = np.random.default_rng(1).integers(3, VOCABULARY, (len(SOURCE_SIZES), max(SOURCE_SIZES)), np.int32)
    segments = (np.arange(tokens.shape[1]) < np.array(SOURCE_SIZES)[:, None]).astype(np.int32)
    positions = np.arange(tokens.shape[1], dtype=np.int32) * segments
    return {"source": tokens, "source_segments": segments, "source_positions": positions}


def cached(blueprint, params, source) -> jax.Array:
    """Logits [T, B, K, V] step by step along `COURSE`."""
    model = blueprint.bind(params)
    memory = model.encode(source["source"], source_places(source))
    step, cache = model.start_decoding(memory, SLOTS, LENGTH)

    def turn(cache, inputs):
        tokens_BK, position, slots_BKT = inputs
        logits_BKV, cache = step(tokens_BK, position, slots_BKT, cache)
        return cache, logits_BKV

    course = (source["tokens_BTK"].swapaxes(0, 1), jnp.arange(LENGTH), source["slots_BTKT"].swapaxes(0, 1))
    return jax.lax.scan(turn, cache, course)[1]


def inputs() -> dict[str, np.ndarray]:
    """The sentences and the course, all by rows."""
    course = {"tokens_BTK": COURSE.tokens_TBK.swapaxes(0, 1), "slots_BTKT": COURSE.slots_TBKT.swapaxes(0, 1)}
    return sources() | course


def uncached(blueprint, params) -> jax.Array:
    """Logits [T, B, K, V] of every hypothesis as it stood at every position, each a sentence pair of its own."""
    prefixes = COURSE.prefixes().reshape(-1, LENGTH)
    of_prefix = np.tile(np.repeat(np.arange(len(SOURCE_SIZES)), SLOTS), LENGTH)
    ends = np.repeat(np.arange(LENGTH), len(SOURCE_SIZES) * SLOTS)
    steps = np.broadcast_to(np.arange(LENGTH, dtype=np.int32), prefixes.shape)
    real = (steps <= ends[:, None]).astype(np.int32)
    batch = {name: rows[of_prefix] for name, rows in sources().items()}
    batch |= {"target_inputs": prefixes, "target_segments": real, "target_positions": steps}
    model = blueprint.bind(params)
    hidden_RD = model(batch)[np.arange(len(ends)), ends]
    return jnp.einsum("RD,VD->RV", hidden_RD, model.output_table()).reshape(*COURSE.tokens_TBK.shape, VOCABULARY)


def assert_cached_is_uncached(config, tolerance=1e-5):
    blueprint = blueprint_of(config)
    both = jax.jit(lambda params, inputs: (cached(blueprint, params, inputs), uncached(blueprint, params)))
    ours, expected = both(jax.tree.map(jnp.asarray, random_params(blueprint)), inputs())
    assert ours.dtype == jnp.float32
    assert np.linalg.norm(expected - expected[:, :, :1]) > 0.1 * np.linalg.norm(expected), "slots should differ"
    for t in range(LENGTH):
        assert relative(ours[t], expected[t]) < tolerance, f"at position {t}"


@pytest.mark.parametrize("variant", VARIANTS)
def test_cached_equals_uncached(variant):
    assert_cached_is_uncached(tiny(**VARIANTS[variant]))


def test_cached_equals_uncached_in_bfloat16():
    """Up to rounding: sums in another order fall on another of the 8 bits now and then."""
    assert_cached_is_uncached(tiny(dtype="bfloat16"), tolerance=1e-2)


def test_the_ancestry_table_matters():
    """Were it ignored, the tests above would have to fail."""
    blueprint = blueprint_of(tiny())
    program = jax.jit(lambda params, inputs: cached(blueprint, params, inputs))
    params = jax.tree.map(jnp.asarray, random_params(blueprint))
    given = inputs()
    own = np.broadcast_to(np.arange(SLOTS, dtype=np.int32)[:, None], given["slots_BTKT"].shape)
    difference = np.asarray(program(params, given) - program(params, given | {"slots_BTKT": own}))
    assert not difference[0].any()
    assert difference[1:].any(axis=-1).mean() > 0.3


# --- many devices ---


@pytest.fixture(scope="module")
def mesh():
    return make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))


def test_a_mesh_computes_the_same_logits(mesh):
    blueprint = blueprint_of(tiny())
    params = random_params(blueprint)
    expected = jax.jit(lambda params, inputs: cached(blueprint, params, inputs))(
        jax.tree.map(jnp.asarray, params), inputs()
    )
    by_rows = NamedSharding(mesh, USED.spec(("batch",)))
    with jax.set_mesh(mesh):
        placed = jax.device_put(params, blueprint.shardings(mesh))
        ours = jax.jit(lambda params, inputs: cached(blueprint, params, inputs))(
            placed, jax.device_put(inputs(), by_rows)
        )
    assert relative(ours, expected) < 1e-5


def test_a_mesh_finds_the_same_translations(mesh):
    blueprint = blueprint_of(tiny())
    params = random_params(blueprint)
    settings = DecodingConfig(beam_size=3, extra_length=4, batch_size=8)
    sentences = [[5, 9, 7], [20, 21], [8], [30, 4, 6, 11]]

    def found(mesh):
        search = Search([blueprint], mesh)
        with jax.set_mesh(mesh):
            placed = jax.device_put(params, blueprint.shardings(mesh))
        return search(search.prepare([placed]), sentences, settings, num_hypotheses=1)

    one = found(make_mesh(MeshConfig(), jax.devices()[:1]))
    many = found(mesh)
    for (ours,), (expected,) in zip(many, one, strict=True):
        assert ours.tokens == expected.tokens
        assert ours.log_probability == pytest.approx(expected.log_probability, rel=1e-4)
    assert len({tuple(best.tokens) for (best,) in one}) > 1

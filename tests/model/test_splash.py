"""Splash attention, interpreted on a CPU, is plain attention; what it is told is the mask; it lowers for a TPU."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attention_cases import MASKS, SEGMENTED_CAUSAL, Case, places, plain
from tiny_model import assert_close

from transformer import sharding
from transformer.config import MeshConfig
from transformer.model import splash
from transformer.model.masks import Padding, Places, SameSegment, Window
from transformer.model.splash import Band, Blocks


def kernel(mask, soft_cap=0.0):
    def attend(q_BTNH, keys_BSKH, values_BSKH, queries, keys):
        return splash.attend(q_BTNH, keys_BSKH, values_BSKH, mask, queries, keys, soft_cap=soft_cap, interpret=True)

    return attend


def both_ways(case: Case, mask, soft_cap=0.0):
    """(What real queries find, gradients), by the kernel and plainly."""
    (ours, our_gradients), (expected, gradients) = (
        jax.jit(case.found(attend(mask, soft_cap)))(case) for attend in (kernel, plain)
    )
    assert np.isfinite(np.asarray(ours, np.float32)).all(), "also for padding"
    return (case.of_real(ours), our_gradients), (case.of_real(expected), gradients)


# --- what it is told of a mask ---


@pytest.mark.parametrize("name", MASKS)
def test_band_and_groups_are_the_mask(name):
    mask = MASKS[name]
    row = places(1, 40)
    allowed = np.asarray(mask.allowed(row, row))[0, 0]
    queries, keys = (np.asarray(each)[0] for each in splash.groups(mask, row, row))
    band, columns = splash.band(mask), np.arange(40)
    told = np.array([[band.visits(t, t, s, s) and queries[t] == keys[s] for s in columns] for t in columns])
    real = np.asarray(row.segments_BT)[0] > 0
    np.testing.assert_array_equal(told[real], allowed[real])
    assert not told[real][:, ~real].any()


@pytest.mark.parametrize("length", [1, 127, 128, 129, 512, 513, 640, 1000, 1153, 5000])
def test_blocks_are_few_and_little_is_filled_up(length):
    blocks = Blocks.of(length)
    assert blocks.size % 128 == 0 and blocks.size <= 512
    assert blocks.length - length < blocks.size
    assert (blocks.count - 1) * 512 < length


@pytest.mark.parametrize(
    ("band", "length", "shards", "told"),
    [
        (Band(), 1024, 1, "blocks_4_of_4"),
        (Band(None, 0), 1024, 1, "blocks_3_of_4"),
        (Band(None, 0), 200, 1, "blocks_1_of_1"),
        (Band(99, 0), 2048, 1, "blocks_7_of_16"),
        (Band(None, 0), 2048, 2, "blocks_7_of_8"),  # of the device with the last queries
    ],
)
def test_how_many_blocks_are_visited_is_told(band, length, shards, told):
    assert splash.visits(band, length, length, shards) == told
    if shards == 1:
        visited = np.asarray(splash._kernel(band, length, length, 1, 0.0, True).fwd_mask_info.block_mask) > 0
        assert told.startswith(f"blocks_{visited.sum()}_")


# --- against plain attention ---


@pytest.mark.parametrize("name", MASKS)
def test_masks(name):
    assert_close(*both_ways(Case.random(), MASKS[name]), 1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {"heads": 4, "key_heads": 2},
        {"heads": 2, "key_heads": 1, "size": 16, "value_size": 8},
        {"length": 24, "key_length": 60, "mask": SameSegment(), "soft_cap": 2.0},
        {"length": 129, "key_length": 129, "rows": 1, "size": 20, "value_size": 36},
        {"length": 300, "key_length": 20, "rows": 1, "size": 20, "value_size": 20, "mask": Padding()},
        {"length": 600, "key_length": 600, "rows": 1},  # several blocks: a pass more for the gradient of queries
        {"length": 600, "key_length": 600, "rows": 1, "mask": SameSegment() & Window(30)},
    ],
    ids=["grouped", "multi-query", "cross, capped", "odd", "odd, short keys", "blocks", "blocks, window"],
)
def test_shapes(changes):
    changes = dict(changes)
    mask, soft_cap = changes.pop("mask", SEGMENTED_CAUSAL), changes.pop("soft_cap", 0.0)
    assert_close(*both_ways(Case.random(**changes), mask, soft_cap), 1e-5)


@pytest.mark.parametrize("name", MASKS)
def test_packed_rows(name):
    """Each with examples of other lengths, of one token too; in padding positions may be anything."""
    rng, length = np.random.default_rng(0), 150
    segments, positions = rng.integers(0, 99, (2, 2, length)).astype(np.int32)
    for row, end in enumerate((length - 20, length)):
        starts = np.sort(rng.choice(np.arange(1, end), 12 * row + 4, replace=False))
        lengths = np.diff(starts, prepend=0, append=end)
        segments[row] = 0
        segments[row, :end] = np.repeat(np.arange(len(lengths)) + 1, lengths)
        positions[row, :end] = np.concatenate([np.arange(size) for size in lengths])
    row = Places(jnp.asarray(positions), jnp.asarray(segments))
    case = dataclasses.replace(Case.random(length, length, heads=2, key_heads=1), queries=row, keys=row)
    assert_close(*both_ways(case, MASKS[name]), 1e-5)


def test_bfloat16():
    ours, expected = both_ways(Case.random(dtype="bfloat16"), SEGMENTED_CAUSAL)
    assert {leaf.dtype for leaf in jax.tree.leaves(ours)} == {jnp.dtype(jnp.bfloat16)}
    assert_close(ours, expected, 0.01)


@pytest.mark.parametrize("mask", [SEGMENTED_CAUSAL, Padding()], ids=["causal", "padding"])
def test_padding_has_no_influence(mask):
    case = Case.random()
    real = case.keys.segments_BT > 0

    def changed(array_BSKH):
        return jnp.where(real[:, :, None, None], array_BSKH, 100.0)

    other = dataclasses.replace(case, keys_BSKH=changed(case.keys_BSKH), values_BSKH=changed(case.values_BSKH))
    run = jax.jit(case.found(kernel(mask)))
    (before, gradients), (after, _) = run(case), run(other)
    np.testing.assert_array_equal(case.of_real(before), case.of_real(after))
    for gradient_BSKH in gradients[1:]:
        assert not np.asarray(gradient_BSKH)[~np.asarray(real)].any()


def test_a_query_with_nothing_to_see_is_finite():
    case = Case.random(length=24, key_length=60)
    empty = dataclasses.replace(case.keys, segments_BT=0 * case.keys.segments_BT)
    found, gradients = jax.jit(case.found(kernel(SameSegment())))(dataclasses.replace(case, keys=empty))
    assert all(np.isfinite(leaf).all() for leaf in (found, *gradients))


@pytest.mark.parametrize(
    ("mesh", "mask"),
    [
        (MeshConfig(data=2, sequence=2, tensor=2), SEGMENTED_CAUSAL & Window(30)),
        (MeshConfig(data=2, sequence=2, tensor=2), SameSegment()),
        (MeshConfig(fsdp=2, sequence=4), SEGMENTED_CAUSAL),
    ],
    ids=["all axes", "all axes, no band", "parts of a row"],
)
def test_on_several_devices(mesh, mask):
    case = Case.random(length=80, key_length=80, rows=4, heads=4, key_heads=2)
    expected, gradients = jax.jit(case.found(plain(mask)))(case)
    mesh = sharding.make_mesh(mesh)
    split = case.split(mesh)
    with jax.set_mesh(mesh):
        ours, our_gradients = jax.jit(split.found(kernel(mask)))(split)
    assert ours.sharding.is_equivalent_to(split.q_BTNH.sharding, 4)
    ours = case.of_real(jax.device_get(ours))
    assert_close((ours, our_gradients), (case.of_real(expected), gradients), 1e-5)


# --- for a TPU ---


def test_it_lowers_for_a_tpu():
    """Not that it runs there: libtpu's compiler takes it in tests/planning."""
    case = Case.random(length=600, key_length=600, rows=1, size=64, value_size=64, dtype="bfloat16")

    def attend(q_BTNH, keys_BSKH, values_BSKH, queries, keys):
        return splash.attend(q_BTNH, keys_BSKH, values_BSKH, SEGMENTED_CAUSAL, queries, keys)

    text = jax.export.export(jax.jit(case.found(attend)), platforms=["tpu"])(case).mlir_module()
    for phase in ("fwd_segmented_residuals", "dkv_segmented", "dq_segmented"):
        assert f"splash_mha_{phase}" in text
    assert "blocks_3_of_4" in text

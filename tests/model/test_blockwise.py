"""Attention in blocks is plain attention, and has no array of all scores."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attention_cases import MASKS, SEGMENTED_CAUSAL, Case, plain
from tiny_model import assert_close, blueprint_of, tiny

from transformer import sharding
from transformer.config import MeshConfig
from transformer.model import blockwise
from transformer.model.blockwise import Extent
from transformer.model.masks import Causal, Chunk, Given, Mask, Padding, Places, Prompt, SameSegment, Window

# Beside those that every kernel serves.
ALL_MASKS = MASKS | {
    "prefix": SameSegment() & (Causal() | Prompt()),
    "either": SameSegment() & (Window(2) | Chunk(4)),
    "causal alone": Causal(),
    "window alone": Window(9),
    "chunk, padding": Chunk(7) & Padding(),
}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(blockwise, "LARGEST", 16)


def kernel(mask, soft_cap=0.0):
    def attend(q_BTNH, keys_BSKH, values_BSKH, queries, keys):
        return blockwise.attend(q_BTNH, keys_BSKH, values_BSKH, mask, queries, keys, soft_cap=soft_cap)

    return attend


def both_ways(case: Case, mask, soft_cap=0.0):
    """(What real queries find, gradients), in blocks and plainly."""
    (ours, our_gradients), (expected, gradients) = (
        jax.jit(case.found(attend(mask, soft_cap)))(case) for attend in (kernel, plain)
    )
    assert np.isfinite(np.asarray(ours, np.float32)).all(), "also for padding"
    return (case.of_real(ours), our_gradients), (case.of_real(expected), gradients)


def packed(rows: int, length: int) -> Places:
    """Each row with examples of other lengths, of one token too; positions of padding may be anything; some prompts."""
    rng = np.random.default_rng(0)
    segments, positions = rng.integers(0, 99, (2, rows, length)).astype(np.int32)
    for row in range(rows):
        end = length - 20 * (row % 2)
        starts = np.sort(rng.choice(np.arange(1, end), 6 * row + 2, replace=False))
        lengths = np.diff(starts, prepend=0, append=end)
        segments[row] = 0
        segments[row, :end] = np.repeat(np.arange(len(lengths)) + 1, lengths)
        positions[row, :end] = np.concatenate([np.arange(size) for size in lengths])
    return Places(*map(jnp.asarray, (positions, segments, (positions < 3) & (segments > 0))))


# --- against plain attention ---


@pytest.mark.parametrize("name", ALL_MASKS)
def test_packed_rows(name):
    row = packed(2, 90)
    case = dataclasses.replace(Case.random(90, 90, heads=4), queries=row, keys=row)
    assert_close(*both_ways(case, ALL_MASKS[name]), 1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {"heads": 4, "key_heads": 2, "soft_cap": 2.0},
        {"heads": 3, "key_heads": 1, "size": 16, "value_size": 12},
        {"length": 24, "key_length": 60, "mask": SameSegment(), "soft_cap": 2.0},
        {"length": 61, "key_length": 9, "mask": Padding()},
        {"length": 33, "key_length": 33, "size": 5, "value_size": 7},
        {"length": 16, "key_length": 16},
        {"length": 7, "key_length": 7, "mask": Padding()},
    ],
    ids=["grouped, capped", "multi-query", "cross, capped", "short keys", "odd", "one block", "less than a block"],
)
def test_shapes(changes):
    changes = dict(changes)
    mask, soft_cap = changes.pop("mask", SEGMENTED_CAUSAL), changes.pop("soft_cap", 0.0)
    assert_close(*both_ways(Case.random(**changes), mask, soft_cap), 1e-5)


def test_bfloat16():
    ours, expected = both_ways(Case.random(dtype="bfloat16"), SEGMENTED_CAUSAL)
    assert {leaf.dtype for leaf in jax.tree.leaves(ours)} == {jnp.dtype(jnp.bfloat16)}
    assert_close(ours, expected, 0.02)


def test_scores_of_any_size():
    """The best score grows and falls from block to block by hundreds: no exponential overflows, none is lost."""
    case = Case.random()
    case = dataclasses.replace(
        case, keys_BSKH=case.keys_BSKH * 10.0 ** jnp.arange(-3, 3).repeat(7)[None, :40, None, None]
    )
    assert_close(*both_ways(case, SEGMENTED_CAUSAL), 1e-4)


def test_a_query_with_nothing_to_see_finds_zeros_and_has_no_influence():
    case = Case.random(length=24, key_length=60)
    empty = dataclasses.replace(case.keys, segments_BT=0 * case.keys.segments_BT)
    found, gradients = jax.jit(case.found(kernel(SameSegment())))(dataclasses.replace(case, keys=empty))
    assert not any(np.asarray(leaf).any() for leaf in (found, *gradients))


@pytest.mark.parametrize(
    "mesh",
    [MeshConfig(data=2, sequence=2, tensor=2), MeshConfig(fsdp=2, sequence=4)],
    ids=["all axes", "parts of a row"],
)
def test_on_several_devices(mesh):
    """Each has a part of the queries: their positions say where they stand."""
    mask = SEGMENTED_CAUSAL & Window(30)
    case = Case.random(length=80, key_length=80, rows=4, heads=4, key_heads=2)
    expected, gradients = jax.jit(case.found(plain(mask)))(case)
    mesh = sharding.make_mesh(mesh)
    split = case.split(mesh)
    with jax.set_mesh(mesh):
        ours, our_gradients = jax.jit(split.found(kernel(mask)))(split)
    assert ours.sharding.is_equivalent_to(split.q_BTNH.sharding, 4)
    assert_close((case.of_real(jax.device_get(ours)), our_gradients), (case.of_real(expected), gradients), 1e-5)


# --- which pairs of blocks are visited ---


@pytest.mark.parametrize("name", ALL_MASKS)
def test_no_block_that_is_seen_is_left_out(name):
    row, size = packed(6, 96), 8
    allowed = jnp.broadcast_to(ALL_MASKS[name].allowed(row, row), (6, 1, 96, 96))[:, 0]
    seen = np.asarray(allowed).reshape(6, 12, size, 12, size).any(axis=(2, 4))
    for number in range(6):
        blocks = Extent.of(jax.tree.map(lambda array, n=number: array[n].reshape(12, 1, size), row))
        met = np.asarray(blockwise.meet(ALL_MASKS[name], blocks, blocks))
        assert met.shape == (12, 12) and (met | ~seen[number]).all()


@pytest.mark.parametrize(
    ("mask", "visited"),
    [
        (SameSegment(), 64),
        (SEGMENTED_CAUSAL, 36),
        (SEGMENTED_CAUSAL & Window(8), 15),
        (SameSegment() & Window(8), 22),
        (SameSegment() & Chunk(16), 16),
        (SEGMENTED_CAUSAL & Chunk(16), 12),
    ],
    ids=["all", "causal", "causal window", "window", "chunk", "causal chunk"],
)
def test_what_a_mask_rules_out_is_left_out(mask, visited):
    """A row of one example, in eight blocks of 8."""
    positions = jnp.arange(64, dtype=jnp.int32).reshape(8, 1, 8)
    blocks = Extent.of(Places(positions, jnp.ones_like(positions)))
    assert int(blockwise.meet(mask, blocks, blocks).sum()) == visited


def test_other_examples_and_padding_are_left_out():
    segments = jnp.asarray([1, 1, 2, 2, 2, 0, 0, 0], jnp.int32).repeat(8).reshape(8, 1, 8)
    blocks = Extent.of(Places(jnp.zeros_like(segments), segments))
    assert int(blockwise.meet(SameSegment(), blocks, blocks).sum()) == 2 * 2 + 3 * 3
    assert int(blockwise.meet(Padding(), blocks, blocks).sum()) == 8 * 5


def test_masks_that_hold_arrays_or_may_are_not_known():
    class Own(Mask):
        pass

    for unknown in (Given(jnp.ones((1, 1, 4, 4), bool)), Own()):
        assert not blockwise.knows(unknown)
        assert not blockwise.knows(SameSegment() & unknown) and not blockwise.knows(Causal() | unknown)
    assert all(map(blockwise.knows, ALL_MASKS.values()))


# --- memory ---


def largest_array(compiled) -> int:
    """Elements of the largest array in a compiled program."""
    shapes = re.findall(r"\b(?:f32|bf16|s32|u32|pred|s8|u8)\[([\d,]+)\]", compiled.as_text())
    return max(int(np.prod([int(size) for size in shape.split(",")])) for shape in shapes)


@pytest.mark.parametrize("name", ["segments", "causal", "prefix", "either"])
def test_no_array_of_all_scores(name, monkeypatch):
    """Forward and backward; the plain one has them, so that they would be found."""
    monkeypatch.undo()  # blocks as they are
    length = 2048
    case = jax.eval_shape(lambda: Case.random(40, 40, rows=1))
    arrays = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((1, length, *leaf.shape[2:]), leaf.dtype), case)

    def largest(attend):
        return largest_array(jax.jit(arrays.found(attend(ALL_MASKS[name]))).lower(arrays).compile())

    assert largest(plain) >= length**2
    assert largest(kernel) < length**2 / 16


def test_a_model_of_8192_positions_needs_memory_by_length_not_by_its_square():
    """The three attentions of an encoder-decoder with gradients, chosen by itself. A head's scores alone are 256 MB."""
    config = tiny(num_encoder_layers=1, num_decoder_layers=1)

    def temporary(length):
        blueprint = blueprint_of(config)
        names = ("source", "source_segments", "source_positions")
        names += ("target_inputs", "targets", "target_segments", "target_positions")
        batch = {name: jax.ShapeDtypeStruct((1, length), np.int32) for name in names}

        def loss(params, batch):
            return jnp.sum(blueprint.bind(params)(batch))

        compiled = jax.jit(jax.grad(loss)).lower(blueprint.shapes(), batch).compile()
        assert largest_array(compiled) < length**2
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporary(8192) < 2.5 * temporary(4096)
    assert temporary(8192) < 2 * 8192**2

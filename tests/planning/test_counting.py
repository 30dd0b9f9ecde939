"""What is counted of a program, against sums made by hand; and against the model's own formula."""

import pytest
from programs import ASYNCHRONOUS, BRANCHES, LOOP, SCATTER

from transformer.planning.counting import convolution_flops, count
from transformer.planning.hlo import Program


def test_a_loop_is_counted_as_often_as_it_is_run():
    counts = count(Program.parse(LOOP))
    assert counts.flops == 3 * 2 * 8 * 16 * 32
    [message] = counts.messages
    assert (message.kind, message.times, message.operand_bytes) == ("all-reduce", 3, 4 * 8 * 32)
    assert message.arrays == "f32[8,32]"
    assert not message.between_slices


def test_bytes_are_those_of_hbm():
    """Per turn: one layer of the stack and the turn's number in, y out; y through the all-reduce, whose result is in
    fast memory; the update into its place. Once: x into fast memory."""
    layer, y, number = 2 * 16 * 32, 4 * 8 * 32, 4
    product = layer + number + y
    all_reduce = y
    update = number + y
    add = 2 * number  # what it counts with; its result is in scalar memory
    assert count(Program.parse(LOOP)).bytes == 3 * (product + all_reduce + update + add) + 2 * 8 * 16


def test_of_branches_the_costliest_is_counted():
    """Not the one with the most instructions."""
    assert count(Program.parse(BRANCHES)).flops == 2 * 8 * 16 * 32


def test_copies_ahead_are_not_waited_for():
    ahead = [operation for operation in count(Program.parse(LOOP)).operations if not operation.waits]
    assert [(operation.times, operation.bytes) for operation in ahead] == [(1, 2 * 8 * 16)]


def test_a_collective_beside_a_product_is_one():
    counts = count(Program.parse(ASYNCHRONOUS))
    [message] = counts.messages
    assert (message.kind, message.times, message.operand_bytes) == ("all-gather", 1, 2 * 16 * 64)
    assert counts.flops == 2 * 8 * 64 * 32
    began = 2 * (2 * 16 * 64) + 2 * 64 * 64  # its part is read and handed on, the whole is written
    product = 2 * (8 * 64 + 64 * 32 + 8 * 32)
    assert counts.bytes == began + product


def test_a_fused_reduce_scatter_is_one_and_slices_talk_through_hosts():
    scatter, between = count(Program.parse(SCATTER)).messages
    assert (scatter.kind, scatter.operand_bytes, scatter.source) == (
        "reduce-scatter",
        4 * 128 * 128,
        "jit(step)/reshard",
    )
    assert (between.kind, between.operand_bytes) == ("all-reduce", 4 * 32 * 128)
    assert between.between_slices and not scatter.between_slices


@pytest.mark.parametrize(
    ("left", "right", "out", "attributes", "multiply_adds"),
    [
        # A plain product, [128, 256] x [256, 512].
        ((128, 256), (256, 512), (128, 512), "dim_labels=bf_io->bf", 128 * 256 * 512),
        # BTD,DNH->BTNH: heads are a window of two places, of which padding leaves each result one.
        (
            (8, 128, 128, 1),
            (128, 2, 64, 1),
            (8, 128, 2, 64),
            "window={size=1x2 pad=0_0x1_1 rhs_reversal=0x1}, dim_labels=0bf1_i1o0->0b1f",
            8 * 128 * 128 * 2 * 64,
        ),
        # BTNH,BSNH->BNTS: a batched product, written as a convolution with dilation.
        (
            (8, 128, 2, 64),
            (8, 128, 2, 64),
            (8, 2, 128, 128),
            "window={size=8x2 stride=7x1 lhs_dilate=8x2}, dim_labels=0b1f_0o1i->01bf",
            8 * 2 * 128 * 128 * 64,
        ),
    ],
)
def test_products_written_as_convolutions(left, right, out, attributes, multiply_adds):
    assert convolution_flops(left, right, out, attributes) == 2 * multiply_adds


def test_a_dot_is_counted_too():
    text = """\
HloModule step

ENTRY %main (x: f32[4,8], y: f32[8,16]) -> f32[4,16] {
  %x = f32[4,8]{1,0} parameter(0)
  %y = f32[8,16]{1,0} parameter(1)
  ROOT %dot = f32[4,16]{1,0} dot(%x, %y), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}
"""
    counts = count(Program.parse(text))
    assert counts.flops == 2 * 4 * 8 * 16
    assert counts.bytes == 4 * (4 * 8 + 8 * 16 + 4 * 16)


def test_a_kernel_computes_what_it_says():
    text = """\
HloModule step

ENTRY %main (x: f32[4,8]) -> f32[4,8] {
  %x = f32[4,8]{1,0} parameter(0)
  ROOT %k = f32[4,8]{1,0} custom-call(%x), custom_call_target="tpu_custom_call", backend_config={"cost":{"flops":"640"}}
}
"""
    assert count(Program.parse(text)).flops == 640

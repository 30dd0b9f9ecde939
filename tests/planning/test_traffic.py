"""Where memory traffic comes from, against sums made by hand."""

import dataclasses

from transformer.planning.chips import chip_of
from transformer.planning.counting import Operation
from transformer.planning.traffic import Traffic, largest

CHIP = dataclasses.replace(chip_of("v5e"), peak_flops=100.0, hbm_bandwidth=10.0)


def test_those_alike_are_added_up_and_the_largest_come_first():
    operations = [
        Operation(1, 0, 30, arrays="f32[3]", source="add"),
        Operation(3, 100, 20, arrays="f32[8]", source="dot"),  # 2 s of memory, 1 s of products
        Operation(1, 400, 20, arrays="f32[8]", source="dot"),  # 4 s of products hide the memory
        Operation(1, 0, 50, waits=False, arrays="f32[5]"),
    ]
    assert largest(operations, CHIP, 3) == (
        Traffic("f32[8]", "dot", 4, 80, 3.0),
        Traffic("f32[5]", "", 1, 50, 0.0),
        Traffic("f32[3]", "add", 1, 30, 3.0),
    )
    assert len(largest(operations, CHIP, 2)) == 2

"""The roofline, against sums made by hand."""

import dataclasses

import pytest

from transformer.planning.chips import chip_of
from transformer.planning.counting import Operation
from transformer.planning.roofline import roofline, utilisation

# 100 FLOP/s, 10 bytes/s.
CHIP = dataclasses.replace(chip_of("v5e"), peak_flops=100, hbm_bandwidth=10)


def test_instructions_follow_each_other():
    """First 2 s of computing (1 s of memory), then twice 3 s of memory (0.5 s of computing)."""
    times = roofline([Operation(1, 200, 10), Operation(2, 50, 30)], CHIP)
    assert (times.compute, times.memory, times.chip, times.step) == (3, 7, 8, 8)
    assert times.bound == "HBM"


def test_copies_ahead_take_no_time_of_their_own_while_memory_is_free():
    work = Operation(1, 1000, 20)
    assert roofline([work, Operation(1, 0, 60, waits=False)], CHIP).step == 10
    assert roofline([work, Operation(1, 0, 160, waits=False)], CHIP).step == 18


@pytest.mark.parametrize(
    ("ici", "dcn", "step", "bound"),
    [(0, 0, 10, "compute"), (12, 0, 12, "ICI"), (12, 13, 13, "DCN"), (9, 9, 10, "compute")],
)
def test_the_longest_bounds(ici, dcn, step, bound):
    times = roofline([Operation(1, 1000, 20)], CHIP, ici, dcn)
    assert (times.step, times.bound) == (step, bound)
    assert times.unhidden == 10 + ici + dcn


def test_utilisation():
    assert utilisation(600, 2, 1000) == 0.3

"""How a report calls where things come from."""

import pytest

from transformer.planning.collectives import Exchange
from transformer.planning.report import grouped


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("", "(made by the compiler)"),
        ("broadcast.277", "update: broadcast.277"),
        ("jit(step)/jvp()/while/body/BTD,DF->BTF/dot_general", "forward, in a loop: BTD,DF->BTF dot_general"),
        ("jit(step)/transpose(jvp())/reshard", "backward: reshard"),
    ],
)
def test_the_last_words_of_an_operation_are_told(source, told):
    one = Exchange("all-reduce", "ICI", 4, "f32[8]", 1, 32.0, 1e-6, source)
    [both] = grouped([one, one])
    assert (both.times, both.bytes, both.source) == (2, 64.0, told)

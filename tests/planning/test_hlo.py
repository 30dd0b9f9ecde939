"""Compiled programs as text, read."""

import pytest
from programs import LOOP

from transformer.planning.errors import PlanError
from transformer.planning.hlo import Array, Program


def program(**changes: str) -> Program:
    text = LOOP
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    return Program.parse(text)


def test_types_have_their_sizes_and_places():
    body = program().computations["body"]
    assert body.instructions["y"].arrays == (Array("f32", (8, 32), in_hbm=True),)
    assert body.instructions["x"].arrays == (Array("bf16", (8, 16), in_hbm=False),)
    assert body.instructions["carry"].bytes == 4 + 2 * 8 * 16 + 2 * 3 * 16 * 32 + 4 * 3 * 8 * 32
    assert Array("pred", (3, 5)).bytes == 15
    assert Array("s4", (3, 4)).bytes == 6
    assert Array("f8e4m3fn", (7,)).bytes == 7


def test_operands_and_attributes():
    body = program().computations["body"]
    all_reduce = body.instructions["all"]
    assert all_reduce.opcode == "all-reduce"
    assert all_reduce.operands == ("y",)
    assert all_reduce.attribute("replica_groups") == "[2,2]<=[4]"
    assert all_reduce.attribute("direction") is None
    assert all_reduce.source.endswith("closed_call/reduce_sum")
    assert body.instructions["y"].called == ("fused",)
    assert body.root.name == "result"
    assert [user.name for user in body.users["i"]] == ["y", "new", "next"]


def test_the_turns_of_a_loop_are_its_limit():
    parsed = program()
    assert parsed.entry.name == "main"
    assert parsed.trip_count(parsed.entry.instructions["loop"]) == 3


def test_the_turns_that_the_compiler_notes_come_first():
    noted = program(**{"body=%body": 'body=%body, backend_config={"known_trip_count":{"n":"5"}}'})
    assert noted.trip_count(noted.entry.instructions["loop"]) == 5


def test_a_loop_without_a_known_end_is_told():
    endless = program(**{"direction=LT": "direction=NE"})
    with pytest.raises(PlanError, match="How often the loop loop"):
        endless.trip_count(endless.entry.instructions["loop"])


def test_other_text_is_refused():
    with pytest.raises(PlanError, match="no ENTRY"):
        Program.parse("HloModule nothing\n")


def test_what_an_array_takes_in_memory():
    """Whole tiles of its two innermost dimensions, which its layout names first."""
    text = """\
HloModule step

ENTRY %main (a: bf16[4,100,64], b: bf16[4,100,64], c: f32[5]) -> f32[5] {
  %a = bf16[4,100,64]{2,1,0:T(8,128)(2,1)} parameter(0)
  %b = bf16[4,100,64]{1,2,0:T(8,128)(2,1)S(1)} parameter(1)
  ROOT %c = f32[5]{0:T(128)} parameter(2)
}
"""
    a, b, c = (each.arrays[0] for each in Program.parse(text).entry)
    assert (a.bytes, a.held_bytes) == (4 * 100 * 64 * 2, 4 * 104 * 128 * 2)
    assert (b.held_bytes, b.in_hbm) == (4 * 128 * 64 * 2, False)
    assert c.held_bytes == c.bytes == 20

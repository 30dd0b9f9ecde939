"""Documents in parts: nothing is lost or added, and marks say what belongs together."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer.data import documents
from transformer.data.documents import in_parts, of_pair


@pytest.fixture(autouse=True, scope="module")
def short_parts():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "PART", 8)
        yield


@settings(deadline=None)
@given(st.lists(st.text(max_size=30)), st.text(max_size=5))
def test_parts_make_the_document(blocks, prompt):
    parts = list(in_parts(blocks, prompt))
    assert "".join(part.text for part in parts) == "".join(blocks)
    assert all(len(part.text) <= 8 for part in parts)
    assert [part.prompt for part in parts] == [prompt] + [""] * (len(parts) - 1)
    assert not parts[0].continues and not parts[-1].continued
    assert all(before.continued and after.continues for before, after in pairwise(parts))
    assert parts[0].whole == (len(parts) == 1)


def test_parts_end_where_blocks_do():
    assert [part.text for part in in_parts(["aaa\n", "bb\n", "cc\n", "d\n"])] == ["aaa\nbb\n", "cc\nd\n"]


def test_a_pair_without_source_has_no_prompt():
    assert [part.prompt for part in (*of_pair("a", "b"), *of_pair("", "b"))] == ["a\n", ""]

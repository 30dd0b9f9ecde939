"""Token stores: what goes in comes out, from memory and from files."""

import numpy as np
import pytest

from transformer.data.store import SIDES, Ragged, TokenStore, write_side

SENTENCES = [[5, 6, 7], [], [65_535], [8, 9]]


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
def test_ragged_round_trip(dtype):
    ragged = Ragged.from_lists(SENTENCES, dtype)
    assert [ragged[index].tolist() for index in range(len(ragged))] == SENTENCES
    assert ragged.lengths.tolist() == [3, 0, 1, 2]
    assert ragged.tokens.dtype == dtype and ragged.offsets.dtype == np.int64


@pytest.mark.parametrize("index", [-1, 4])
def test_no_sentence_beyond_the_ends(index):
    with pytest.raises(IndexError):
        Ragged.from_lists(SENTENCES)[index]


def test_ids_beyond_the_type_are_an_error():
    with pytest.raises(OverflowError):
        Ragged.from_lists([[65_536]], np.uint16)


def test_parts_written_as_one_are_mapped_back(tmp_path):
    parts = [SENTENCES, [], [[1]], [[2, 3], []]]
    for side in SIDES:
        ragged = [Ragged.from_lists(part, np.uint16) for part in parts]
        write_side(tmp_path, side, [part.offsets for part in ragged], (part.tokens for part in ragged))
    opened = TokenStore.open(tmp_path)
    expected = [sentence for part in parts for sentence in part]
    for side in (opened.source, opened.target):
        assert [side[index].tolist() for index in range(len(opened))] == expected
        assert isinstance(side.tokens, np.memmap) and side.tokens.dtype == np.uint16
        assert not side.tokens.flags.writeable


def test_sides_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match="2 source sentences, but 1 target"):
        TokenStore.from_lists([[1], [2]], [[1]])

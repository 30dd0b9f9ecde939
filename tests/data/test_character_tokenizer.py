"""Characters and bytes: whatever goes in comes out, also token by token, and files that are none are told apart."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer.data.character_tokenizer import CharacterTokenizer, describe
from transformer.data.errors import DataError
from transformer.data.tokenizer import BOS, EOS, PAD, UNK, Tokenizers, from_bytes

TEXTS = ["First Citizen:\nSpeak, speak.\n\n", "\t Ähre \r\n日本 \U0001f600\u2581 ", "", "\ufffd\x00"]
BYTES = CharacterTokenizer(describe("", with_bytes=True))
KNOWN = CharacterTokenizer(describe("".join(TEXTS), with_bytes=False))
BOTH = CharacterTokenizer(describe("abc \n", with_bytes=True))


@pytest.mark.parametrize("tokenizer", [BYTES, KNOWN, BOTH])
def test_text_comes_back(tokenizer):
    ids = tokenizer.encode(TEXTS)
    assert tokenizer.decode(ids) == TEXTS
    assert all(isinstance(token, int) and UNK < token < tokenizer.size for text in ids for token in text)
    assert tokenizer.encode([]) == [] and tokenizer.decode([]) == []


@settings(deadline=None)
@given(st.lists(st.text(), max_size=4))
@pytest.mark.parametrize("tokenizer", [BYTES, BOTH])
def test_any_text_comes_back_with_bytes(tokenizer, texts):
    assert tokenizer.decode(tokenizer.encode(texts)) == texts
    ragged = tokenizer.encode_ragged(texts)
    assert [ragged[number].tolist() for number in range(len(ragged))] == tokenizer.encode(texts)
    assert ragged.tokens.dtype == tokenizer.dtype == np.uint16


@settings(deadline=None)
@given(st.lists(st.integers(0, BOTH.size - 1)))
def test_any_tokens_are_the_same_at_once_and_one_by_one(ids):
    stream = BOTH.stream()
    assert "".join([*(stream.add(token) for token in ids), stream.end()]) == BOTH.decode([ids])[0]


def test_a_character_comes_with_its_last_byte():
    stream = BYTES.stream()
    assert [stream.add(token) for token in BYTES.encode(["aé日"])[0]] == ["a", "", "é", "", "", "日"]
    assert stream.end() == ""
    first, *_ = BYTES.encode(["é"])[0]
    assert (stream.add(first), stream.end()) == ("", "")  # it has ended
    stream = BYTES.stream()
    assert [stream.add(BOS), stream.add(first), stream.end()] == ["", "", "\ufffd"]
    stream = BYTES.stream()
    assert [stream.add(first), stream.add(*BYTES.encode(["x"])[0], EOS), stream.add(first)] == ["", "\ufffdx", ""]


def test_unknown_characters():
    ids = KNOWN.encode(["e☃r"])[0]
    assert ids[1] == UNK and KNOWN.decode([ids]) == ["e\ufffdr"]
    # Before and beyond all that is known.
    assert KNOWN.encode(["\x01\U0010ffff"]) == [[UNK, UNK]]
    assert UNK not in BOTH.encode(["a☃b"])[0]


def test_ids_and_pieces():
    assert BYTES.size == 260 and BYTES.encode(["A"]) == [[4 + 65]]
    assert BYTES.pieces()[:5] == ["<pad>", "<s>", "</s>", "<unk>", "<0x00>"]
    assert BOTH.pieces()[260:] == ["\n", " ", "a", "b", "c"]
    assert BOTH.pieces(np.array(BOTH.encode(["c\n"])[0])) == ["c", "\n"]
    assert [len(tokenizer.pieces()) for tokenizer in (BYTES, KNOWN, BOTH)] == [260, KNOWN.size, 265]


def test_special_ids_end_or_leave_the_text():
    ids = BOTH.encode(["ab"])[0]
    decorated = [[BOS, *ids, EOS, *ids], [PAD, *ids, PAD, PAD], [EOS, *ids], [], np.array(ids, np.uint16)]
    assert BOTH.decode(decorated) == ["ab", "ab", "", "", "ab"]


def test_lines_hold_no_line_end():
    assert BYTES.decode_lines(BYTES.encode(["a\r\nb\nc"])) == ["a  b c"]


@pytest.mark.parametrize(("with_bytes", "characters"), [(True, ""), (False, "abc"), (True, "abc")])
def test_a_vocabulary_is_filled_up(with_bytes, characters):
    tokenizer = CharacterTokenizer(describe(characters, with_bytes=with_bytes, size_multiple_of=64))
    unused = [number for number, name in enumerate(tokenizer.pieces()) if name.startswith("<unused")]
    assert tokenizer.size % 64 == 0 and len(unused) < 64 and unused[-1] == tokenizer.size - 1
    assert tokenizer.decode([unused, tokenizer.encode(["ab"])[0]])[0] == ""


def test_the_same_characters_give_the_same_file():
    assert (
        describe("cab", with_bytes=False)
        == describe(["bc", "a", "b"], with_bytes=False)
        != describe("ab", with_bytes=False)
    )


@pytest.mark.parametrize("tokenizer", [BYTES, KNOWN])
def test_files_round_trip(tokenizer):
    files = Tokenizers(tokenizer, tokenizer).to_files()
    again = Tokenizers.from_files(files)
    assert list(files) == ["source.json"] and again.shared
    assert again.target.encode(TEXTS) == tokenizer.encode(TEXTS)
    assert list(Tokenizers(tokenizer, BOTH).to_files()) == ["source.json", "target.json"]


@pytest.mark.parametrize(
    "content", [b"{", b"{}", b'{"characters": 3, "bytes": true, "size": 3}', BYTES.model_bytes[:-3]]
)
def test_damaged_files(content):
    with pytest.raises(DataError, match="is not the file of a character or byte tokenizer, or a damaged one"):
        from_bytes(content)


@pytest.mark.parametrize("change", [{"size": 3}, {"characters": "aa"}, {"bytes": 2}])
def test_files_that_describe_nothing(change):
    described = json.loads(BOTH.model_bytes) | change
    with pytest.raises(DataError, match="is not the file"):
        from_bytes(json.dumps(described).encode())

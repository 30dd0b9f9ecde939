"""Text files as documents: every character, however they are split, compressed or cut."""

import gzip
import json
import lzma

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer.config import DataConfig
from transformer.data import corpora, documents
from transformer.data.errors import DataError

TEXT = "  First\r\nline\u2028é\n\n \t\nsecond paragraph\nof it \n\n\n\nlast, without end"


def read(corpus: str) -> list[str]:
    """The texts of whole documents."""
    parsed = corpora.parse(corpus, DataConfig())
    corpora.check([parsed])
    texts = []
    for part in parsed.documents():
        if part.continues:
            texts[-1] += part.text
        else:
            texts.append(part.text)
    return texts


def write(path, text: str) -> str:
    path.write_bytes(text.encode())
    return str(path)


def test_a_file_is_a_document_character_by_character(tmp_path):
    names = ["a.txt", "b.txt.gz", "c.txt.xz"]
    for name, encode in zip(names, (bytes, gzip.compress, lzma.compress), strict=True):
        (tmp_path / name).write_bytes(encode(TEXT.encode()))
    assert read("text:" + ",".join(f"{tmp_path}/{name}" for name in names)) == [TEXT] * 3
    assert read(f"text:{tmp_path}/*.txt*") == [TEXT] * 3
    assert read(f"text:file:{tmp_path}/a.txt") == [TEXT]


def test_a_range_in_which_no_document_begins(tmp_path):
    with pytest.raises(DataError, match=r"a.txt\[90%:\]' is empty.* name a larger part"):
        read(f"text:lines:{write(tmp_path / 'a.txt', TEXT)}[90%:]")


def test_a_byte_order_mark_is_no_text(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfx\n")
    assert read(f"text:{tmp_path}/a.txt") == ["x\n"]


def test_splittings(tmp_path):
    file = write(tmp_path / "a.txt", TEXT)
    lines = ["  First", "line\u2028é", "", " \t", "second paragraph", "of it ", "", "", "", "last, without end"]
    assert read(f"text:lines:{file}") == lines
    paragraphs = ["  First\r\nline\u2028é", "second paragraph\nof it ", "last, without end"]
    assert read(f"text:paragraphs:{file}") == paragraphs
    objects = write(tmp_path / "a.jsonl", "".join(json.dumps({"id": 1, "text": text}) + "\n" for text in paragraphs))
    assert read(f"text:jsonl:{objects}") == paragraphs


@pytest.mark.parametrize("part", [7, 2**20])
@pytest.mark.parametrize("percent", ["33%", "90%", "2.5%", "0%"])
def test_two_ranges_of_a_file_make_it_whole(tmp_path, monkeypatch, percent, part):
    monkeypatch.setattr(documents, "PART", part)
    file = write(tmp_path / "a.txt", TEXT)
    size = int(len(TEXT) * float(percent[:-1]) / 100)
    ranges = [f"[:{percent}]", f"[{percent}:]"] if size else ["[0%:]"]
    halves = [read(f"text:{file}{each}") for each in ranges]
    assert ["".join(half) for half in halves] == ([TEXT[:size], TEXT[size:]] if size else [TEXT])
    # The last line begins before.
    for splitting in () if percent == "90%" else ("lines", "paragraphs"):
        documents_of = [read(f"text:{splitting}:{file}{each}") for each in ranges]
        assert sum(documents_of, []) == read(f"text:{splitting}:{file}")


@settings(deadline=None)
@given(st.text())
def test_any_text_comes_back(tmp_path_factory, text):
    file = write(tmp_path_factory.mktemp("any") / "a.txt", text)
    expected = [text.removeprefix("\ufeff")]
    assert read(f"text:{file}") == expected


def test_ranges_and_splittings_are_other_corpora():
    names = ["text:a", "text:lines:a", "text:a[:90%]", "text:a[90%:]", "text:a,b[:90%]", "text:a[:90%],b"]
    identities = {corpora.parse(name, DataConfig()).source.identity for name in names}
    assert len(identities) == len(names)


# --- bad input, each with its message ---


@pytest.mark.parametrize(
    ("content", "splitting", "message"),
    [
        (b"good\nb\xe4d\n", "file", "a.txt, line 2: byte 0xe4 at offset 6 is not UTF-8"),
        (b"", "lines", "is empty: it has no text at all"),
        (b"\n\n", "paragraphs", "is empty"),
        (b'{"text": "a"}\n{"text": \n', "jsonl", "a.txt, line 2: no JSON"),
        (b'{"body": "a"}\n', "jsonl", 'line 1: no object with a text in its field "text"'),
        (b"[1]\n", "jsonl", "line 1: no object"),
        (b'{"text": 3}\n', "jsonl", "line 1: no object"),
    ],
)
def test_faults_are_named_with_their_place(tmp_path, content, splitting, message):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(DataError) as caught:
        read(f"text:{splitting}:{tmp_path}/a.txt")
    assert message in str(caught.value)


def test_damaged_archive(tmp_path):
    (tmp_path / "a.gz").write_bytes(gzip.compress(TEXT.encode() * 99)[:-9])
    with pytest.raises(DataError, match="a.gz, .* the compressed file is damaged"):
        read(f"text:{tmp_path}/a.gz")


@pytest.mark.parametrize("name", ["none.txt", "*.txt"])
def test_missing_files(tmp_path, name):
    with pytest.raises(DataError, match="no such file"):
        read(f"text:{tmp_path}/{name}")

"""Line files: what is read, and what is said about files that cannot be."""

import gzip
import lzma
import re

import pytest

from transformer.config import DataConfig
from transformer.data import corpora
from transformer.data.errors import DataError
from transformer.data.line_files import read_lines

DATA = DataConfig()


def read(corpus: str) -> list[tuple[str, str]]:
    parsed = corpora.parse(corpus, DATA)
    corpora.check([parsed])
    return list(parsed.pairs())


def write(path, content: bytes):
    path.write_bytes(content)
    return path


def test_lines_end_at_newline_only_and_lose_surrounding_whitespace(tmp_path):
    text = "eins\u2028zwei\x85drei\x0b\x1cvier\r\n  \t fünf \u3000\n\nletzte"
    lines = list(read_lines(write(tmp_path / "a.txt", text.encode())))
    assert lines == ["eins\u2028zwei\x85drei\x0b\x1cvier", "fünf", "", "letzte"]


def test_byte_order_mark_is_not_text(tmp_path):
    assert list(read_lines(write(tmp_path / "a.txt", b"\xef\xbb\xbfHaus\n"))) == ["Haus"]


@pytest.mark.parametrize(("ending", "compress"), [(".txt", bytes), (".gz", gzip.compress), (".xz", lzma.compress)])
def test_plain_and_compressed_files_read_alike(tmp_path, ending, compress):
    source = write(tmp_path / f"a.en{ending}", compress(b"one\ntwo\n"))
    target = write(tmp_path / f"a.de{ending}", compress("eins\nzwölf\n".encode()))
    assert read(f"lines:{source}:{target}") == [("one", "eins"), ("two", "zwölf")]


def test_several_files_a_side_follow_each_other(tmp_path):
    a, b, c, d = (write(tmp_path / name, f"{name}\n".encode()) for name in "abcd")
    assert read(f"lines:{a},{b}:{c},{d}") == [("a", "c"), ("b", "d")]


def test_tsv(tmp_path):
    first = write(tmp_path / "a.tsv", b"one\teins\r\n two \tzwei\n\tleer\n")
    second = write(tmp_path / "b.tsv.gz", gzip.compress(b"three\tdrei\n"))
    assert read(f"tsv:{first},{second}") == [("one", "eins"), ("two", "zwei"), ("", "leer"), ("three", "drei")]


def test_home_folder_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "a.tsv", b"one\teins\n")
    assert read("tsv:~/a.tsv") == [("one", "eins")]


# --- bad input, each with its message ---


def assert_refused(corpus: str, *parts: str):
    with pytest.raises(DataError) as caught:
        read(corpus)
    for part in parts:
        assert part in str(caught.value)


def test_every_missing_file_is_listed(tmp_path):
    there = write(tmp_path / "there.de", b"x\n")
    assert_refused(
        f"lines:{tmp_path}/no.en,{tmp_path}:{there},{tmp_path}/none.de",
        f"{tmp_path}/no.en: no such file",
        f"{tmp_path}/none.de: no such file",
        f"{tmp_path}: not a regular file",
    )


@pytest.mark.parametrize(("source", "target"), [(3, 5), (5, 3), (0, 2), (4, 3)])
def test_sides_of_unequal_length_give_both_counts_and_names_of_the_pair_that_differs(tmp_path, source, target):
    same = write(tmp_path / "same", b"x\n")
    a, b = write(tmp_path / "a", b"x\n" * source), write(tmp_path / "b", b"y\n" * target)
    assert_refused(f"lines:{same},{a},{same}:{same},{b},{same}", f"{a} has {source} lines", f"{b} has {target}")


def test_undecodable_bytes_give_file_line_and_offset(tmp_path):
    good = "schön\n".encode()
    path = write(tmp_path / "a.de", good * 2 + "grün\n".encode("latin-1"))
    source = write(tmp_path / "a.en", b"x\n" * 3)
    offset = 2 * len(good) + 2
    assert_refused(f"lines:{source}:{path}", f"{path}, line 3: byte 0xfc at offset {offset} is not UTF-8", "iconv")
    assert path.read_bytes()[offset] == 0xFC


def test_undecodable_bytes_in_a_compressed_file_and_behind_a_byte_order_mark(tmp_path):
    content = b"\xef\xbb\xbfab\xff\n"
    path = write(tmp_path / "a.tsv.gz", gzip.compress(content))
    assert_refused(f"tsv:{path}", f"{path}, line 1: byte 0xff at offset {content.index(0xFF)}")


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress])
def test_damaged_compressed_files(tmp_path, compress):
    ending = "gz" if compress is gzip.compress else "xz"
    whole = compress(b"".join(b"line %d\tx\n" % number for number in range(20_000)))
    cut = write(tmp_path / f"cut.tsv.{ending}", whole[: len(whole) // 2])
    assert_refused(f"tsv:{cut}", f"{cut}, after line", "damaged")
    wrong = write(tmp_path / f"wrong.tsv.{ending}", b"not compressed at all")
    assert_refused(f"tsv:{wrong}", f"{wrong}, after line 0", "damaged")


@pytest.mark.parametrize(("line", "columns"), [("only one", "1 column "), ("a\tb\tc", "3 columns"), ("", "1 column ")])
def test_tsv_line_without_two_columns(tmp_path, line, columns):
    path = write(tmp_path / "a.tsv", f"one\teins\n{line}\n".encode())
    assert_refused(f"tsv:{path}", f"{path}, line 2: {columns}", "source TAB target")


def test_empty_corpus(tmp_path):
    a, b = write(tmp_path / "a", b""), write(tmp_path / "b", b"")
    assert_refused(f"lines:{a}:{b}", f"corpus 'lines:{a}:{b}' is empty")


def test_file_without_a_line_among_others_is_no_fault(tmp_path):
    a, b, c, d = (write(tmp_path / name, content) for name, content in zip("abcd", [b"", b"x\n"] * 2, strict=True))
    assert read(f"lines:{a},{b}:{c},{d}") == [("x", "x")]


def test_message_of_one_fault_reads_well(tmp_path):
    a, b = write(tmp_path / "a", b"x\n" * 1234), write(tmp_path / "b", b"y\n")
    with pytest.raises(DataError, match=re.escape(f"{a} has 1,234 lines, {b} has 1.")):
        read(f"lines:{a}:{b}")

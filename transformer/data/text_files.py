"""Text files for a language model, plain, .gz or .xz: every character counts, line ends and spaces included."""

import dataclasses
import enum
import glob
import itertools
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from transformer.data.documents import Part, TextSource, in_parts
from transformer.data.errors import DataError
from transformer.data.line_files import decoded_lines, parse_paths

_RANGE = re.compile(r"(.*)\[(?:(\d+(?:\.\d+)?)%)?:(?:(\d+(?:\.\d+)?)%)?\]")
_FIELD = "text"


class Splitting(enum.StrEnum):
    """What a document is."""

    FILE = "file"
    LINES = "lines"
    PARAGRAPHS = "paragraphs"
    JSONL = "jsonl"


@dataclasses.dataclass(frozen=True)
class FileRange:
    """A file, or several by a name with *; of each, the characters from `begin` to `end` percent."""

    path: Path
    begin: float = 0.0
    end: float = 100.0

    def files(self) -> list[Path]:
        """Those there are, in the order of their names; the path itself where none is found."""
        if "*" not in str(self.path):
            return [self.path]
        return sorted(Path(found) for found in glob.glob(str(self.path), recursive=True)) or [self.path]

    def characters(self, file: Path) -> range | None:
        """The numbers of the characters of one of the files that belong to it; None: all."""
        if (self.begin, self.end) == (0.0, 100.0):
            return None
        total = sum(len(line) for line in decoded_lines(file))
        # Of the product, rounding errors are taken away before it is rounded down.
        return range(*(int(round(total * percent / 100, 6)) for percent in (self.begin, self.end)))


@dataclasses.dataclass(frozen=True)
class TextFiles(TextSource):
    """`text:[SPLITTING:]FILES`."""

    splitting: Splitting
    ranges: tuple[FileRange, ...]

    @classmethod
    def parse(cls, rest: str, corpus: str) -> "TextFiles":
        """Reads what stands behind `text:`; `corpus` is the whole string, for errors."""
        # Colons within brackets are those of ranges.
        fields = re.split(r":(?!//)(?![^\[]*\])", rest)
        if len(fields) > 2:
            raise DataError(
                f"corpus {corpus!r} has too many colons. Write text:FILES or text:SPLITTING:FILES, with commas between "
                "several files; a file name cannot hold a colon or a comma."
            )
        written = fields[0] if len(fields) == 2 else Splitting.FILE
        if written not in list(Splitting):
            raise DataError(
                f"corpus {corpus!r} has the splitting {written!r}. Choose from {', '.join(Splitting)}; a file name "
                "cannot hold a colon."
            )
        return cls(Splitting(written), tuple(_parse_range(path, corpus) for path in parse_paths(fields[-1], corpus)))

    @property
    def identity(self) -> str:
        ranges = " ".join(f"{each.begin}-{each.end}x{len(each.files())}" for each in self.ranges)
        return f"text {self.splitting} {ranges}"

    def files(self) -> list[Path]:
        return [file for each in self.ranges for file in each.files()]

    def documents(self) -> Iterator[Part]:
        for each in self.ranges:
            for file in each.files():
                yield from self._documents(file, each.characters(file))

    def _documents(self, file: Path, chosen: range | None) -> Iterator[Part]:
        if self.splitting is Splitting.FILE:
            yield from in_parts(decoded_lines(file) if chosen is None else _cut(decoded_lines(file), chosen))
            return
        for document in _split(file, self.splitting):
            if chosen is None or document.begin in chosen:
                yield from in_parts(document.lines)


@dataclasses.dataclass(frozen=True, slots=True)
class _Document:
    """The lines of a document, and the number of its first character within the file."""

    lines: list[str]
    begin: int


def _split(file: Path, splitting: Splitting) -> Iterator[_Document]:
    match splitting:
        case Splitting.LINES:
            for document in _numbered(file):
                yield _Document([_without_end(document.lines[0])], document.begin)
        case Splitting.JSONL:
            for number, document in enumerate(_numbered(file), start=1):
                text = _field(document.lines[0], file, number)
                yield _Document(text.splitlines(keepends=True), document.begin)
        case Splitting.PARAGRAPHS:
            for blank, group in itertools.groupby(_numbered(file), key=lambda document: document.lines[0].isspace()):
                if not blank:
                    parts = list(group)
                    lines = [line for part in parts for line in part.lines]
                    yield _Document([*lines[:-1], _without_end(lines[-1])], parts[0].begin)


def _numbered(file: Path) -> Iterator[_Document]:
    """Every line as a document."""
    begin = 0
    for line in decoded_lines(file):
        yield _Document([line], begin)
        begin += len(line)


def _cut(lines: Iterable[str], chosen: range) -> Iterator[str]:
    """Those of the characters of all lines whose numbers are in `chosen`."""
    begin = 0
    for line in lines:
        if begin >= chosen.stop:
            return
        if begin + len(line) > chosen.start:
            yield line[max(chosen.start - begin, 0) : chosen.stop - begin]
        begin += len(line)


def _without_end(line: str) -> str:
    return line.removesuffix("\n").removesuffix("\r")


def _field(line: str, file: Path, number: int) -> str:
    where = f"{file}, line {number}"
    try:
        value = json.loads(line)
    except ValueError as error:
        raise DataError(f"{where}: no JSON ({error}). Write one object a line, or choose another splitting.") from error
    if not isinstance(value, dict) or not isinstance(value.get(_FIELD), str):
        raise DataError(f'{where}: no object with a text in its field "{_FIELD}". Write {{"{_FIELD}": "..."}}.')
    return value[_FIELD]


def _parse_range(path: Path, corpus: str) -> FileRange:
    matched = _RANGE.fullmatch(str(path))
    if not matched:
        return FileRange(path)
    name, begin, end = matched[1], float(matched[2] or 0), float(matched[3] or 100)
    if not 0 <= begin < end <= 100:
        raise DataError(f"corpus {corpus!r}: {begin:g}% to {end:g}% is no part of a file. Write [:90%] or [90%:].")
    return FileRange(Path(name), begin, end)

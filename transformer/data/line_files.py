"""Text files with one sentence a line: plain, .gz or .xz; aligned pairs of them, or two columns in one.

A line ends at \\n and nowhere else (str.splitlines would also split at U+0085 and U+2028, and shift one side).
Surrounding whitespace, \\r included, is not part of a sentence.
"""

import dataclasses
import gzip
import itertools
import lzma
import os
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from transformer.data.errors import DataError

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclasses.dataclass(frozen=True)
class LineFiles:
    """`lines:SOURCE_FILES:TARGET_FILES`: line i of a source file is translated by line i of its target file."""

    source_files: tuple[Path, ...]
    target_files: tuple[Path, ...]

    @classmethod
    def parse(cls, rest: str, corpus: str) -> "LineFiles":
        """Reads what stands behind `lines:`; `corpus` is the whole string, for errors."""
        sides = re.split(r":(?!//)", rest)
        if len(sides) != 2:
            raise DataError(
                f"corpus {corpus!r} has {len(sides)} sides, not 2. Write lines:SOURCE_FILES:TARGET_FILES, with commas "
                "between several files of a side; a file name cannot hold a colon or a comma."
            )
        source_files, target_files = (parse_paths(side, corpus) for side in sides)
        if len(source_files) != len(target_files):
            raise DataError(
                f"corpus {corpus!r} names {len(source_files)} source files and {len(target_files)} target files. "
                "Give both sides the same number, in the same order."
            )
        return cls(source_files, target_files)

    @property
    def identity(self) -> str:
        return "lines"

    def files(self) -> list[Path]:
        return [*self.source_files, *self.target_files]

    def pairs(self) -> Iterator[tuple[str, str]]:
        for source_file, target_file in zip(self.source_files, self.target_files, strict=True):
            yield from _aligned(source_file, target_file)


@dataclasses.dataclass(frozen=True)
class TsvFiles:
    """`tsv:FILES`: source TAB target on every line."""

    paths: tuple[Path, ...]

    @classmethod
    def parse(cls, rest: str, corpus: str) -> "TsvFiles":
        """Reads what stands behind `tsv:`; `corpus` is the whole string, for errors."""
        return cls(parse_paths(rest, corpus))

    @property
    def identity(self) -> str:
        return "tsv"

    def files(self) -> list[Path]:
        return list(self.paths)

    def pairs(self) -> Iterator[tuple[str, str]]:
        for path in self.paths:
            # The tab is looked for before stripping: an empty side must not take the other side's place.
            for number, line in enumerate(decoded_lines(path), start=1):
                columns = line.split("\t")
                if len(columns) != 2:
                    raise DataError(
                        f"{path}, line {number}: {len(columns)} column{'s' * (len(columns) != 1)} instead of 2. "
                        "Write source TAB target, with no other tab, on every line."
                    )
                yield columns[0].strip(), columns[1].strip()


def check_files(paths: Iterable[Path]) -> None:
    """Raises one `DataError` that names every file which is missing or cannot be read."""
    bad = [path for path in paths if not (path.is_file() and os.access(path, os.R_OK))]
    if bad:
        listed = "".join(f"\n  {path}: {_fault(path)}" for path in bad)
        raise DataError(f"cannot read (from the folder {Path.cwd()}):{listed}\nCorrect the names in the corpus.")


def read_lines(path: Path) -> Iterator[str]:
    """The stripped lines of one file.

    Raises:
      DataError: where bytes are not UTF-8 (with line and offset), or a compressed file is damaged.
    """
    return (line.strip() for line in decoded_lines(path))


def parse_paths(names: str, corpus: str) -> tuple[Path, ...]:
    """The files of a comma-separated list; ~ is the home folder."""
    parts = names.split(",")
    if not all(parts):
        raise DataError(f"corpus {corpus!r} has an empty file name. Remove the stray comma or colon.")
    remote = [part for part in parts if "://" in part]
    if remote:
        raise DataError(f"corpus {corpus!r}: only local files are read, not {remote[0]}. Copy it here first.")
    return tuple(Path(part).expanduser() for part in parts)


def _aligned(source_file: Path, target_file: Path) -> Iterator[tuple[str, str]]:
    sources, targets = read_lines(source_file), read_lines(target_file)
    for number, (source, target) in enumerate(itertools.zip_longest(sources, targets)):
        if source is None or target is None:
            longer = number + 1 + sum(1 for _ in (targets if source is None else sources))
            lengths = (number, longer) if source is None else (longer, number)
            raise DataError(
                f"the two sides differ in length: {source_file} has {lengths[0]:,} lines, "
                f"{target_file} has {lengths[1]:,}. Line i of one must translate line i of the other."
            )
        yield source, target


def decoded_lines(path: Path) -> Iterator[str]:
    """The lines of one file as they stand there, line ends included; a byte order mark is left out.

    Raises:
      DataError: as `read_lines`.
    """
    number = 0
    try:
        with _open(path) as file:
            for number, raw in enumerate(file, start=1):
                if number == 1:
                    raw = raw.removeprefix(_BYTE_ORDER_MARK)
                try:
                    yield raw.decode("utf-8")
                except UnicodeDecodeError as error:
                    raise _undecodable(path, number, file.tell() - len(raw), error) from None
    except (gzip.BadGzipFile, lzma.LZMAError, zlib.error, EOFError) as error:
        raise DataError(
            f"{path}, after line {number}: the compressed file is damaged ({error}). Get it anew."
        ) from error


def _open(path: Path) -> BinaryIO:
    openers = {".gz": gzip.open, ".xz": lzma.open}
    return openers.get(path.suffix, open)(path, "rb")


def _undecodable(path: Path, number: int, line_offset: int, error: UnicodeDecodeError) -> DataError:
    return DataError(
        f"{path}, line {number}: byte 0x{error.object[error.start]:02x} at offset {line_offset + error.start} "
        f"is not UTF-8. Convert the file, for example with "
        f"`iconv -f WINDOWS-1252 -t UTF-8 {path.name} -o utf8_{path.name}`, or mend the line."
    )


def _fault(path: Path) -> str:
    if path.is_file():
        return "no permission"
    return "not a regular file" if path.exists() else "no such file"

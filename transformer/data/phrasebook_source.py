"""The built-in phrasebook as a corpus."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from transformer.data.documents import Part, TextSource, in_parts
from transformer.data.errors import DataError

_SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class Phrasebook:
    """`phrasebook[:SPLIT[:COUNT]]`, in either direction; `count` None is the split's own size."""

    split: str
    count: int | None
    source_language: str

    @classmethod
    def parse(cls, rest: str, corpus: str, languages: tuple[str, str]) -> "Phrasebook":
        """Reads what stands behind `phrasebook:`; `corpus` is the whole string, for errors."""
        if sorted(languages) != ["de", "en"]:
            raise DataError(
                f"corpus {corpus!r} is English and German, not {languages[0]!r} to {languages[1]!r}. Set "
                "data.source_language and data.target_language to en and de, or de and en."
            )
        split, colon, count = rest.partition(":")
        if split not in ("", *_SPLITS):
            raise DataError(f"corpus {corpus!r} has no split {split!r}. Choose from {', '.join(_SPLITS)}.")
        return cls(split or "train", _parse_count(count, corpus) if colon else None, languages[0])

    @property
    def identity(self) -> str:
        # Imported here, as below: a run on other text never builds the grammar.
        from transformer.data import phrasebook

        count = phrasebook.DEFAULT_COUNTS[self.split] if self.count is None else self.count
        return f"phrasebook {self.split} {count} {self.source_language}"

    def files(self) -> list[Path]:
        # The grammar is the text: any change of its code is another corpus.
        from transformer.data import phrasebook

        return sorted(Path(phrasebook.__file__).parent.glob("**/*.py"))

    def pairs(self) -> Iterator[tuple[str, str]]:
        from transformer.data import phrasebook

        try:
            # Made anew each time: a million pairs take ten seconds, and half a gigabyte if they were kept.
            for pair in phrasebook.stream(self.split, self.count):
                yield (pair.source, pair.target) if self.source_language == "en" else (pair.target, pair.source)
        except ValueError as error:
            raise DataError(f"corpus phrasebook:{self.split}: {error}. Ask for no more than that.") from error


@dataclasses.dataclass(frozen=True)
class PhrasebookText(TextSource):
    """`phrasebook_text[:SPLIT[:COUNT]]`: the sentences on the target side, each a document."""

    phrasebook: Phrasebook

    @property
    def identity(self) -> str:
        return f"text of {self.phrasebook.identity}"

    def files(self) -> list[Path]:
        return self.phrasebook.files()

    def documents(self) -> Iterator[Part]:
        return (part for _, target in self.phrasebook.pairs() for part in in_parts([target]))


def _parse_count(written: str, corpus: str) -> int:
    if not (written.isascii() and written.isdecimal() and int(written)):
        raise DataError(
            f"corpus {corpus!r} has the count {written!r}. Write how many pairs, such as phrasebook:train:1000000."
        )
    return int(written)

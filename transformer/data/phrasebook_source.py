"""The built-in phrasebook as a corpus."""

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformer.data.errors import DataError

_SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class Phrasebook:
    """`phrasebook[:SPLIT]`, in either direction."""

    split: str
    source_language: str

    @classmethod
    def parse(cls, rest: str, corpus: str, languages: tuple[str, str]) -> "Phrasebook":
        """Reads what stands behind `phrasebook`; `corpus` is the whole string, for errors."""
        if sorted(languages) != ["de", "en"]:
            raise DataError(
                f"corpus {corpus!r} is English and German, not {languages[0]!r} to {languages[1]!r}. Set "
                "data.source_language and data.target_language to en and de, or de and en."
            )
        if rest and rest not in _SPLITS:
            raise DataError(f"corpus {corpus!r} has no split {rest!r}. Choose from {', '.join(_SPLITS)}.")
        return cls(rest or "train", languages[0])

    @property
    def identity(self) -> str:
        return f"phrasebook {self.split} {self.source_language}"

    def files(self) -> list[Path]:
        # The grammar is the text: any change of its code is another corpus.
        from transformer.data import phrasebook

        return sorted(Path(phrasebook.__file__).parent.glob("**/*.py"))

    def pairs(self) -> Iterator[tuple[str, str]]:
        for pair in self._generated:
            yield (pair.source, pair.target) if self.source_language == "en" else (pair.target, pair.source)

    @functools.cached_property
    def _generated(self) -> list[Any]:
        # Imported here: a run on other text never builds the grammar.
        from transformer.data import phrasebook

        return phrasebook.pairs(self.split)

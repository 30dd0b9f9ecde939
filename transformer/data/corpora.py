"""From a corpus string (see `config.DataConfig`) to pairs of sentences, or to documents."""

import dataclasses
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from transformer.config import DataConfig
from transformer.data.documents import Part, TextSource, of_pair
from transformer.data.errors import DataError
from transformer.data.line_files import LineFiles, TsvFiles, check_files
from transformer.data.phrasebook_source import Phrasebook, PhrasebookText
from transformer.data.text_files import TextFiles
from transformer.data.tfds_source import TfdsSet, TfdsText


class Source(Protocol):
    """Where pairs come from: one class a kind of corpus. Where text alone does: `documents.TextSource`.

    `identity` and the bytes of `files()` together decide every pair: text is cached under their hash.
    """

    @property
    def identity(self) -> str: ...

    def files(self) -> list[Path]: ...

    def pairs(self) -> Iterator[tuple[str, str]]: ...


@dataclasses.dataclass(frozen=True)
class Corpus:
    """One parsed corpus string: `name` is the string without its weight."""

    name: str
    weight: float
    source: Source | TextSource

    @property
    def has_prompts(self) -> bool:
        """Whether its documents begin with prompts: the sources of pairs are."""
        return not isinstance(self.source, TextSource)

    def pairs(self) -> Iterator[tuple[str, str]]:
        """(source, target) sentences without surrounding whitespace, in file order; either may be empty.

        Raises:
          DataError: for what is wrong with the text where it is met, and for a corpus without any pair.
        """
        if isinstance(self.source, TextSource):
            raise DataError(
                f"corpus {self.name!r} is text alone, and a translator learns from pairs. Name a corpus of pairs, such "
                "as lines:SOURCE_FILES:TARGET_FILES, or set model.architecture to language_model."
            )
        empty = True
        for pair in self.source.pairs():
            empty = False
            yield pair
        if empty:
            raise DataError(
                f"corpus {self.name!r} is empty: it has no lines at all. Check that its files were written."
            )

    def documents(self) -> Iterator[Part]:
        """The documents of a language model, in file order; texts may be empty. Of pairs, sources are prompts.

        Raises:
          DataError: as `pairs`.
        """
        if not isinstance(self.source, TextSource):
            for source, target in self.pairs():
                yield from of_pair(source, target)
            return
        empty = True
        for part in self.source.documents():
            empty = False
            yield part
        if empty:
            raise DataError(
                f"corpus {self.name!r} is empty: it has no text at all. Check that its files were written, or name a "
                "larger part of them."
            )


def parse(text: str, data: DataConfig) -> Corpus:
    """The corpus that a string names. Nothing is opened yet; `check` does that.

    Raises:
      DataError: for a kind or a weight that does not exist, or a string of the wrong form.
    """
    weight, name = _split_weight(text)
    kind, _, rest = name.partition(":")
    languages = (data.source_language, data.target_language)
    match kind:
        case "phrasebook":
            return Corpus(name, weight, Phrasebook.parse(rest, name, languages))
        case "lines":
            return Corpus(name, weight, LineFiles.parse(rest, name))
        case "tsv":
            return Corpus(name, weight, TsvFiles.parse(rest, name))
        case "tfds":
            return Corpus(name, weight, TfdsSet.parse(rest, name, languages, data.data_dir))
        case "text":
            return Corpus(name, weight, TextFiles.parse(rest, name))
        case "tfds_text":
            return Corpus(name, weight, TfdsText.parse(rest, name, data.data_dir))
        case "phrasebook_text":
            return Corpus(name, weight, PhrasebookText(Phrasebook.parse(rest, name, languages)))
    raise DataError(
        f"corpus {text!r} is of unknown kind {kind!r}. Write phrasebook[:SPLIT[:COUNT]], "
        "lines:SOURCE_FILES:TARGET_FILES, tsv:FILES or tfds:NAME/CONFIG[:SPLIT]; for a language model also "
        "text:FILES, tfds_text:NAME/CONFIG[:SPLIT] or phrasebook_text[:SPLIT[:COUNT]]; with an optional weight such "
        "as 2* before it."
    )


def check(corpora: Iterable[Corpus]) -> None:
    """Raises one `DataError` for all missing files, and for data sets that are not prepared."""
    check_files(path for corpus in corpora for path in corpus.source.files())


def _split_weight(text: str) -> tuple[float, str]:
    # A star behind the first colon belongs to a file name.
    if "*" not in text.partition(":")[0]:
        return 1.0, text
    written, _, name = text.partition("*")
    try:
        weight = float(written)
    except ValueError:
        weight = math.nan
    if not 0 < weight < math.inf:
        raise DataError(f"corpus {text!r} has the weight {written!r}. Write a positive number, such as 2* or 0.5*.")
    return weight, name

"""What a language model is trained on: documents, each an optional prompt and a text."""

import abc
import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path

PROMPT_END = "\n"
"""Stands between the source of a pair and its target, where a pair is a document: no line holds it."""

PART = 2**20
"""Characters of a document that are held at once. What is longer comes in parts."""


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """A document or, where it is long, a part of one; parts of a document follow each other.

    Attributes:
      prompt: text that is read but not learned; what ends it is included. Only a first part has one.
      text: what is learned.
      continues: the part before belongs to the same document.
      continued: so does the part after.
    """

    prompt: str
    text: str
    continues: bool = False
    continued: bool = False

    @property
    def whole(self) -> bool:
        """Whether this is all of a document."""
        return not (self.continues or self.continued)


class TextSource(abc.ABC):
    """Where documents come from that are no pairs. `identity` and `files()` as of `corpora.Source`."""

    @property
    @abc.abstractmethod
    def identity(self) -> str: ...

    @abc.abstractmethod
    def files(self) -> list[Path]: ...

    @abc.abstractmethod
    def documents(self) -> Iterator[Part]: ...


def of_pair(source: str, target: str) -> Iterator[Part]:
    """A pair as a document: its source is the prompt, if it has one."""
    return in_parts([target], f"{source}{PROMPT_END}" if source else "")


def in_parts(blocks: Iterable[str], prompt: str = "") -> Iterator[Part]:
    """One document from its text, which may come in blocks: they are put together to about `PART` characters.

    Blocks should be lines: a tokenizer's pieces never cross a line end, so it does not see where a part ends.
    """
    held: list[str] = []
    size, continues = 0, False
    for block in blocks:
        for begin in range(0, len(block), PART):
            piece = block[begin : begin + PART]
            if held and size + len(piece) > PART:
                yield Part(prompt, "".join(held), continues, continued=True)
                held, size, continues, prompt = [], 0, True, ""
            held.append(piece)
            size += len(piece)
    yield Part(prompt, "".join(held), continues)

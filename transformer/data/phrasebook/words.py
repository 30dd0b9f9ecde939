"""The smallest parts: phrases that never change, and joining words into a sentence."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Phrase:
    """An expression that is the same wherever it stands, in both languages."""

    english: str
    german: str
    phenomena: tuple[str, ...] = ()


NOTHING = Phrase("", "")


def words(*parts: str) -> str:
    """The parts that are not empty, with a space between."""
    return " ".join([part for part in parts if part])


def sentence(text: str, mark: str) -> str:
    """`text` with a capital letter at its start and the full stop or question mark at its end."""
    return text[0].upper() + text[1:] + mark

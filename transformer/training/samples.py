"""A few translations to look at, as text for the console and as a table for TensorBoard."""

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Sample:
    """A held-out sentence, what a person made of it, and what the model makes of it."""

    source: str
    reference: str
    output: str


def as_text(samples: Sequence[Sample]) -> str:
    """Three aligned lines a sample, a blank line between samples."""
    blocks = [f"  source     {s.source}\n  reference  {s.reference}\n  output     {s.output}" for s in samples]
    return "\n\n".join(blocks)


def as_markdown(samples: Sequence[Sample]) -> str:
    """A table, one row a sample."""
    rows = [(s.source, s.reference, s.output) for s in samples]
    lines = [("source", "reference", "output"), ("---", "---", "---"), *rows]
    return "\n".join("| " + " | ".join(_cell(text) for text in line) + " |" for line in lines)


def _cell(text: str) -> str:
    # Text is not markup: what Markdown or HTML would take for its own is spelt as a character reference.
    return "".join(f"&#{ord(c)};" if c in "\\`*_[]<>|#~&" else c for c in " ".join(text.split()))

"""What the built-in corpus adds to a BLEU score: which grammar the model has learnt, and a sentence to look into."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from transformer.config import DataConfig

# The phrasebook makes its sentences when it is imported: a quarter of a second, which only those wait for who want one.
if TYPE_CHECKING:
    from transformer.data.phrasebook import Pair


def accuracy_table(corpus: str, outputs: Sequence[str], data: DataConfig) -> str | None:
    """Whole sentences exactly right, by phenomenon, for the outputs of `phrasebook:SPLIT`; None for another corpus."""
    name, *rest = corpus.split(":")
    if name != "phrasebook":
        return None
    from transformer.data import phrasebook

    split, count = (*rest, "", "")[:2]
    pairs = phrasebook.pairs(split or "train", int(count) if count else None)
    if data.target_language == "en":
        pairs = [dataclasses.replace(pair, source=pair.target, target=pair.source) for pair in pairs]
    table = phrasebook.accuracy_by_phenomenon(outputs, pairs)
    lines = [
        f"  {name:<18} {accuracy.percent:6.1f}%  ({accuracy.correct} of {accuracy.total})"
        for name, accuracy in table.items()
        if accuracy.total
    ]
    return "Sentences exactly right, by phenomenon:\n" + "\n".join(lines)


def separable_verb() -> "Pair":
    """A held-out sentence that ends in the prefix of its verb, as in "Ich rufe dich morgen an."."""
    from transformer.data import phrasebook

    for pair in phrasebook.pairs("test"):
        ends_in_prefix = "separable verb" in pair.phenomena and not _OTHER_LAST_WORDS & set(pair.phenomena)
        if ends_in_prefix and pair.target.split()[-1].rstrip(".").islower():
            return pair
    raise LookupError("The test split of the phrasebook has no sentence that ends in a separable prefix.")


_OTHER_LAST_WORDS = {"verb-final", "perfect tense", "modal verb", "question"}


def last_word(pieces: Sequence[str]) -> range:
    """The rows of the last word's letters among target pieces that end with the end of the sentence."""
    first = max(row for row, piece in enumerate(pieces[:-1]) if piece.startswith("\u2581"))
    letters = [row for row in range(first, len(pieces) - 1) if any(c.isalpha() for c in pieces[row])]
    return range(first, letters[-1] + 1)

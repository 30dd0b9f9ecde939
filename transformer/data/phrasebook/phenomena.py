"""What a sentence pair is, which grammatical phenomena it shows, and how many of each a translator gets right."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

NUMBER = "number"
NUMBER_INVERSION = "number inversion"
CLOCK_TIME = "clock time"
DATE = "date"
PRICE = "price"
PLACE = "place"
GENDER_AGREEMENT = "gender agreement"
DATIVE = "dative"
VERB_SECOND = "verb-second"
VERB_FINAL = "verb-final"
SEPARABLE_VERB = "separable verb"
MODAL_VERB = "modal verb"
PERFECT_TENSE = "perfect tense"
QUESTION = "question"
NEGATION = "negation"

PHENOMENA: tuple[str, ...] = (
    NUMBER,
    NUMBER_INVERSION,
    CLOCK_TIME,
    DATE,
    PRICE,
    PLACE,
    GENDER_AGREEMENT,
    DATIVE,
    VERB_SECOND,  # something other than the subject comes first, so the subject follows the verb
    VERB_FINAL,
    SEPARABLE_VERB,
    MODAL_VERB,
    PERFECT_TENSE,
    QUESTION,
    NEGATION,
)


@dataclass(frozen=True, slots=True)
class Pair:
    """An English sentence, its one German translation here, and the phenomena it shows (in the order of PHENOMENA)."""

    source: str
    target: str
    phenomena: tuple[str, ...]


@dataclass(frozen=True)
class Accuracy:
    """How many of `total` sentences are exactly right."""

    correct: int
    total: int

    @property
    def percent(self) -> float:
        return 100.0 * self.correct / self.total if self.total else 0.0


@cache
def merge(groups: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
    """The union of several groups of phenomena, in the order of PHENOMENA."""
    present = {phenomenon for group in groups for phenomenon in group}
    return tuple(phenomenon for phenomenon in PHENOMENA if phenomenon in present)


def accuracy_by_phenomenon(hypotheses: Sequence[str], pairs: Sequence[Pair]) -> dict[str, Accuracy]:
    """Exact sentence matches, for "all" and for each phenomenon (a sentence counts under every phenomenon it shows).

    White space at the ends of a hypothesis is ignored. Raises ValueError when the two lists differ in length.
    """
    if len(hypotheses) != len(pairs):
        raise ValueError(
            f"{len(hypotheses)} hypotheses for {len(pairs)} pairs: give one hypothesis for each pair, in the same order"
        )
    judged = [
        (hypothesis.strip() == pair.target, pair.phenomena) for hypothesis, pair in zip(hypotheses, pairs, strict=True)
    ]
    accuracies = {"all": Accuracy(sum(right for right, _ in judged), len(judged))}
    for phenomenon in PHENOMENA:
        verdicts = [right for right, shown in judged if phenomenon in shown]
        accuracies[phenomenon] = Accuracy(sum(verdicts), len(verdicts))
    return accuracies

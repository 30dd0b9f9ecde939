"""One number over a corpus, with what is needed to compare it with others."""

import dataclasses
from collections.abc import Mapping, Sequence

from sacrebleu.metrics.base import Metric

from transformer.evaluation.errors import EvaluationError

# Resamples of the corpus behind a confidence interval. sacreBLEU seeds them (12345, or SACREBLEU_SEED), so a corpus has
# one interval. Meanwhile they hold about 40 kB a sentence for BLEU, 72 for chrF.
RESAMPLES = 1000


@dataclasses.dataclass(frozen=True)
class Score:
    """A number that says how good a model is."""

    name: str  # what was measured, as a table should call it
    value: float
    confidence: float | None  # half the width of the 95% bootstrap interval; None: not asked for
    signature: str  # sacreBLEU's, with every setting that changes the number

    @property
    def interval(self) -> tuple[float, ...]:
        """Its ends, lower first; nothing when it was not asked for."""
        return () if self.confidence is None else (self.value - self.confidence, self.value + self.confidence)


def measure(
    metric: Metric,
    name: str,
    hypotheses: Sequence[str],
    references: Sequence[str],
    *,
    confidence: bool,
    settings: Mapping[str, str] | None = None,
) -> Score:
    """`metric` over a corpus; `settings` is put into the signature, for what was done to the text before.

    Raises:
      EvaluationError: as `check_corpus`.
    """
    check_corpus(hypotheses, references)
    result = metric.corpus_score(hypotheses, [references], n_bootstrap=RESAMPLES if confidence else 1)
    signature = metric.get_signature()
    for key, value in (settings or {}).items():
        signature.update(key, value)
    # sacreBLEU prints the interval but has no public name for it.
    return Score(name, float(result.score), float(result._ci) if confidence else None, signature.format())


def check_corpus(hypotheses: Sequence[str], references: Sequence[str]) -> None:
    """Raises EvaluationError unless every hypothesis has its reference, and there is one."""
    if len(hypotheses) != len(references):
        raise EvaluationError(
            f"{len(hypotheses)} hypotheses but {len(references)} references: line i of the one must translate what "
            "line i of the other translates. Look for lines that were dropped because they are empty."
        )
    if not hypotheses:
        raise EvaluationError("There is nothing to score: 0 hypotheses and 0 references.")

"""What a translation is worth: BLEU and chrF by sacreBLEU, and the BLEU of older papers beside it, each by its name."""

from collections.abc import Sequence

from sacrebleu.metrics import BLEU, CHRF

from transformer.evaluation.errors import EvaluationError
from transformer.evaluation.measure import Score, measure
from transformer.evaluation.paper_bleu import lowercased_tokenised_bleu, paper_bleu
from transformer.evaluation.wmt import wmt_test_set

__all__ = [
    "Score",
    "bleu_metric",
    "chrf",
    "corpus_bleu",
    "format_scores",
    "lowercased_tokenised_bleu",
    "paper_bleu",
    "report",
    "wmt_test_set",
]

# Languages that sacreBLEU splits into words in a way of their own; all others get its default, 13a.
TOKENIZERS = {"zh": "zh", "ja": "ja-mecab", "ko": "ko-mecab"}


def corpus_bleu(
    hypotheses: Sequence[str], references: Sequence[str], target_language: str, *, confidence: bool = True
) -> Score:
    """BLEU by sacreBLEU: cased, on detokenised text. The one to compare and to publish, with its signature.

    Args:
      hypotheses, references: detokenised text, a sentence an item.
      target_language: its code ("de", "zh-CN"); the tokenizer follows it.
      confidence: whether to take the time for a confidence interval.

    Raises:
      EvaluationError: sides of unequal length, or empty; the packages that split Japanese or Korean are missing.
    """
    return measure(bleu_metric(target_language), "BLEU (sacreBLEU)", hypotheses, references, confidence=confidence)


def chrf(hypotheses: Sequence[str], references: Sequence[str], *, confidence: bool = True) -> Score:
    """chrF2 by sacreBLEU: overlap of character 6-grams, which needs no tokenizer. Otherwise as `corpus_bleu`."""
    return measure(CHRF(), "chrF2 (sacreBLEU)", hypotheses, references, confidence=confidence)


def bleu_metric(target_language: str) -> BLEU:
    """sacreBLEU's BLEU for a language. Call it before a long run to learn whether its packages are there.

    Raises:
      EvaluationError: they are not.
    """
    language = _base(target_language)
    tokenizer = TOKENIZERS.get(language, "13a")
    try:
        return BLEU(tokenize=tokenizer)
    except RuntimeError as error:
        raise EvaluationError(
            f'BLEU for target language "{target_language}" needs the tokenizer {tokenizer}, whose packages are not '
            f'installed. Install them with: pip install "sacrebleu[{language}]"'
        ) from error


def report(hypotheses: Sequence[str], references: Sequence[str], target_language: str) -> list[Score]:
    """Every score that makes sense for the language, with confidence intervals; arguments as for `corpus_bleu`."""
    scores = [corpus_bleu(hypotheses, references, target_language), chrf(hypotheses, references)]
    language = _base(target_language)
    if language not in TOKENIZERS:  # Moses finds words by the spaces between them.
        scores.append(paper_bleu(hypotheses, references, language))
        scores.append(lowercased_tokenised_bleu(hypotheses, references, language))
    return scores


def format_scores(scores: Sequence[Score]) -> str:
    """A table, a score a line: name, value with its confidence, signature."""
    rows = [(score.name, _value(score), score.signature) for score in scores]
    names, values = (max((len(row[column]) for row in rows), default=0) for column in (0, 1))
    return "\n".join(f"{name:<{names}}  {value:<{values}}  {signature}" for name, value, signature in rows)


def _value(score: Score) -> str:
    confidence = "" if score.confidence is None else f" ± {score.confidence:.2f}"
    return f"{score.value:6.2f}{confidence}"


def _base(language: str) -> str:
    """zh-CN, zh_TW -> zh."""
    return language.replace("_", "-").split("-")[0].lower()

"""A whole test set translated and scored."""

import dataclasses
from collections.abc import Sequence

import jax
from tqdm import tqdm

from transformer.evaluation.scores import Score, report
from transformer.evaluation.translator import Translator


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Outputs for a test set and what they score."""

    outputs: list[str]
    scores: list[Score]


def evaluate(translator: Translator, sources: Sequence[str], references: Sequence[str]) -> Evaluation:
    """Translates `sources` with a progress bar on stderr and scores them against `references`."""
    silent = jax.process_index() > 0
    with tqdm(total=len(sources), desc="translating", unit=" sentences", leave=False, disable=silent) as bar:
        outputs = translator.translate(sources, progress=bar.update)
    return Evaluation(outputs, report(outputs, references, translator.config.data.target_language))

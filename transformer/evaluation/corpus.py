"""A whole test set translated and scored."""

import dataclasses
from collections.abc import Callable, Sequence

import jax
from tqdm import tqdm

from transformer.evaluation.scores import Score, report
from transformer.evaluation.translator import Translator


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Outputs for a test set and what they score."""

    outputs: list[str]
    scores: list[Score]


def evaluate(
    translator: Translator,
    sources: Sequence[str],
    references: Sequence[str],
    *,
    between: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Translates `sources` with a progress bar on stderr and scores them against `references`.

    Args:
      between: called after every group of sentences, in all processes alike.
    """
    silent = jax.process_index() > 0
    with tqdm(total=len(sources), desc="translating", unit=" sentences", leave=False, disable=silent) as bar:

        def progress(done: int) -> None:
            bar.update(done)
            between()

        outputs = translator.translate(sources, progress=progress)
    return Evaluation(outputs, report(outputs, references, translator.config.data.target_language))

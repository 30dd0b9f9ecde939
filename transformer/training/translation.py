"""Translation: validated and scored by BLEU, shown by a sentence's attention."""

import dataclasses
import functools
import shlex
from collections.abc import Callable

from absl import logging

from transformer.data.prepare import EvaluationSet
from transformer.evaluation import attention_picture
from transformer.evaluation.corpus import evaluate
from transformer.evaluation.measure import Score
from transformer.evaluation.phenomena import accuracy_table, last_word, separable_verb
from transformer.evaluation.search import Search
from transformer.evaluation.translator import Translator
from transformer.model.blueprint import Params
from transformer.training import processes, saved_run
from transformer.training.run import Run
from transformer.training.samples import Sample, as_text
from transformer.training.saved_run import SavedParams
from transformer.training.validation import Validation, Validator

SAMPLES = 5
LONGEST_EXAMPLE = 15  # words, in a picture


class TranslationTask:
    """See `task.Task`."""

    def __init__(self, run: Run):
        self._run = run
        self._search = Search([run.trainer.blueprint], run.mesh, run.config.decoding.precision)
        self._validator = Validator(
            run.trainer, run.prepared.validation, run.prepared.tokenizers, self._search, run.batches.shapes
        )
        self._translator: Translator | None = None

    def validate(self, params: Params) -> Validation:
        return self._validator(params)

    def score(self, saved: SavedParams, between: Callable[[], None]) -> list[Score]:
        self._translator = saved_run.translator(self._run.config, [saved], self._run.mesh, self._search)
        return [score for test in self._run.prepared.test for score in _score(test, self._translator, between)]

    def draw(self) -> None:
        """One sentence, from the last layer of the decoder to the encoder."""
        example = self._example
        seen = self._translator.attention(example.source, example.target)
        if not processes.speaks():
            return
        attention_picture.draw(
            seen.cross_LNTS,
            seen.source_pieces,
            seen.target_pieces,
            self._run.workdir.attention,
            title=example.source,
            highlight=None if example.target is None else last_word(seen.target_pieces),
        )

    @functools.cached_property
    def _example(self) -> "_Example":
        return _example(self._run)  # at the end of the run, so that its first step does not wait for it

    def command(self, run: str) -> str:
        return f"echo {shlex.quote(self._example.source)} | transformer translate {run}"


def _score(test: EvaluationSet, translator: Translator, between: Callable[[], None]) -> list[Score]:
    evaluation = evaluate(translator, test.sources, test.targets, between=between)
    samples = [Sample(*texts) for texts in zip(test.sources, test.targets, evaluation.outputs, strict=True)]
    logging.info("Translations of %s:\n%s", test.name, as_text(samples[:SAMPLES]))
    table = accuracy_table(test.name, evaluation.outputs, translator.config.data)
    if table is not None:
        logging.info("%s", table)
    return [dataclasses.replace(score, name=f"{score.name} of {test.name}") for score in evaluation.scores]


@dataclasses.dataclass(frozen=True)
class _Example:
    """A held-out sentence to look into. `target`: of a translation that ends in its verb's prefix; else the model's."""

    source: str
    target: str | None = None


def _example(run: Run) -> _Example:
    data = run.config.data
    if data.validation[0].startswith("phrasebook") and data.target_language == "de":
        pair = separable_verb()
        return _Example(pair.source, pair.target)
    sources = run.prepared.validation.sources
    return _Example(next((source for source in sources if 0 < len(source.split()) <= LONGEST_EXAMPLE), sources[0][:80]))

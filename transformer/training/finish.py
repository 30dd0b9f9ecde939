"""The end of a run: the final score, pictures, and a summary."""

import dataclasses
import statistics
from collections.abc import Callable
from typing import Any

from absl import logging

from transformer.config import code_flag
from transformer.data.prepare import EvaluationSet
from transformer.evaluation import attention_picture
from transformer.evaluation.corpus import evaluate
from transformer.evaluation.measure import Score
from transformer.evaluation.phenomena import accuracy_table, last_word, separable_verb
from transformer.evaluation.search import Search
from transformer.evaluation.translator import Translator
from transformer.training import curves, metrics_log, processes, saved_run, summary
from transformer.training.checkpoint import Checkpoints
from transformer.training.compilations import Compilations
from transformer.training.journal import last_elapsed
from transformer.training.run import Run
from transformer.training.samples import Sample, as_text
from transformer.training.summary import Summary
from transformer.training.workdir import Workdir

SAMPLES = 5
LONGEST_EXAMPLE = 15  # words, in a picture
_SEEN_LATE = "A network share may show new files late. All is saved: start the same command again to score it."


def finish(
    run: Run,
    checkpoints: Checkpoints,
    search: Search,
    compilations: Compilations,
    reason: str,
    between: Callable[[], None],
) -> Summary:
    """Scores the run's test sets with the checkpoint that `transformer translate` will use, and reports.

    Args:
      between: called between groups of sentences; what it raises ends the scoring.
    """
    if run.config.checkpoint.average > 1:
        averaged = saved_run.to_average(run.workdir, run.config.checkpoint.average)
        processes.check_same("The checkpoints to average", str(averaged), _SEEN_LATE)
        if len(averaged) > 1:
            saved_run.write_average(run.workdir, averaged, run.mesh)
    chosen = saved_run.choose(run.workdir)
    processes.check_same("The checkpoint to score", str(chosen.path), _SEEN_LATE)
    translator = saved_run.translator(run.config, [chosen], run.mesh, search)

    scores = [score for test in run.prepared.test for score in _score(test, translator, between)]
    records = metrics_log.read(run.workdir.metrics)
    example = _example(run)
    result = Summary(
        workdir=str(run.workdir.root),
        steps=checkpoints.latest(),
        reason=reason,
        checkpoint=str(chosen.path),
        chosen=chosen.name,
        scores=tuple(scores),
        seconds=last_elapsed(records),
        tokens_per_s=_median(records, "time/tokens_per_s"),
        mfu=_median(records, "time/mfu"),
        data_wait_share=_median(records, "time/data_wait_share"),
        compilations=compilations.count,
        compile_seconds=compilations.seconds,
        recompilations=compilations.after_warm_up,
        example=example.source,
        flags=code_flag(run.config),
    )
    if processes.speaks():
        # The result first: it must not be lost to a picture that cannot be drawn.
        summary.write(result, run.workdir.summary)
        logging.info("%s", summary.as_text(result))
        curves.draw(records, run.workdir.curves, f"{run.workdir.root.name}: {reason}")
    _draw_attention(translator, example, run.workdir)
    return result


def _median(records: list[dict[str, Any]], name: str) -> float:
    """Of the lines of the log that have this field: those in which programs were compiled do not move it."""
    return statistics.median([record[name] for record in records if name in record] or [0.0])


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


def _draw_attention(translator: Translator, example: _Example, workdir: Workdir) -> None:
    """Draws where the model looks in the example."""
    seen = translator.attention(example.source, example.target)
    if not processes.speaks():
        return
    attention_picture.draw(
        seen.cross_LNTS,
        seen.source_pieces,
        seen.target_pieces,
        workdir.attention,
        title=example.source,
        highlight=None if example.target is None else last_word(seen.target_pieces),
    )

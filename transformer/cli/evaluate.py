"""`transformer evaluate`: BLEU and chrF of a trained run on a test set."""

import dataclasses
import json
from typing import TYPE_CHECKING

from absl import flags

from transformer.cli import decoding_flags, files
from transformer.cli.usage import UsageError
from transformer.cli.verb import Arguments, Verb

if TYPE_CHECKING:
    from transformer.evaluation.corpus import Evaluation
    from transformer.evaluation.translator import Translator

_DESCRIPTION = """
    transformer evaluate --workdir=DIR [--test=CORPUS | --sacrebleu=NAME]

    Translates a test set and scores it: cased detokenised sacreBLEU and chrF with their signatures and 95% intervals,
    the Multi30k convention (lower-cased, tokenised) and the paper's (tokenised, compounds split), each labelled.
    Scores go to stdout. Of several test sets each is scored on its own; --output has their translations one after the
    other.

    Examples:
      transformer evaluate --workdir=runs/mine                                    (the test sets of its config)
      transformer evaluate --workdir=runs/mine --test=lines:test.en:test.de --output=test.out
      transformer evaluate --workdir=runs/wmt --config.data.data_dir=FOLDER       (TFDS sets that moved)
      transformer evaluate --workdir=runs/wmt --sacrebleu=wmt14/full              (fetched by sacreBLEU)
      transformer evaluate --workdir=runs/mine --precision=int8     (and how far its BLEU is from that of float32)
"""


def _define_flags(values: flags.FlagValues) -> None:
    decoding_flags.define_flags(values)
    decoding_flags.define_precision(values)
    flags.DEFINE_multi_string(
        "test",
        [],
        "A corpus, as config.data.test takes it: lines:SRC:REF, tsv:FILE, tfds:NAME:SPLIT. May be repeated.",
        flag_values=values,
    )
    flags.DEFINE_string("sacrebleu", None, "A test set of sacreBLEU's by name, such as wmt14/full.", flag_values=values)
    text = "Write the translations to this file, a line each; those of several test sets one after the other."
    flags.DEFINE_string("output", None, text, flag_values=values)
    flags.DEFINE_string("json_output", None, "Write the scores to this file as JSON.", flag_values=values)


def _run(given: Arguments) -> None:
    if given.flags.sacrebleu and given.flags.test:
        raise UsageError("--sacrebleu and --test name two different test sets: give one of them.")
    output = files.to_write(given, "output")
    json_output = files.to_write(given, "json_output")
    translator = decoding_flags.open_translator(given)
    from transformer.evaluation.corpus import evaluate
    from transformer.evaluation.phenomena import accuracy_table
    from transformer.evaluation.scores import format_scores
    from transformer.training import processes

    outputs, records = [], {}
    for name, sources, references in _test_sets(given, translator):
        evaluation = evaluate(translator, sources, references)
        print(f"{name}: {len(sources):,} sentences\n{format_scores(evaluation.scores)}")
        table = accuracy_table(name, evaluation.outputs, translator.config.data)
        if table is not None:
            print(table)
        if translator.config.decoding.precision not in ("model", "float32"):
            print(_difference(translator, sources, references, evaluation))
        outputs += evaluation.outputs
        records[name] = [dataclasses.asdict(score) for score in evaluation.scores]
    if not processes.speaks():
        return
    if output:
        output.write_text("".join(f"{line}\n" for line in outputs), encoding="utf-8")
    if json_output:
        json_output.write_text(json.dumps(records, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _difference(translator: "Translator", sources: list[str], references: list[str], evaluation: "Evaluation") -> str:
    """What the precision that was asked for costs: the same sentences translated in float32."""
    from transformer.evaluation.scores import corpus_bleu

    outputs = translator.in_precision("float32").translate(sources)
    language = translator.config.data.target_language
    bleu, plain = (
        corpus_bleu(texts, references, language, confidence=False).value for texts in (evaluation.outputs, outputs)
    )
    same = sum(ours == others for ours, others in zip(evaluation.outputs, outputs, strict=True))
    return (
        f"BLEU in {translator.config.decoding.precision}: {bleu:.2f}, in float32: {plain:.2f}, difference: "
        f"{bleu - plain:+.2f}; {same:,} of {len(outputs):,} translations are the same"
    )


def _test_sets(given: Arguments, translator: "Translator") -> list[tuple[str, list[str], list[str]]]:
    """Name, sources and references of each test set asked for."""
    from transformer.data import corpora
    from transformer.evaluation.scores import wmt_test_set

    data = translator.config.data
    if given.flags.sacrebleu:
        sources, references = wmt_test_set(given.flags.sacrebleu, data.source_language, data.target_language)
        return [(given.flags.sacrebleu, sources, references)]
    names = given.flags.test or data.test
    if not names:
        raise UsageError("The run's config names no test set. Give one, for example --test=lines:test.en:test.de.")
    found = [corpora.parse(name, data) for name in names]
    corpora.check(found)
    pairs = [list(corpus.pairs()) for corpus in found]
    return [
        (corpus.name, [source for source, _ in texts], [target for _, target in texts])
        for corpus, texts in zip(found, pairs, strict=True)
    ]


EVALUATE = Verb(
    name="evaluate",
    summary="Score a trained run on a test set: BLEU and chrF with signatures.",
    description=_DESCRIPTION,
    define_flags=_define_flags,
    run=_run,
    overridable=(*decoding_flags.OVERRIDABLE, "data.data_dir"),
)

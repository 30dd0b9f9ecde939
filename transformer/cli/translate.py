"""`transformer translate`: stdin to stdout, progress on stderr."""

import itertools
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from absl import flags
from tqdm import tqdm

from transformer.cli import decoding_flags
from transformer.cli.usage import UsageError
from transformer.cli.verb import Arguments, Verb

if TYPE_CHECKING:
    from transformer.evaluation.translator import Hypothesis

# Sentences sorted by length together, and lost together when the command is killed.
_BLOCK = 4096
_SAME = "All processes translate together, and the first one prints: give each of them the same text."

_DESCRIPTION = """
    transformer translate --workdir=DIR < SOURCE > TRANSLATION

    Translates stdin, a sentence a line, to stdout, a line each in the same order, 4,096 at a time. Progress goes to
    stderr.

    Examples:
      echo "We will call her tomorrow at ten past five." | transformer translate --workdir=runs/phrasebook
      transformer translate --workdir=runs/mine --config.decoding.beam_size=8 < test.en > test.de
      transformer translate --workdir=runs/mine --precision=bfloat16 < test.en         (faster; see evaluate)
      transformer translate --workdir=runs/mine --n_best=3 < test.en
          (three lines a sentence: sentence number, score, log-probability, translation, with tabs between)
      transformer translate --workdir=runs/a,runs/b < test.en      (an ensemble of runs with one vocabulary)
      transformer translate --workdir=runs/a --checkpoint=8000,9000,last < test.en     (an ensemble of checkpoints)
"""


def _define_flags(values: flags.FlagValues) -> None:
    decoding_flags.define_flags(values)
    decoding_flags.define_precision(values)
    flags.DEFINE_integer(
        "n_best", 0, "Print this many translations a sentence with their scores.", lower_bound=0, flag_values=values
    )


def _run(given: Arguments) -> None:
    translator = decoding_flags.open_translator(given)
    from transformer.training import processes  # here: JAX comes with it

    count = given.flags.n_best
    translator.hypotheses([], count or 1)  # more than the beam holds is refused before anything is read
    if sys.stdin.isatty():
        print("Type sentences, a line each; Ctrl-D ends and translates.", file=sys.stderr)
    with tqdm(unit=" sentences", disable=not sys.stderr.isatty(), leave=False) as bar:
        for first, sources in _blocks():
            processes.check_same("Stdin", "\n".join([f"{len(sources)} lines", *sources]), _SAME)
            bar.total = first + len(sources)
            results = translator.hypotheses(sources, count or 1, progress=bar.update)
            _write(results, first + 1, scored=count > 0)
        processes.check_same("Stdin", "end", _SAME)


def _write(results: list[list["Hypothesis"]], first_number: int, *, scored: bool) -> None:
    for number, hypotheses in enumerate(results, start=first_number):
        if not scored:
            print(hypotheses[0].text)
            continue
        for hypothesis in hypotheses:
            print(number, f"{hypothesis.score:.6f}", f"{hypothesis.log_probability:.6f}", hypothesis.text, sep="\t")
    sys.stdout.flush()


def _blocks() -> Iterator[tuple[int, list[str]]]:
    """Stdin in blocks: how many lines came before, and the lines."""
    for blocks_before in itertools.count():
        first = blocks_before * _BLOCK
        lines = [
            _text(number, line) for number, line in enumerate(itertools.islice(sys.stdin.buffer, _BLOCK), first + 1)
        ]
        if not lines:
            return
        yield first, lines


def _text(number: int, line: bytes) -> str:
    try:
        return line.decode().strip()
    except UnicodeDecodeError as error:
        raise UsageError(f"stdin, line {number}, is not UTF-8 ({error.reason} at byte {error.start}).") from None


TRANSLATE = Verb(
    name="translate",
    summary="Translate stdin to stdout with a trained run.",
    description=_DESCRIPTION,
    define_flags=_define_flags,
    run=_run,
    overridable=decoding_flags.OVERRIDABLE,
)

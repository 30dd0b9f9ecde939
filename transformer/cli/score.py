"""`transformer score`: how probable a language model finds a text."""

import dataclasses
import json
import math
import sys
from typing import TYPE_CHECKING

from absl import flags
from tqdm import tqdm

from transformer.cli import decoding_flags, files
from transformer.cli.usage import UsageError
from transformer.cli.verb import Arguments, Verb

if TYPE_CHECKING:
    from transformer.evaluation.text_score import Scored

# Documents scored together.
_BLOCK = 256

_DESCRIPTION = """
    transformer score --workdir=DIR --text=FILE [--documents=file|lines] [--overlap=N]

    Scores text by a run whose model.architecture is language_model: perplexity a token, bits a byte, and with --tokens
    the log-probability of every token. A file is one document, or a line is. A document longer than the run's
    data.pack_length is read in windows of that length, of which none knows anything of those before, as in validation.
    With --overlap each window reads so many tokens of the one before again, which are not scored again: no token but
    the document's first ones then has less than that to go by. It takes longer, and tells more of the model than of
    where the windows begin.

    Examples:
      transformer score --workdir=runs/shakespeare --text=play.txt
      transformer score --workdir=runs/lm --text=- --documents=lines --tokens < lines.txt
          (a line a token: number of the line, piece, log-probability in nats, with tabs between)
      transformer score --workdir=runs/lm --text=book.txt --overlap=128
"""


@dataclasses.dataclass(frozen=True)
class _Document:
    """A text with something in it. Of lines the number is the line's."""

    number: int
    text: str


def _define_flags(values: flags.FlagValues) -> None:
    decoding_flags.define_flags(values)
    flags.DEFINE_string("text", None, "The file; -: stdin.", flag_values=values)
    flags.DEFINE_enum(
        "documents", "file", ["file", "lines"], "What a document is: the file, or each line.", flag_values=values
    )
    text = "Tokens that a window reads again of the one before, where a document needs several."
    flags.DEFINE_integer("overlap", 0, text, lower_bound=0, flag_values=values)
    flags.DEFINE_boolean("tokens", False, "Also print the log-probability of every token.", flag_values=values)
    flags.DEFINE_string("json_output", None, "Write the result to this file as JSON.", flag_values=values)


def _run(given: Arguments) -> None:
    chosen = given.flags
    if chosen.text is None:
        raise UsageError("--text is missing: the file to score, or - for stdin.")
    output = files.to_write(given, "json_output")
    documents = _documents(given)
    generator = decoding_flags.open_generator(given)
    from transformer.training import processes  # here: JAX comes with it

    total, tokens, size = 0.0, 0, 0
    with tqdm(unit=" tokens", disable=not sys.stderr.isatty(), leave=False) as bar:
        for first in range(0, len(documents), _BLOCK):
            block = documents[first : first + _BLOCK]
            scored = generator.score([each.text for each in block], overlap=chosen.overlap, progress=bar.update)
            for found in scored:
                total += float(found.log_probabilities.sum(dtype="float64"))
                tokens += len(found.pieces)
                size += found.num_bytes
            if chosen.tokens:
                with bar.external_write_mode():  # on a terminal the bar would stand in the first line
                    for document, found in zip(block, scored, strict=True):
                        _print_tokens(document.number, found)
                    sys.stdout.flush()
    record = {
        "documents": len(documents),
        "overlap": chosen.overlap,
        "tokens": tokens,
        "bytes": size,
        "loss": -total / tokens,
        "perplexity": math.exp(min(-total / tokens, 700.0)),
        "bits_per_byte": -total / math.log(2) / max(size, 1),
    }
    stream = sys.stderr if chosen.tokens else sys.stdout
    print(
        f"{len(documents):,} documents, {tokens:,} tokens (ends counted), {size:,} bytes\n"
        f"loss {record['loss']:.4f} nats a token, perplexity {record['perplexity']:.4g}, "
        f"{record['bits_per_byte']:.4f} bits a byte",
        file=stream,
    )
    if output and processes.speaks():
        output.write_text(json.dumps(record, indent=2) + "\n")


def _print_tokens(number: int, found: "Scored") -> None:
    for piece, value in zip(found.pieces, found.log_probabilities, strict=True):
        print(number, json.dumps(piece, ensure_ascii=False)[1:-1], f"{value:.6f}", sep="\t")


def _documents(given: Arguments) -> list[_Document]:
    lines = given.flags.documents == "lines"
    texts = files.read_lines(given, "text") if lines else [files.read_text(given, "text")]
    documents = [_Document(number, text) for number, text in enumerate(texts, start=1) if text]
    if not documents:
        raise UsageError(f"--text={given.flags.text} is empty: there is nothing to score.")
    return documents


SCORE = Verb(
    name="score",
    summary="Say how probable a trained language model finds a text.",
    description=_DESCRIPTION,
    define_flags=_define_flags,
    run=_run,
    overridable=("mesh.",),
)

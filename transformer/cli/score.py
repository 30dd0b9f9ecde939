"""`transformer score`: how probable a language model finds a text."""

import json
import math
import sys
from pathlib import Path

from absl import flags
from tqdm import tqdm

from transformer.cli import decoding_flags
from transformer.cli.usage import UsageError
from transformer.cli.verb import Arguments, Verb

# Texts scored together.
_BLOCK = 256

_DESCRIPTION = """
    transformer score --workdir=DIR --text=FILE [--documents=file|lines]

    Scores text by a run whose model.architecture is language_model: perplexity a token, bits a byte, and with --tokens
    the log-probability of every token. A file is one document, or a line is. A document longer than the run's
    data.pack_length is read in pieces of that length, each of which knows nothing of those before.

    Examples:
      transformer score --workdir=runs/shakespeare --text=play.txt
      transformer score --workdir=runs/lm --text=- --documents=lines --tokens < lines.txt
          (a line a token: document, piece, log-probability in nats, with tabs between)
"""


def _define_flags(values: flags.FlagValues) -> None:
    decoding_flags.define_flags(values)
    flags.DEFINE_string("text", None, "The file; -: stdin.", flag_values=values)
    flags.DEFINE_enum(
        "documents", "file", ["file", "lines"], "What a document is: the file, or each line.", flag_values=values
    )
    flags.DEFINE_boolean("tokens", False, "Also print the log-probability of every token.", flag_values=values)
    flags.DEFINE_string("json_output", None, "Write the result to this file as JSON.", flag_values=values)


def _run(given: Arguments) -> None:
    chosen = given.flags
    if chosen.text is None:
        raise UsageError("--text is missing: the file to score, or - for stdin.")
    texts = _texts(chosen.text, chosen.documents)
    generator = decoding_flags.open_generator(given)
    from transformer.training import processes  # here: JAX comes with it

    total, tokens, size = 0.0, 0, 0
    with tqdm(total=len(texts), unit=" documents", disable=not sys.stderr.isatty(), leave=False) as bar:
        for first in range(0, len(texts), _BLOCK):
            for number, found in enumerate(generator.score(texts[first : first + _BLOCK]), start=first + 1):
                total += float(found.log_probabilities.sum(dtype="float64"))
                tokens += len(found.pieces)
                size += found.num_bytes
                if chosen.tokens:
                    for piece, value in zip(found.pieces, found.log_probabilities, strict=True):
                        print(number, json.dumps(piece, ensure_ascii=False)[1:-1], f"{value:.6f}", sep="\t")
                bar.update()
    record = {
        "documents": len(texts),
        "tokens": tokens,
        "bytes": size,
        "loss": -total / tokens,
        "perplexity": math.exp(min(-total / tokens, 700.0)),
        "bits_per_byte": -total / math.log(2) / max(size, 1),
    }
    stream = sys.stderr if chosen.tokens else sys.stdout
    print(
        f"{len(texts):,} documents, {tokens:,} tokens (ends counted), {size:,} bytes\n"
        f"loss {record['loss']:.4f} nats a token, perplexity {record['perplexity']:.4g}, "
        f"{record['bits_per_byte']:.4f} bits a byte",
        file=stream,
    )
    if chosen.json_output and processes.speaks():
        Path(chosen.json_output).write_text(json.dumps(record, indent=2) + "\n")


def _texts(name: str, documents: str) -> list[str]:
    try:
        content = (sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()).decode()
    except OSError as error:
        raise UsageError(f"--text={name} cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"--text={name} is not UTF-8 (byte {error.start}).") from None
    texts = content.splitlines() if documents == "lines" else [content]
    texts = [text for text in texts if text]
    if not texts:
        raise UsageError(f"--text={name} is empty: there is nothing to score.")
    return texts


SCORE = Verb(
    name="score",
    summary="Say how probable a trained language model finds a text.",
    description=_DESCRIPTION,
    define_flags=_define_flags,
    run=_run,
    overridable=("mesh.",),
)

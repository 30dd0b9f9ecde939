"""A file translated by `transformer translate` and by CTranslate2, each as a whole command.

    python benchmarks/translate_corpus.py --workdir runs/multi30k --source train.en [--reference train.de] \\
        [--beam 5] [--penalty 0.6] [--turns 3] [--compute_types float32,int8] [--flags=FLAGS] [--ours=FLAGS]
        [--json corpus.json]

The run is exported first (`transformer export --to=ctranslate2`, pip install 'transformer[ctranslate2]'). Our side is
the command as anyone types it, with the run's beam unless one is given and with --flags; every --ours adds a row with
more flags.
CTranslate2's is a program of a few lines, at the end of this file: it reads and tokenises the same lines, lets
CTranslate2 sort them by length into batches of so many tokens, and prints. How its threads are arranged (one batch by
all, or a batch each) and how large batches are is tried first, on some of the lines: it gets what is fastest. Both are
held to the same cores. The limit of the output is the run's, the longest sentence's for all in CTranslate2. With
--penalty ALPHA both divide log-probabilities by length^ALPHA (ours counts the end of a sentence); without, ours is the
run's formula, and CTranslate2's exponent the nearest (README.txt of the exported folder).

Rows take turns. A time is that of the process, from its start to its end, medians of the turns: `start-up` is the same
command for the first line alone, `file` for all lines, and the difference is what sentences a second are of. The first
run of each, which compiles ours unless a cache has it, is told apart. `same` is the share of lines equal to the
first row's; BLEU is cased sacreBLEU. Prints the machine, a table and, as its last line, one JSON object.
"""

import argparse
import dataclasses
import importlib.metadata
import itertools
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import machine

# What CTranslate2 is tried with, on so many lines.
BATCH_TOKENS = (1024, 2048, 4096, 8192)
TRIED_LINES = 1024


@dataclasses.dataclass
class Row:
    """A command that translates stdin to stdout, and what was seen of it."""

    name: str
    command: list[str]
    start_up_s: list[float] = dataclasses.field(default_factory=list)
    file_s: list[float] = dataclasses.field(default_factory=list)
    first_s: float = 0.0
    output: list[str] = dataclasses.field(default_factory=list)

    def run(self, lines: list[str]) -> float:
        """Seconds."""
        text = "".join(f"{line}\n" for line in lines)
        began = time.perf_counter()
        done = subprocess.run(self.command, input=text, capture_output=True, encoding="utf-8", check=False)
        seconds = time.perf_counter() - began
        if done.returncode:
            sys.exit(f"{' '.join(self.command)}\n{done.stderr}")
        self.output = done.stdout.split("\n")[:-1]
        if len(self.output) != len(lines):
            sys.exit(f"{self.name} gave {len(self.output)} lines for {len(lines)}.")
        return seconds


def export(workdir: str, folder: Path) -> None:
    command = [sys.executable, "-m", "transformer", "export", "--to=ctranslate2"]
    done = subprocess.run([*command, f"--workdir={workdir}", f"--output={folder}"], stdout=subprocess.DEVNULL)
    if done.returncode:
        sys.exit("The run cannot be exported; why stands above.")


def ours(arguments: argparse.Namespace) -> list[Row]:
    command = [sys.executable, "-m", "transformer", "translate", f"--workdir={arguments.workdir}"]
    command += [f"--config.decoding.beam_size={arguments.beam}"]
    if arguments.penalty is not None:
        command += [f"--config.decoding.length_penalty={arguments.penalty}"]
        command += ["--config.decoding.length_penalty_form=power"]
    rows = [arguments.flags, *(f"{arguments.flags} {flags}" for flags in arguments.ours)]
    return [Row(" ".join(["transformer", *shlex.split(flags)]), [*command, *shlex.split(flags)]) for flags in rows]


def theirs(folder: Path, compute_type: str, arguments: argparse.Namespace, lines: list[str]) -> Row:
    """CTranslate2 in the arrangement that is fastest on some of the lines."""

    def row(tokens: int, inter_threads: int) -> Row:
        settings = {
            **{"compute_type": compute_type, "inter_threads": inter_threads, "batch_tokens": tokens},
            **{"intra_threads": arguments.threads // inter_threads, "beam_size": arguments.beam},
            **{"length_penalty": arguments.ct2_length_penalty, "extra_length": arguments.extra_length},
        }
        command = [sys.executable, __file__, "--serve", json.dumps(settings), "--workdir", str(folder)]
        return Row(f"ctranslate2 {compute_type} ({inter_threads} x {tokens} tokens)", command)

    some = lines[:: max(len(lines) // TRIED_LINES, 1)]
    candidates = [row(*each) for each in itertools.product(BATCH_TOKENS, sorted({1, arguments.threads}))]
    return min(candidates, key=lambda candidate: candidate.run(some))


def measure(rows: list[Row], lines: list[str], turns: int) -> None:
    for row in rows:
        row.first_s = row.run(lines)
        row.run(lines[:1])
    for _ in range(turns):
        for row in rows:
            row.start_up_s.append(row.run(lines[:1]))
            row.file_s.append(row.run(lines))


def described(row: Row, base: Row, reference: list[str] | None) -> dict[str, float | str]:
    start_up, whole = statistics.median(row.start_up_s), statistics.median(row.file_s)
    result = {
        "name": row.name,
        "start_up_s": start_up,
        "file_s": whole,
        "first_s": row.first_s,
        "sentences_per_s": len(row.output) / (whole - start_up),
        "seconds_over_ours": whole / statistics.median(base.file_s),
        "same": sum(map(str.__eq__, row.output, base.output)) / len(base.output),
    }
    if reference is not None:
        from sacrebleu.metrics import BLEU

        result["bleu"] = BLEU().corpus_score(row.output, [reference]).score
    return result


def print_table(described_rows: list[dict]) -> None:
    width = max(len(row["name"]) for row in described_rows)
    print(f"{'':{width}}{'start-up':>10}{'file':>10}{'/ ours':>8}{'first':>10}{'sent/s':>9}{'same':>9}{'BLEU':>7}")
    for row in described_rows:
        bleu = f"{row['bleu']:7.2f}" if "bleu" in row else f"{'-':>7}"
        print(
            f"{row['name']:{width}}{row['start_up_s']:8.2f} s{row['file_s']:8.1f} s{row['seconds_over_ours']:8.2f}"
            f"{row['first_s']:8.1f} s{row['sentences_per_s']:9.1f}{row['same']:9.2%}{bleu}"
        )


def read_lines(path: Path) -> list[str]:
    lines = path.read_text("utf-8").split("\n")
    return lines if lines[-1] else lines[:-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", required=True, help="A trained run.")
    parser.add_argument("--source", type=Path, help="Its sentences, a line each.")
    parser.add_argument("--reference", type=Path, help="Their translations, for BLEU.")
    parser.add_argument("--beam", type=int, help="Unset: the run's.")
    parser.add_argument("--penalty", type=float, help="The exponent of the length on both sides. Unset: the run's.")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="Cores for each side.")
    parser.add_argument("--turns", type=int, default=3, help="How often each row runs.")
    parser.add_argument("--compute_types", default="float32", help="CTranslate2's, with commas between.")
    parser.add_argument("--flags", default="", help="Of `translate`, for all our rows.")
    parser.add_argument("--ours", action="append", default=[], help="One more row with these flags of `translate`.")
    parser.add_argument("--json", type=Path, help="Also write the result to this file.")
    parser.add_argument("--serve", type=json.loads, help="Be CTranslate2's side: see `serve`.")
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.workdir, **arguments.serve)
        return

    from transformer.export.ctranslate2 import nearest_length_penalty
    from transformer.training.saved_run import choose
    from transformer.training.workdir import Workdir

    decoding = choose(Workdir(arguments.workdir)).config.decoding
    arguments.beam = arguments.beam or decoding.beam_size
    arguments.extra_length = decoding.extra_length
    arguments.ct2_length_penalty = nearest_length_penalty(decoding) if arguments.penalty is None else arguments.penalty
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])  # all that is started inherits it
    lines = read_lines(arguments.source)
    reference = None if arguments.reference is None else read_lines(arguments.reference)
    result = {
        "machine": machine(),
        "peer": f"ctranslate2 {importlib.metadata.version('ctranslate2')}",
        "what": f"{len(lines):,} lines of {arguments.source.name}, beam {arguments.beam}, {arguments.threads} threads",
        "penalty": _penalties(arguments, decoding),
    }
    print(*result.values(), sep="\n", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "exported"
        export(arguments.workdir, folder)
        rows = ours(arguments)
        rows += [theirs(folder, each, arguments, lines) for each in arguments.compute_types.split(",")]
        measure(rows, lines, arguments.turns)
    result["rows"] = [described(row, rows[0], reference) for row in rows]
    print_table(result["rows"])
    print(f"\n{json.dumps(result)}")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


def _penalties(arguments: argparse.Namespace, decoding) -> str:
    theirs = f"length^{arguments.ct2_length_penalty:.3g}"
    ours = f"{decoding.length_penalty_form} {decoding.length_penalty:g}" if arguments.penalty is None else theirs
    return f"length penalty: ours {ours}, CTranslate2's {theirs}"


def serve(
    folder: str,
    compute_type: str,
    inter_threads: int,
    intra_threads: int,
    batch_tokens: int,
    beam_size: int,
    length_penalty: float,
    extra_length: int,
) -> None:
    """CTranslate2's side: stdin to stdout."""
    import ctranslate2
    import sentencepiece

    source_file, target_file = (Path(folder) / f"{side}.model" for side in ("source", "target"))
    source = sentencepiece.SentencePieceProcessor(model_file=str(source_file))
    target = source
    if target_file.exists():
        target = sentencepiece.SentencePieceProcessor(model_file=str(target_file))
    translator = ctranslate2.Translator(
        folder, compute_type=compute_type, inter_threads=inter_threads, intra_threads=intra_threads
    )
    lines = sys.stdin.read().split("\n")[:-1]
    pieces = source.encode([line.strip() for line in lines], out_type=str, num_threads=inter_threads * intra_threads)
    found = translator.translate_batch(
        pieces,
        max_batch_size=batch_tokens,
        batch_type="tokens",
        beam_size=beam_size,
        length_penalty=length_penalty,
        min_decoding_length=0,
        max_decoding_length=max(map(len, pieces)) + extra_length,
    )
    print("\n".join(target.decode([result.hypotheses[0] for result in found])))


if __name__ == "__main__":
    main()

"""Translating: output tokens a second of beam search and greedy decoding, one sentence at a time and many together.

    python benchmarks/decode.py [--beams 4,1] [--batches 1,8,32] [--precisions float32,bfloat16,int8] [--turns 5]
                                [--peers] [--peers-of NAMES] [--peers-python PYTHON] [--json decode.json]

The paper's base model (d512, ff2048, h8, N6+6, vocabulary 32,000, post-norm) with random weights on the CPU. A source
is 25 tokens, EOS counted, an output exactly 32, none of which may be EOS. Ours is `Search`, what `transformer
translate` and `evaluate` run, with nothing switched off; a batch is one group of its sentences. The rate is that of the
whole: encoder, search, and what the host does between. Whatever compiles or loads does so before. Large square matrix
products are timed in the same process, before and after, as the ceiling.

With --peers the same shapes are run by CTranslate2 in float32 and int8 and by Hugging Face's Marian class in float32,
where they are installed (`pip install ctranslate2 torch transformers`), under --peers-python (this Python when unset)
with as many threads. Every side is a process of its own, which waits while the others run: they run in turns, in the
same minutes and on the same cores, all with huge pages. Medians of the turns, in each of which a translation that is
not counted goes before; a ratio is a peer's seconds over those of ours. Prints the machine, a table and, as its last
line, one JSON object.
"""

import argparse
import dataclasses
import json
import statistics
import sys
from pathlib import Path

import decode_peers
import jax
import numpy as np
from decode_peers import HEADS, INNER, LAYERS, VOCABULARY, WIDTH, Sources, Translate
from machine import machine
from peers import threads
from sides import Side, installed

from transformer import sharding
from transformer.config import DecodingConfig, MeshConfig, ModelConfig
from transformer.data.tokenizer import EOS
from transformer.evaluation.search import Search
from transformer.model.blueprint import Blueprint
from transformer.model.products import computed_in
from transformer.training import peak

SOURCE, OUTPUT = 25, 32
OURS = ("float32", "bfloat16", "int8")
MODEL = ModelConfig(
    d_model=WIDTH, d_ff=INNER, num_heads=HEADS, num_encoder_layers=LAYERS, num_decoder_layers=LAYERS, dropout=0.0
)
SCRIPT = Path(__file__).parent / "decode_peers.py"


def ours(precision: str) -> Translate:
    blueprint = Blueprint.of(MODEL, VOCABULARY, VOCABULARY)
    mesh = sharding.make_mesh(MeshConfig())
    params = blueprint.init(0, MODEL, mesh)
    # EOS has the logit 0, and many of the others are larger.
    table = params["target_embedding"]["table"]
    ends = np.arange(VOCABULARY)[:, None] == EOS
    params["target_embedding"]["table"] = jax.device_put(np.where(ends, 0.0, table), table.sharding)
    search = Search([blueprint], mesh, precision)
    weights = search.prepare([params])

    def translate(sources: Sources, beam_size: int, wanted: int) -> list[list[int]]:
        settings = DecodingConfig(beam_size=beam_size, batch_size=len(sources), extra_length=wanted - (SOURCE - 1))
        found = search(weights, [source[:-1] for source in sources], settings)
        return [best.tokens for (best,) in found]

    return translate


def ceiling(precision: str) -> float:
    """FLOP/s of large square products."""
    return peak.measure(computed_in("bfloat16" if precision == "bfloat16" else "float32"), jax.devices()).flops


def sides(arguments: argparse.Namespace) -> dict[str, Side]:
    lengths = ["--lengths", str(SOURCE), str(OUTPUT)]
    found = {}
    for precision in arguments.precisions.split(","):
        found[f"ours {precision}"] = Side(precision, [sys.executable, __file__, "--serve", precision])
    if arguments.peers:
        command = [arguments.peers_python, str(SCRIPT)]
        for name in installed(command, decode_peers.PACKAGES, arguments.peers_of.split(",")):
            found[name] = Side(name, [*command, "--serve", name, *lengths])
    return found


@dataclasses.dataclass(frozen=True)
class Case:
    beam_size: int
    rows: int

    def __str__(self) -> str:
        return f"{'greedy' if self.beam_size == 1 else f'beam {self.beam_size}'} x {self.rows}"


def measure(running: dict[str, Side], case: Case, turns: int) -> dict[str, dict[str, float]]:
    """Of each side: output tokens a second, by the median of its seconds and by the best."""

    def run(side: Side) -> float:
        """Seconds of one batch."""
        return float(side.ask(f"{case.beam_size} {case.rows}"))

    for side in running.values():
        run(side)  # compiles
    seconds: dict[str, list[float]] = {name: [] for name in running}
    for _ in range(turns):
        for name, side in running.items():
            seconds[name].append(run(side))
    tokens = case.rows * OUTPUT
    return {
        name: {"tokens_per_s": tokens / statistics.median(times), "best_tokens_per_s": tokens / min(times)}
        for name, times in seconds.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beams", default="4,1", help="Hypotheses kept; 1 is greedy.")
    parser.add_argument("--batches", default="1,8,32", help="Sentences translated together.")
    parser.add_argument("--precisions", default=",".join(OURS), help=f"Of {', '.join(OURS)}.")
    parser.add_argument("--turns", type=int, default=5, help="How often each side runs a case.")
    parser.add_argument("--peers", action="store_true", help="Also measure the peers that are installed.")
    names = ",".join(decode_peers.SIDES)
    parser.add_argument("--peers-of", default=names, help=f"Which of {names}; Marian takes most of the time.")
    parser.add_argument("--peers-python", default=sys.executable, help="The Python they are installed in.")
    parser.add_argument("--json", type=Path, help="Also write the result to this file.")
    parser.add_argument("--serve", choices=OURS, help="Be our side: see `decode_peers.serve`.")
    arguments = parser.parse_args()
    if arguments.serve:
        before = ceiling(arguments.serve)
        decode_peers.serve(ours(arguments.serve), SOURCE, OUTPUT)
        print(max(before, ceiling(arguments.serve)), flush=True)
        return

    shape = (
        f"d{WIDTH} ff{INNER} h{HEADS} N{LAYERS}+{LAYERS} vocabulary {VOCABULARY:,}, {SOURCE} tokens in, {OUTPUT} out"
    )
    print(machine(), shape, f"{threads()} threads", sep="\n")
    running = sides(arguments)
    result = {"machine": machine(), "shape": shape, "threads": threads(), "cases": {}}
    print("\noutput tokens/s" + "".join(f"{name:>22}" for name in running) + "   ratio of ours to each peer")
    for case in (
        Case(int(beam), int(rows)) for beam in arguments.beams.split(",") for rows in arguments.batches.split(",")
    ):
        found = result["cases"][str(case)] = measure(running, case, arguments.turns)
        rates = "".join(f"{row['tokens_per_s']:22,.0f}" for row in found.values())
        print(f"{case!s:15}{rates}   {_ratios(found)}", flush=True)
    result["matmul_flops_per_s"] = _ceilings(running)
    print(
        "matmul: "
        + ", ".join(f"{name} {flops / 1e9:,.0f} GFLOP/s" for name, flops in result["matmul_flops_per_s"].items())
    )
    print(f"\n{json.dumps(result)}")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


def _ratios(found: dict[str, dict[str, float]]) -> str:
    mine = {name.removeprefix("ours "): row for name, row in found.items() if name.startswith("ours ")}
    return "; ".join(
        f"{name} "
        + ", ".join(
            f"{row['tokens_per_s'] / peer['tokens_per_s']:.2f} ({precision})" for precision, row in mine.items()
        )
        for name, peer in found.items()
        if not name.startswith("ours ")
    )


def _ceilings(running: dict[str, Side]) -> dict[str, float]:
    """Ends all sides."""
    flops = {}
    for name, side in running.items():
        side.close()
        if name.startswith("ours "):
            flops[name.removeprefix("ours ")] = float(side.answer())
        side.wait()
    return flops


if __name__ == "__main__":
    main()

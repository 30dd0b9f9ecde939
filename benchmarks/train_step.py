"""The training step alone: forward, backward, Adam, dropout 0.1, label smoothing 0.1, tied embeddings, post-norm.

    python benchmarks/train_step.py [--models base,small] [--dtypes float32,bfloat16] [--accumulate 1,4] [--memory]
                                    [--peers] [--peers-of NAMES] [--peers-python PYTHON] [--turns 5]
                                    [--json train_step.json]

base is the paper's (d512, ff2048, h8, N6+6, vocabulary 32,000) on 64 pairs of 32+32 tokens; small is d256, ff1024, h4,
N3+3, vocabulary 10,000 on 128 pairs of 24+24. No padding. Each case runs in a process of its own with huge pages, with
matrix products timed before and after in the same process as the ceiling. Prints the machine, a table and, as its last
line, one JSON object. About two minutes by default.

With --peers the same steps are taken by PyTorch, written by hand, as it is and compiled, and in float32 by Hugging
Face's Marian class, OpenNMT-py and JoeyNMT, where they are installed, under --peers-python (this Python when unset)
with as many threads: `pip install torch transformers joeynmt importlib_metadata` (JoeyNMT needs the last and does not
say so). OpenNMT-py asks for a torch before 2.3 and works with later ones: `pip install --no-deps OpenNMT-py`, and
`pip install pyonmttok configargparse six spacy pyahocorasick rapidfuzz fasttext`. Every side of a case is a process of
its own, which waits while the others run: they run in turns, in the same minutes and on the same cores, all with huge
pages. Medians of the steps of all turns but the first of each; ours/peer is how many times as fast ours is.
train_peers.py says how the peers differ. About ten minutes.

--memory prints what takes the memory of a step, see `memory_parts`. With --accumulate=1,4 our side takes a batch whole,
and in four parts one after the other; else in as many as a run does by itself, see `training.accumulate`.
"""

import argparse
import dataclasses
import functools
import itertools
import json
import statistics
import sys
import time
from pathlib import Path

import jax
import numpy as np
import train_peers
from machine import machine
from peers import threads
from sides import Side, installed
from train_peers import SHAPES, Shape

from transformer import sharding
from transformer.config import Config, MeshConfig, ModelConfig
from transformer.model.blueprint import Blueprint
from transformer.model.products import computed_in
from transformer.planning.memory import Memory
from transformer.training import flops, heap, peak
from transformer.training.step import Trainer

SCRIPT = Path(__file__).parent / "train_peers.py"
OURS = "ours"
IN_FLOAT32_ONLY = ("Marian", "OpenNMT-py", "JoeyNMT")
LABEL = 20  # columns of a table's first cell


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    dtype: str
    accumulate: int | None = None  # parts of a batch; None: as many as a run takes

    def __str__(self) -> str:
        return f"{self.name} {self.dtype}" + (f" / {self.accumulate}" if self.accumulate else "")

    @property
    def shape(self) -> Shape:
        return SHAPES[self.name]

    @property
    def model(self) -> ModelConfig:
        shape = self.shape
        return ModelConfig(
            d_model=shape.width,
            d_ff=shape.inner,
            num_heads=shape.heads,
            num_encoder_layers=shape.layers,
            num_decoder_layers=shape.layers,
            dropout=train_peers.DROPOUT,
            dtype=self.dtype,
            # Unrolled: a rolled scan copies each layer's weights and gradients once more, 5 to 13% of a step on a CPU.
            unroll=shape.layers,
        )

    def batch(self) -> dict[str, np.ndarray]:
        tokens = train_peers.batch_of(self.shape)
        shape = tokens["source"].shape
        positions = np.broadcast_to(np.arange(shape[1], dtype=np.int32), shape)
        sides = ("source", "target")
        return (
            tokens
            | {f"{side}_segments": np.ones(shape, np.int32) for side in sides}
            | {f"{side}_positions": positions for side in sides}
        )


def serve(case: Case) -> dict:
    """Our side of a case, in this process: see `train_peers.serve`. Its report."""
    process_mb = train_peers.memory_mb()
    config = Config(model=case.model)
    config.training.label_smoothing = train_peers.SMOOTHING
    config.training.accumulate = case.accumulate
    mesh = sharding.make_mesh(MeshConfig())
    vocabulary = case.shape.vocabulary
    trainer = Trainer.of(config, Blueprint.of(config.model, vocabulary, vocabulary), mesh)
    with jax.set_mesh(mesh):
        ceiling = peak.measure(computed_in(case.dtype), jax.devices()).flops
        state = trainer.init()
        arrays = sharding.to_global(case.batch(), mesh)
        began = time.perf_counter()
        compiled = trainer.train_step.lower(state, arrays).compile()
        compile_s = time.perf_counter() - began
        heap.trim()  # as a run does
        compiled_mb = train_peers.memory_mb()
        memory = Memory.of(state, arrays, compiled.memory_analysis())

        def step() -> float:
            nonlocal state
            state, report = compiled(state, arrays)
            jax.block_until_ready(report)
            return float(report.window.sums.loss / report.window.sums.tokens)

        report = train_peers.serve(step)
        ceiling = max(ceiling, peak.measure(computed_in(case.dtype), jax.devices()).flops)
    parts = {part: size / 2**20 for part, size in dataclasses.asdict(memory).items()}
    return report | {
        "compile_s": compile_s,
        "matmul_flops_per_s": ceiling,
        "memory_mb": parts | {"process": process_mb, "compiled": compiled_mb},
    }


def measure(case: Case, commands: dict[str, list[str]], turns: int, seconds: float) -> dict[str, dict]:
    """One case: what each side measured. `seconds` is how long each is timed, in all turns together."""
    running: dict[str, Side] = {}
    for name, command in commands.items():
        running[name] = Side(f"{case} {name}", command)
        running[name].answer()  # one after the other: compiling is timed too
    times: dict[str, list[float]] = {name: [] for name in running}
    for _ in range(turns):
        for name, side in running.items():
            times[name] += json.loads(side.ask(str(seconds / turns)))
    step_flops = flops.training_flops(case.model, case.shape.vocabulary, flops.count(case.batch()))
    found = {}
    for name, side in running.items():
        side.close()
        report = json.loads(side.answer())
        side.wait()
        median = statistics.median(times[name])
        rates = {
            "target_tokens_per_s": case.shape.rows * case.shape.length / median,
            "step_s": median,
            "flops_per_s": step_flops / median,
            "ratio": step_flops / median / report["matmul_flops_per_s"],
            "steps": len(times[name]),
        }
        found[name] = rates | report
    return found


def commands(case: Case, peers: list[str], python: str) -> dict[str, list[str]]:
    """How each side of a case is started, ours first."""
    words = ["--case", case.name, case.dtype]
    found = {OURS: [sys.executable, __file__, *words]}
    if case.accumulate:
        found[OURS].append(f"--accumulate={case.accumulate}")
    for peer in peers:
        if case.dtype == "float32" or peer not in IN_FLOAT32_ONLY:
            found[peer] = [python, str(SCRIPT), "--serve", peer, *words]
    return found


# --- tables ---


def heading() -> str:
    columns = {"target tok/s": 14, "step": 9, "GFLOP/s": 9, "matmul": 9, "ratio": 7, "peak": 11, "compile": 9}
    return " " * LABEL + "".join(f"{column:>{size}}" for column, size in columns.items())


def line(label: str, row: dict) -> str:
    compiling = f"{row['compile_s']:7.1f} s" if "compile_s" in row else f"{'':9}"
    return (
        f"{label:{LABEL}}{row['target_tokens_per_s']:14,.0f}{row['step_s']:7.3f} s"
        f"{row['flops_per_s'] / 1e9:9.0f}{row['matmul_flops_per_s'] / 1e9:9.0f}{row['ratio']:7.0%}"
        f"{row['peak_memory_mb']:8,} MB{compiling}"
    )


MEMORY = ("before", "parameters", "moments", "batch", "compiling", "work space", "together", "peak")


def memory_parts(row: dict) -> dict[str, float]:
    """What takes the memory of our side of a case, in MB.

    before: Python and its libraries. compiling: what the process has beyond what is listed so far when it has compiled,
    and given back what it can. work space: what the compiled program needs besides. peak: as measured.
    """
    memory = row["memory_mb"]
    given = [memory["process"], memory["parameters"], memory["optimizer"], memory["batch"]]
    compiling = max(memory["compiled"] - sum(given), 0)
    working = memory["temporaries"] + memory["outputs"]
    values = [*given, compiling, working, sum(given) + compiling + working, row["peak_memory_mb"]]
    return dict(zip(MEMORY, values, strict=True))


def memory_table(rows: dict[str, dict]) -> str:
    """Of our side of each case."""
    lines = [f"{'memory in MB':{LABEL}}" + "".join(f"{part:>{len(part) + 3}}" for part in MEMORY)]
    for label, row in rows.items():
        cells = (f"{value:{len(part) + 3},.0f}" for part, value in memory_parts(row).items())
        lines.append(f"{label:{LABEL}}" + "".join(cells))
    return "\n".join(lines)


# --- the command ---


def names_of(known: list[str], text: str) -> list[str]:
    """Names separated by commas, each of which is known."""
    names = text.split(",")
    for name in names:
        if name not in known:
            raise argparse.ArgumentTypeError(f"there is no {name!r}; choose from {', '.join(known)}")
    return names


def at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)


def numbers_of_parts(text: str) -> list[int]:
    return [at_least_one(number) for number in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)

    def option(name: str, known: list[str], text: str) -> None:
        parser.add_argument(name, type=functools.partial(names_of, known), default=",".join(known), help=text)

    option("--models", [*SHAPES], f"Of {', '.join(SHAPES)}.")
    option("--dtypes", ["float32", "bfloat16"], "Of float32, bfloat16.")
    parser.add_argument("--seconds", type=float, default=20, help="How long each side of a case is timed.")
    parser.add_argument("--accumulate", type=numbers_of_parts, default=[None], help="Parts our side takes a batch in.")
    parser.add_argument("--memory", action="store_true", help="Also print what takes the memory of our side.")
    parser.add_argument("--peers", action="store_true", help="Also measure the peers that are installed.")
    option("--peers-of", [*train_peers.SIDES], f"Which of {', '.join(train_peers.SIDES)}.")
    parser.add_argument("--peers-python", default=sys.executable, help="The Python they are installed in.")
    parser.add_argument("--turns", type=at_least_one, default=5, help="Among how many turns sides share their seconds.")
    parser.add_argument("--json", type=Path, help="Also write the result to this file.")
    parser.add_argument("--case", nargs=2, metavar=("MODEL", "DTYPE"), help="Be our side of this one: see `serve`.")
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(serve(Case(*arguments.case, *arguments.accumulate))), flush=True)
        return
    for name, parts in itertools.product(arguments.models, arguments.accumulate):
        if SHAPES[name].rows % (parts or 1):
            parser.error(
                f"--accumulate: {name}'s {SHAPES[name].rows} rows are not to be split into {parts} equal parts"
            )

    print(machine())
    peers = []
    if arguments.peers:
        print(f"{threads()} threads")
        command = [arguments.peers_python, str(SCRIPT)]
        peers = installed(command, train_peers.PACKAGES, arguments.peers_of)
    print(heading() + ("  ours/peer" if arguments.peers else ""))
    result = {"machine": machine()}
    rows = {}
    for case in itertools.starmap(Case, itertools.product(arguments.models, arguments.dtypes, arguments.accumulate)):
        found = measure(
            case,
            commands(case, peers, arguments.peers_python),
            arguments.turns if arguments.peers else 1,
            arguments.seconds,
        )
        mine = rows[str(case)] = found.pop(OURS)
        print(line(str(case), mine), flush=True)
        for name, row in found.items():
            times = row["step_s"] / mine["step_s"]
            print(f"{line(f'  {name}', row)}{times:11.2f}", flush=True)
        result[str(case)] = mine | ({"peers": found} if arguments.peers else {})
    if arguments.memory:
        print(f"\n{memory_table(rows)}")
    print(f"\n{json.dumps(result)}")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()

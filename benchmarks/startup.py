"""From a command to its first result: the first translation, and the first training step.

    python benchmarks/startup.py [--workdir runs/mine] [--repeats 5] [--json startup.json]
    python benchmarks/startup.py --against ../other_clone

Runs the real commands as processes of their own: `transformer translate` of one sentence, until it ends, and
`transformer train`, until the first step is logged; with an empty cache of compiled programs, and with the one that
the runs before have filled. The model is one of 10,000 parameters, trained here on the built-in phrasebook, which shows
what start-up costs at the least; --workdir adds the translation by a run of yours. Beside them an empty Python and one
that imports JAX alone: what no program with JAX can go below. All repeats are interleaved, so that a slow moment of the
machine meets all alike. --against times the same commands of another clone in between, and prints the ratio.

Then the phases of one warm run of each (startup_phases.py); the sums are a little longer than the commands alone.
Prints the machine, tables and, as its last line, one JSON object. About two minutes by default.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from machine import machine

CLONE = Path(__file__).parents[1]
SENTENCE = "My husband will pick our aunt up at the airport tomorrow at half past seven.\n"
PHASES = Path(__file__).with_name("startup_phases.py")
FIRST_STEP = re.compile(r"step 1/")
TINY = shlex.split(
    """
    --config=phrasebook --config.data.train=phrasebook:validation --config.data.test='()'
    --config.data.max_length=128 --config.data.num_buckets=1 --config.tokenizer.vocab_size=300
    --config.model.d_model=16 --config.model.d_ff=32 --config.model.num_heads=2
    --config.model.num_encoder_layers=1 --config.model.num_decoder_layers=1
    --config.training.steps=2 --config.training.log_every=1 --config.optimizer.warmup_steps=1
    --config.evaluation.bleu_sentences=0 --config.decoding.extra_length=5
    """
)
CEILING = """
import jax
from transformer.training import peak
print(peak.measure("float32", jax.devices()).flops)
"""


class Commands:
    """The commands of one clone, with folders of their own in `scratch`."""

    def __init__(self, clone: Path, scratch: Path):
        self._clone = clone
        self._scratch = scratch
        self.tiny = scratch / "tiny"
        scratch.mkdir()

    def environment(self) -> dict[str, str]:
        # A home of its own: tokenised text, and compiled programs.
        kept = {name: value for name, value in os.environ.items() if name not in ("GLIBC_TUNABLES", "XDG_CACHE_HOME")}
        folders = {"HOME": str(self._scratch), "JAX_COMPILATION_CACHE_DIR": str(self._scratch / "programs")}
        return kept | folders | {"PYTHONPATH": str(self._clone)}

    def forget_programs(self) -> None:
        shutil.rmtree(self._scratch / "programs", ignore_errors=True)

    def train_tiny(self) -> None:
        """The run that is translated with."""
        self._run("-m", "transformer", "train", *TINY, f"--workdir={self.tiny}")

    def translate(self, workdir: Path) -> float:
        """Seconds from the command to its end."""
        return self._run("-m", "transformer", "translate", f"--workdir={workdir}")

    def train(self) -> float:
        """Seconds from the command to the line of the first step. The rest of the run is waited for."""
        began, first = time.perf_counter(), None
        with self._training() as training:
            lines = []
            for line in training.stderr:
                lines.append(line)
                if first is None and FIRST_STEP.search(line):
                    first = time.perf_counter() - began
        if training.returncode or first is None:
            sys.exit("".join(lines))
        return first

    def python(self, program: str) -> float:
        return self._run("-c", program)

    def phases(self, verb: str, *words: str) -> dict[str, float]:
        """Seconds by phase of one command."""
        result = self._scratch / "phases.json"
        variables = {"STARTUP_BEGAN": str(time.time()), "STARTUP_RESULT": str(result)}
        self._run(str(PHASES), verb, *words, **variables)
        return json.loads(result.read_text())

    def train_phases(self) -> dict[str, float]:
        shutil.rmtree(self._scratch / "trained", ignore_errors=True)
        return self.phases("train", *TINY, f"--workdir={self._scratch / 'trained'}")

    def _training(self) -> subprocess.Popen:
        shutil.rmtree(self._scratch / "trained", ignore_errors=True)
        words = ["-m", "transformer", "train", *TINY, f"--workdir={self._scratch / 'trained'}"]
        pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.DEVNULL, "text": True}
        return subprocess.Popen([sys.executable, *words], env=self.environment(), cwd=self._clone, **pipes)

    def _run(self, *words: str, **variables: str) -> float:
        command, began = [sys.executable, *words], time.perf_counter()
        environment = self.environment() | variables
        done = subprocess.run(
            command, env=environment, cwd=self._clone, input=SENTENCE, capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.exit(done.stderr)
        return time.perf_counter() - began


def cases(commands: Commands, workdir: Path | None) -> dict[str, Callable[[], float]]:
    """What is timed warm, by name."""
    found = {"translate": lambda: commands.translate(commands.tiny), "train": commands.train}
    return found if workdir is None else found | {f"translate, {workdir.name}": lambda: commands.translate(workdir)}


def measure(clones: dict[str, Commands], workdir: Path | None, repeats: int) -> dict[str, dict[str, list[float]]]:
    """Seconds of every repeat, by clone and by case; of cold ones there is one."""
    seconds: dict[str, dict[str, list[float]]] = {name: {} for name in clones}
    for name, commands in clones.items():
        commands.train_tiny()
        for case, run in cases(commands, workdir).items():
            commands.forget_programs()
            seconds[name][f"{case}, cold"] = [run()]
        for run in cases(commands, workdir).values():
            run()  # all programs are there again
    first = next(iter(clones))
    floors = {"python": "pass", "python, import jax": "import jax"}
    for _ in range(repeats):
        for floor, program in floors.items():
            seconds[first].setdefault(floor, []).append(clones[first].python(program))
        for case in cases(clones[first], workdir):
            for name, commands in clones.items():
                seconds[name].setdefault(f"{case}, warm", []).append(cases(commands, workdir)[case]())
    return seconds


def ceiling(commands: Commands) -> float:
    """FLOP/s of a matrix product."""
    command = [sys.executable, "-c", CEILING]
    done = subprocess.run(command, env=commands.environment(), stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout)


def print_seconds(seconds: dict[str, dict[str, list[float]]]) -> None:
    here, *others = seconds
    other = others[0] if others else None
    print(f"\n{'':30}{'median':>9}{'least':>9}" + (f"{'against':>9}{'ratio':>8}" if other else ""))
    for case, times in seconds[here].items():
        median = statistics.median(times)
        row = f"{case:30}{median:7.2f} s{min(times):7.2f} s"
        if other and case in seconds[other]:
            against = statistics.median(seconds[other][case])
            row += f"{against:7.2f} s{median / against:8.2f}"
        print(row)


def print_phases(name: str, phases: dict[str, float]) -> None:
    print(f"\n{name}, warm, by phase")
    for phase, took in phases.items():
        print(f"  {phase:40}{took:7.3f} s")
    print(f"  {'together':40}{sum(phases.values()):7.3f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, help="A trained run to translate with as well.")
    parser.add_argument("--repeats", type=int, default=5, help="Runs of every command with a warm cache.")
    parser.add_argument("--against", type=Path, help="Another clone, whose commands are timed in between.")
    parser.add_argument("--json", type=Path, help="Also write the result to this file.")
    arguments = parser.parse_args()
    workdir = None if arguments.workdir is None else arguments.workdir.absolute()

    print(machine(), flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        clones = {"here": Commands(CLONE, Path(scratch, "here"))}
        if arguments.against is not None:
            clones["against"] = Commands(arguments.against.absolute(), Path(scratch, "against"))
        here = clones["here"]
        result = {"machine": machine(), "matmul_flops_per_s": ceiling(here)}
        print(f"{result['matmul_flops_per_s'] / 1e9:.0f} GFLOP/s in a float32 product")
        result["seconds"] = measure(clones, workdir, arguments.repeats)
        print_seconds(result["seconds"])
        phases = {"translate": here.phases("translate", f"--workdir={here.tiny}"), "train": here.train_phases()}
        if workdir is not None:
            phases[f"translate, {workdir.name}"] = here.phases("translate", f"--workdir={workdir}")
        for name, found in phases.items():
            print_phases(name, found)
        result["phases"] = phases
    print(f"\n{json.dumps(result)}")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()

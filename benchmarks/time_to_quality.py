"""How long a model trains until it translates well: our command, and PyTorch programs with the same model and batches.

    python benchmarks/time_to_quality.py --workdir runs/quality --target 35 [--peers] \\
        --train="--config=multi30k_en_de:FOLDER --config.training.steps=2000 --config.evaluation.every=200"

Our side is `transformer train` with the flags of --train, as anyone runs it; a run that is finished in --workdir
already is not trained again. BLEU is cased sacreBLEU of greedy translations of `config.data.validation`, all of it,
every `evaluation.every` steps: so the time is known to so many steps, and from one seed.

A peer (quality_peers.py) has the same shape, the same batches of the same tokens in the same order, Adam with the same
learning rates and clipping, dropout, label smoothing, and the faster of float32 and bfloat16 (by autocast) on this
machine. It is a plain loop: no data to prepare, no checkpoints, no log. It is scored at the same steps, and stopped
when it comes to the target, has trained --at-most times as long as ours took for it, or has no more batches. What
differs: JoeyNMT also drops attention weights and inner activations, and its attention has biases.

Times are those of training steps alone, ours with what compiles, waits and logs among them; validations, checkpoints
and the peers' translating (greedy without a cache) are in none. One after the other, ours first; alone on the machine,
please. Prints the machine, a table and, as its last line, one JSON object.
"""

import argparse
import dataclasses
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import quality_peers
from machine import machine
from sides import Side, installed

from transformer.config import Config
from transformer.data.tokenizer import BOS, EOS
from transformer.evaluation.scores import corpus_bleu
from transformer.training.run import Run
from transformer.training.saved_run import choose
from transformer.training.workdir import Workdir

SCRIPT = Path(__file__).with_name("quality_peers.py")
OURS = "transformer"

# Of a model, what peers are given, and what changes nothing but how it is computed.
GIVEN = ("d_model", "d_ff", "num_heads", "num_encoder_layers", "num_decoder_layers", "norm", "dropout")
COMPUTED = ("dtype", "kernel", "unroll", "remat")
# What else must be as it is by default, so that both sides learn and are scored alike.
USUAL = (
    "optimizer.name",
    "training.ema_decay",
    "evaluation.beam_size",
    "transfer.init_from",
    "transfer.lora_rank",
)


@dataclasses.dataclass(frozen=True)
class Point:
    """What was scored."""

    step: int
    seconds: float  # of training until then
    bleu: float


def train(workdir: Path, flags: list[str]) -> float:
    """Seconds of the command, next to none when the run is finished already."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "transformer", "train", f"--workdir={workdir}", *flags]
    if subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode:
        sys.exit("The training failed; why stands above.")
    return time.perf_counter() - began


def our_points(workdir: Path) -> list[Point]:
    """By the metrics log."""
    points, seconds, before = [], 0.0, 0
    for line in (workdir / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        if "time/step_s" in record:
            seconds += record["time/step_s"] * (record["step"] - before)
            before = record["step"]
        if "val/bleu" in record:
            if record["step"] != before:
                sys.exit("Let evaluation.every be a multiple of training.log_every: else nobody knows when it was.")
            points.append(Point(before, seconds, record["val/bleu"]))
    return points


def check(config: Config) -> None:
    """Ends the program where the peers would learn or be scored otherwise."""
    plain = Config()
    same = {name: getattr(config.model, name) for name in (*GIVEN, *COMPUTED)}
    model = dataclasses.replace(plain.model, **same)
    for field in dataclasses.fields(model):
        if getattr(model, field.name) != getattr(config.model, field.name):
            sys.exit(f"The peers have no model.{field.name}={getattr(config.model, field.name)!r}.")
    if model.num_encoder_layers != model.num_decoder_layers:
        sys.exit("The peers have as many layers in the encoder as in the decoder.")
    for name in USUAL:
        section, field = name.split(".")
        value, usual = (getattr(getattr(each, section), field) for each in (config, plain))
        if value != usual:
            sys.exit(f"The peers know {name}={usual!r} only, not {value!r}.")
    if config.data.batching != "buckets" or config.evaluation.bleu_sentences != -1:
        sys.exit("Set data.batching=buckets and evaluation.bleu_sentences=-1: what the peers have, and all sentences.")


def write_task(config: Config, steps: int, folder: Path) -> Run:
    """What a peer needs, in `folder`. Returns our run, which knows what tokens mean."""
    run = Run.open(config, Workdir(folder / "nothing"))
    model, optimizer = config.model, config.optimizer
    batches = {}
    with run.open_loader() as loader:
        for number in range(steps):
            batches |= {f"{number}/{name}": tokens for name, tokens in trimmed(next(loader)).items()}
    np.savez(folder / "batches.npz", **batches)
    tokenizers = run.prepared.tokenizers
    shape = quality_peers.Shape(
        width=model.d_model,
        inner=model.d_ff,
        heads=model.num_heads,
        layers=model.num_decoder_layers,
        vocabulary=tokenizers.target.size,
        rows=0,
        length=0,
    )
    task = {
        "shape": vars(shape),
        "norm": model.norm,
        "dropout": model.dropout,
        "smoothing": config.training.label_smoothing,
        "betas": [optimizer.beta1, optimizer.beta2],
        "epsilon": optimizer.epsilon,
        "clip_norm": optimizer.clip_norm,
        "rates": [float(run.trainer.schedule(np.int32(number))) for number in range(steps)],
        "bos": BOS,
        "eos": EOS,
        "sources": [[*tokens, EOS] for tokens in tokenizers.source.encode(run.prepared.validation.sources)],
        "extra_length": config.decoding.extra_length,
    }
    (folder / "task.json").write_text(json.dumps(task))
    return run


def trimmed(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A batch as a loop without fixed shapes has it: no empty rows, and no longer than its longest."""
    rows = batch["targets"].any(axis=1)
    lengths = {
        "source": batch["source"].any(axis=0).sum(),
        "target_inputs": batch["targets"].any(axis=0).sum(),
        "targets": batch["targets"].any(axis=0).sum(),
    }
    return {name: batch[name][rows, :length] for name, length in lengths.items()}


def peer_points(side: Side, name: str, run: Run, steps: list[int], target: float, limit: float) -> list[Point]:
    """What the peer came to at each of `steps`, until it has the target or has trained for `limit` seconds."""
    points, seconds = [], 0.0
    for step in steps:
        answer = json.loads(side.ask(str(step)))
        seconds += answer["seconds"]
        outputs = run.prepared.tokenizers.target.decode_lines(answer["outputs"])
        language = run.config.data.target_language
        score = corpus_bleu(outputs, run.prepared.validation.targets, language, confidence=False)
        points.append(Point(step, seconds, score.value))
        print(line(name, points[-1]), flush=True)
        if score.value >= target or seconds >= limit:
            break
    return points


def first(points: list[Point], target: float) -> Point | None:
    return next((point for point in points if point.bleu >= target), None)


def line(name: str, point: Point) -> str:
    return f"{name:14}{point.step:7,}{point.seconds:10.1f} s{point.bleu:8.2f}"


def verdict(name: str, points: list[Point], ours: Point, target: float) -> dict[str, float | bool]:
    """Our time over the peer's, or what that is less than, where the peer had not come so far."""
    reached = first(points, target)
    last = reached or points[-1]
    ratio = ours.seconds / last.seconds
    sign = "" if reached else "less than "
    told = f"{target:g} BLEU" if reached else f"only {last.bleu:.2f} BLEU"
    print(f"{name}: {told} after {last.seconds:.0f} s; ours took {sign}{ratio:.2f} times as long.", flush=True)
    return {"reached": reached is not None, "ratio": ratio}


def names_of_peers(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in quality_peers.SIDES:
            known = ", ".join(quality_peers.SIDES)
            raise argparse.ArgumentTypeError(f"there is no {name!r}; choose from {known}")
    return names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, required=True, help="Of our run.")
    parser.add_argument("--train", type=shlex.split, default=[], help="Flags of `transformer train`.")
    parser.add_argument("--target", type=float, required=True, help="BLEU.")
    parser.add_argument("--at-most", type=float, default=2.1, help="How many times our time peers may train.")
    parser.add_argument("--peers", action="store_true", help="Also train the peers that are installed.")
    parser.add_argument("--peers-of", type=names_of_peers, default=[*quality_peers.SIDES], help="Which.")
    parser.add_argument("--peers-python", default=sys.executable, help="The Python they are installed in.")
    parser.add_argument("--json", type=Path, help="Also write the result to this file.")
    arguments = parser.parse_args()

    print(machine(), flush=True)
    os.environ["JAX_PLATFORMS"] = "cpu"
    peers = []
    if arguments.peers:
        peers = installed([arguments.peers_python, str(SCRIPT)], quality_peers.PACKAGES, arguments.peers_of)
    command_s = train(arguments.workdir, arguments.train)
    config = choose(Workdir(arguments.workdir)).config
    if peers:
        check(config)
    ours = our_points(arguments.workdir)
    print(
        f"\n{'':14}{'step':>7}{'training':>12}{'BLEU':>8}", *(line(OURS, point) for point in ours), sep="\n", flush=True
    )
    reached = first(ours, arguments.target)
    if reached is None:
        sys.exit(f"Our run did not come to {arguments.target:g} BLEU.")
    found, verdicts, precisions = {OURS: ours}, {}, {}
    with tempfile.TemporaryDirectory() as scratch:
        if peers:
            run = write_task(config, ours[-1].step, Path(scratch))
        for name in peers:
            side = Side(name, [arguments.peers_python, str(SCRIPT), "--serve", name, "--folder", scratch])
            precisions[name] = json.loads(side.answer())
            print(f"{name} in {precisions[name]['dtype']}", flush=True)
            limit = arguments.at_most * reached.seconds
            steps = [point.step for point in ours]
            found[name] = peer_points(side, name, run, steps, arguments.target, limit)
            side.close()
            side.wait()
            verdicts[name] = verdict(name, found[name], reached, arguments.target)
    result = {
        "machine": machine(),
        "target": arguments.target,
        "command_s": command_s,
        "points": {name: [dataclasses.asdict(point) for point in points] for name, points in found.items()},
        "precisions": precisions,
        "against": verdicts,
    }
    print(f"\n{json.dumps(result)}")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()

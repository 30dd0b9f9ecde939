"""How long a model trains until it translates well: our command, and PyTorch programs with the same model and batches.

    python benchmarks/time_to_quality.py --workdir runs/quality --target 35 [--peers] \\
        --train="--config=multi30k_en_de:FOLDER --config.training.steps=2000 --config.evaluation.every=200"

Our side is `transformer train` with the flags of --train, from text, as anyone runs it; a run that is finished in
--workdir already is not trained again. BLEU is cased sacreBLEU of greedy translations of `config.data.validation`,
all of it, every `evaluation.every` steps.

A peer (quality_peers.py) has the same shape, the same batches of the same tokens in the same order, Adam with the same
learning rates and clipping, dropout at the usual places, label smoothing, and the faster of float32 and bfloat16 (by
autocast) on this machine. It is a plain loop: no data to prepare, no checkpoints, no log. It is scored at the same
steps and stopped when it comes to the target, or has trained --at-most times as long as we did.

Times: `training` is that of the steps alone, ours with what compiles and waits among them; `whole` is ours from the
first step on with validations, checkpoints and all that compiles for them, a peer's with its translating. How long the
tokenizer and the preparing of the data took us is told apart. One after the other, ours first; alone on the machine,
please. Prints the machine, a table and, as its last line, one JSON object.
"""

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import quality_peers
from machine import machine
from sacrebleu.metrics import BLEU
from sides import Side, installed

from transformer.config import Config
from transformer.data.tokenizer import BOS, EOS
from transformer.training.run import Run
from transformer.training.saved_run import choose
from transformer.training.workdir import Workdir

SCRIPT = Path(__file__).with_name("quality_peers.py")
OURS = "transformer"


def train(workdir: Path, flags: list[str]) -> float:
    """Seconds of the command, next to none when the run is finished already."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "transformer", "train", f"--workdir={workdir}", *flags]
    if subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode:
        sys.exit("The training failed; why stands above.")
    return time.perf_counter() - began


def our_points(workdir: Path) -> list[dict[str, float]]:
    """What was scored, and when: of the metrics log."""
    points, training, before = [], 0.0, 0
    for line in (workdir / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        if "time/step_s" in record:
            training += record["time/step_s"] * (record["step"] - before)
            before = record["step"]
        if "val/bleu" in record:
            if record["step"] != before:
                sys.exit("Let evaluation.every be a multiple of training.log_every: else nobody knows when it was.")
            points.append(
                {
                    "step": record["step"],
                    "training_s": training,
                    "whole_s": record["time/elapsed_s"],
                    "bleu": record["val/bleu"],
                    "loss": record["train/loss"],
                }
            )
    return points


def write_task(config: Config, steps: int, folder: Path) -> "Run":
    """What a peer needs, in `folder`. Returns our run, which knows what tokens mean."""
    run = Run.open(config, Workdir(folder / "nothing"))
    model, optimizer = config.model, config.optimizer
    batches = {}
    with run.open_loader() as loader:
        for number in range(steps):
            for name, array in next(loader).items():
                if name in ("source", "target_inputs", "targets"):
                    batches[f"{number}/{name}"] = array
    np.savez(folder / "batches.npz", **batches)
    held_out, tokenizers = run.prepared.validation, run.prepared.tokenizers
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
        "sources": [[*tokens, EOS] for tokens in tokenizers.source.encode(held_out.sources)],
        "extra_length": config.decoding.extra_length,
    }
    (folder / "task.json").write_text(json.dumps(task))
    return run


def check(config: Config) -> None:
    """Ends the program where the peers' model is another one."""
    plain = Config().model
    for name in ("activation", "biases", "normalization", "positions", "tied_embeddings", "attention_dropout"):
        if getattr(config.model, name) != getattr(plain, name):
            sys.exit(f"The peers have no model.{name}={getattr(config.model, name)!r}.")
    if config.model.num_encoder_layers != config.model.num_decoder_layers:
        sys.exit("The peers have as many layers in the encoder as in the decoder.")


def peer_points(command: list[str], name: str, run: Run, steps: list[int], target: float, limit: float) -> list[dict]:
    """What the peer came to at each of `steps`, until it has the target or has trained for `limit` seconds."""
    side = Side(name, command)
    print(f"{name}: {side.answer().strip()}", flush=True)
    points, training, decoding = [], 0.0, 0.0
    for step in steps:
        answer = json.loads(side.ask(str(step)))
        training, decoding = training + answer["seconds"], decoding + answer["decode_seconds"]
        outputs = run.prepared.tokenizers.target.decode_lines(answer["outputs"])
        bleu = BLEU().corpus_score(outputs, [run.prepared.validation.targets]).score
        points.append(
            {
                "step": step,
                "training_s": training,
                "whole_s": training + decoding,
                "bleu": bleu,
                "loss": answer["loss"],
            }
        )
        print(line(name, points[-1]), flush=True)
        if bleu >= target or training >= limit:
            break
    side.close()
    side.wait()
    return points


def first(points: list[dict], target: float) -> dict | None:
    return next((point for point in points if point["bleu"] >= target), None)


HEADING = f"{'':14}{'step':>7}{'training':>12}{'whole':>11}{'BLEU':>8}{'train loss':>12}"


def line(name: str, point: dict) -> str:
    return (
        f"{name:14}{point['step']:7,}{point['training_s']:10.1f} s{point['whole_s']:9.1f} s{point['bleu']:8.2f}"
        f"{point['loss']:12.3f}"
    )


def verdict(name: str, points: list[dict], ours: dict, target: float) -> dict[str, float | bool]:
    """Our time over the peer's: exactly, or less than that where the peer had not come so far."""
    reached = first(points, target)
    last = reached or points[-1]
    ratio = ours["training_s"] / last["training_s"]
    sign = "" if reached else "less than "
    told = f"{target:g} BLEU" if reached else f"only {last['bleu']:.2f} BLEU"
    print(f"{name}: {told} after {last['training_s']:.0f} s; ours took {sign}{ratio:.2f} times as long.")
    return {"reached": reached is not None, "ratio": ratio}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, required=True, help="Of our run.")
    parser.add_argument("--train", type=shlex.split, default=[], help="Flags of `transformer train`.")
    parser.add_argument("--target", type=float, required=True, help="BLEU.")
    parser.add_argument("--at-most", type=float, default=2.1, help="How many times our training time peers get.")
    parser.add_argument("--peers", action="store_true", help="Also train the peers that are installed.")
    parser.add_argument("--peers-of", type=lambda text: text.split(","), default=[*quality_peers.SIDES], help="Which.")
    parser.add_argument("--peers-python", default=sys.executable, help="The Python they are installed in.")
    parser.add_argument("--json", type=Path, help="Also write the result to this file.")
    arguments = parser.parse_args()

    print(machine(), flush=True)
    peers = []
    if arguments.peers:
        peers = installed([arguments.peers_python, str(SCRIPT)], quality_peers.PACKAGES, arguments.peers_of)
    command_s = train(arguments.workdir, arguments.train)
    config = choose(Workdir(arguments.workdir)).config
    check(config)
    ours = our_points(arguments.workdir)
    print(f"\n{HEADING}", *(line(OURS, point) for point in ours), sep="\n", flush=True)
    reached = first(ours, arguments.target)
    if reached is None:
        sys.exit(f"Our run did not come to {arguments.target:g} BLEU.")
    result = {"machine": machine(), "target": arguments.target, "command_s": command_s, OURS: ours}
    with tempfile.TemporaryDirectory() as scratch:
        if peers:
            run = write_task(config, ours[-1]["step"], Path(scratch))
        for name in peers:
            command = [arguments.peers_python, str(SCRIPT), "--serve", name, "--folder", scratch]
            limit = arguments.at_most * reached["training_s"]
            steps = [point["step"] for point in ours]
            result[name] = peer_points(command, name, run, steps, arguments.target, limit)
            result[f"against {name}"] = verdict(name, result[name], reached, arguments.target)
    print(f"\n{json.dumps(result)}")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()

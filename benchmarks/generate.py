"""Greedy generation by a language model: tokens a second, one text at a time and 32 together.

    python benchmarks/generate.py [--shapes small,gpt2] [--batches 1,32] [--peers] [--json generate.json]

small is d384, ff1536, h6, N6, vocabulary 8,000 (14 million parameters); gpt2 is GPT-2's smallest: d768, ff3072, h12,
N12, vocabulary 50,257 (124 million). Both are pre-norm, with learned positions and GELU, in float32, with random
parameters, on the CPU. A prompt of 32 tokens a text, then 128 tokens, none of which may end it. A second of a rate is
one of the whole: the prompt is read in it. The first run of each side, which compiles ours, is told apart.

With --peers the same shape is run by Hugging Face's GPT2LMHeadModel in PyTorch (`pip install torch transformers`), by
its own `generate` as it comes (eager, its attention kernel and its growing cache): in turns with ours, in the same
minutes and on the same cores, with huge pages for both, each in a process of its own that waits while the other runs.
Ours reads a BOS more; its attention has no biases. Medians of the turns; the ratio is their seconds over ours. Prints
the machine, a table and, as its last line, one JSON object.
"""

import argparse
import dataclasses
import importlib
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from machine import machine

from transformer import sharding
from transformer.cli.own_process import MALLOC
from transformer.config import MeshConfig, ModelConfig
from transformer.data.tokenizer import EOS
from transformer.data.vocabulary import SPECIAL_NAMES, Leading, TextStream
from transformer.decoding.sampling import Sampling
from transformer.evaluation.continuation import Continuation
from transformer.evaluation.rollout import Rollout
from transformer.model.blueprint import Blueprint

PROMPT, NEW = 32, 128


@dataclasses.dataclass(frozen=True)
class Shape:
    """Of a model."""

    width: int
    heads: int
    layers: int
    vocabulary: int


SHAPES = {"small": Shape(384, 6, 6, 8000), "gpt2": Shape(768, 12, 12, 50_257)}


def prompts(shape: Shape, rows: int) -> np.ndarray:
    return np.random.default_rng(0).integers(len(SPECIAL_NAMES), shape.vocabulary, (rows, PROMPT))


def ours(shape: Shape, rows: int) -> Callable[[], None]:
    """Makes the texts once each time it is called."""
    config = ModelConfig(
        architecture="language_model",
        d_model=shape.width,
        num_heads=shape.heads,
        d_ff=4 * shape.width,
        num_decoder_layers=shape.layers,
        dropout=0.0,
        norm="pre",
        activation="gelu",
        positions="learned",
        max_length=1024,
    )
    blueprint = Blueprint.of(config, shape.vocabulary, shape.vocabulary)
    mesh = sharding.make_mesh(MeshConfig())
    params = blueprint.init(0, config, mesh)
    # EOS has the logit 0, and another of so many is larger.
    table = params["target_embedding"]["table"]
    ends = np.arange(shape.vocabulary)[:, None] == EOS
    params["target_embedding"]["table"] = jax.device_put(np.where(ends, 0.0, table), table.sharding)
    rollout = Rollout(blueprint, config, shape.vocabulary, mesh)
    weights = rollout.prepare(params)

    def run() -> None:
        stream = TextStream([b""] * shape.vocabulary, Leading.KEPT)
        texts = [Continuation(prompt.tolist(), 0, (), stream) for prompt in prompts(shape, rows)]
        for _ in rollout.run(weights, texts, NEW, Sampling(temperature=0)):
            pass
        assert all(len(text.result().tokens) == NEW for text in texts)

    return run


def theirs(shape: Shape, rows: int) -> Callable[[], None]:
    """The same by PyTorch."""
    torch, transformers = importlib.import_module("torch"), importlib.import_module("transformers")
    torch.manual_seed(0)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    config = transformers.GPT2Config(
        vocab_size=shape.vocabulary,
        n_embd=shape.width,
        n_head=shape.heads,
        n_layer=shape.layers,
        n_positions=1024,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )
    model = transformers.GPT2LMHeadModel(config).eval()
    tokens = torch.tensor(prompts(shape, rows))

    def run() -> None:
        with torch.inference_mode():
            found = model.generate(
                tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False
            )
        assert found.shape == (rows, PROMPT + NEW)

    return run


SIDES = {"ours": ours, "theirs": theirs}


class Side:
    """One side in a process of its own, which runs when it is told to."""

    def __init__(self, side: str, shape: str, rows: int):
        command = [sys.executable, __file__, "--serve", side, "--shapes", shape, "--batches", str(rows)]
        # Both on the CPU, also where JAX would find something else.
        environment = os.environ | {"GLIBC_TUNABLES": MALLOC, "JAX_PLATFORMS": "cpu"}
        pipe = subprocess.PIPE
        self._side = side
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)
        self.first = self.run()  # compiles

    def run(self) -> float:
        """Seconds."""
        self._process.stdin.write("run\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            sys.exit(f"The process of {self._side!r} ended; what it said stands above.")
        return float(answer)

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()


def serve(side: str, shape: Shape, rows: int) -> None:
    """Runs once for every line of stdin; prints the seconds."""
    run = SIDES[side](shape, rows)
    for _ in sys.stdin:
        began = time.perf_counter()
        run()
        print(time.perf_counter() - began, flush=True)


def measure(sides: list[str], shape: str, rows: int, turns: int) -> dict[str, float]:
    """Tokens a second of each side, and the ratio of the medians."""
    running = {side: Side(side, shape, rows) for side in sides}
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(turns):
        for side, process in running.items():
            seconds[side].append(process.run())
    result = {}
    for side, process in running.items():
        process.close()
        result[f"{side}_tokens_per_s"] = rows * NEW / statistics.median(seconds[side])
        result[f"{side}_best_tokens_per_s"] = rows * NEW / min(seconds[side])
        result[f"{side}_first_s"] = process.first
    if len(sides) > 1:
        result["ratio"] = statistics.median(seconds["theirs"]) / statistics.median(seconds["ours"])
    return result


def peers() -> str:
    """Their versions."""
    try:
        return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "transformers"))
    except importlib.metadata.PackageNotFoundError as error:
        sys.exit(f"--peers: {error.name} is not installed. pip install torch transformers")


def _shapes(words: str) -> list[str]:
    for name in words.split(","):
        if name not in SHAPES:
            raise argparse.ArgumentTypeError(f"there is no shape {name!r}; choose from {', '.join(SHAPES)}")
    return words.split(",")


def _batches(words: str) -> list[int]:
    return [_count(word) for word in words.split(",")]


def _count(word: str) -> int:
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"{word!r} is no number from 1 on")
    return int(word)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", type=_shapes, default="small,gpt2", help=f"Of {', '.join(SHAPES)}.")
    parser.add_argument("--batches", type=_batches, default="1,32", help="Texts made together.")
    parser.add_argument("--turns", type=_count, default=5, help="How often each side runs.")
    parser.add_argument("--peers", action="store_true", help="Also measure PyTorch.")
    parser.add_argument("--json", type=Path, help="Also write the result to this file.")
    parser.add_argument("--serve", choices=SIDES, help="Be one side: see `serve`.")
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve, SHAPES[arguments.shapes[0]], arguments.batches[0])
        return

    sides = ["ours", "theirs"] if arguments.peers else ["ours"]
    result = {"machine": machine()}
    if arguments.peers:
        result["peers"] = peers()
    print(*result.values(), sep="\n")
    print(
        f"{'':14}" + "".join(f"{f'{side} tok/s':>16}{'best':>9}{'first run':>11}" for side in sides) + f"{'ratio':>8}"
    )
    for shape in arguments.shapes:
        for rows in arguments.batches:
            row = result[f"{shape} {rows}"] = measure(sides, shape, rows, arguments.turns)
            rates = "".join(
                f"{row[f'{side}_tokens_per_s']:16,.0f}{row[f'{side}_best_tokens_per_s']:9,.0f}"
                f"{row[f'{side}_first_s']:9.1f} s"
                for side in sides
            )
            ratio = f"{row['ratio']:8.2f}" if "ratio" in row else ""
            print(f"{f'{shape} x {rows}':14}{rates}{ratio}", flush=True)
    print(f"\n{json.dumps(result)}")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""Peers of `time_to_quality.py`: training in PyTorch, with a model written by hand and with JoeyNMT's.

A program of its own, which imports nothing of the package, so that it may run under another Python. It takes the
batches, learning rates and settings of our run from a folder, trains on them, and translates the held-out sentences
greedily whenever it is told how far to go. Of two precisions it takes what is faster for it on some of the batches.
"""

import argparse
import dataclasses
import importlib
import json
import logging
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import train_peers
from peers import threads
from train_peers import Shape

PAD = 0
TRIED_BATCHES = 6  # in each precision, once untimed before
DECODED_ROWS = 100  # sentences at a time


@dataclasses.dataclass(frozen=True)
class Task:
    """What is trained: `task.json` and `batches.npz` of a folder."""

    shape: Shape
    norm: str
    dropout: float
    smoothing: float
    betas: tuple[float, float]
    epsilon: float
    clip_norm: float
    rates: list[float]  # of every step
    bos: int
    eos: int
    sources: list[list[int]]  # to be translated
    extra_length: int  # an output has at most so many tokens more than its source
    batches: Any  # "I/NAME" -> int32 [B, T]

    @classmethod
    def read(cls, folder: Path) -> "Task":
        given = json.loads((folder / "task.json").read_text())
        given["shape"] = Shape(**given["shape"])
        return cls(**given, batches=np.load(folder / "batches.npz"))

    def batch(self, step: int) -> list[Any]:
        """Source, decoder inputs, targets."""
        torch = importlib.import_module("torch")
        names = ("source", "target_inputs", "targets")
        return [torch.from_numpy(self.batches[f"{step}/{name}"]).long() for name in names]


@dataclasses.dataclass(frozen=True)
class Peer:
    """A model, its loss of a batch per token, and its greedy search: sources [B, S] -> tokens [B, T]."""

    model: Any
    loss: Callable[[list[Any]], Any]
    greedy: Callable[[Any, int], Any]


def pytorch(task: Task) -> Peer:
    by_hand = importlib.import_module("torch_transformer")
    model = by_hand.Transformer(
        width=task.shape.width,
        inner=task.shape.inner,
        heads=task.shape.heads,
        layers=task.shape.layers,
        vocabulary=task.shape.vocabulary,
        dropout=task.dropout,
        max_length=1024,
        norm=task.norm,
    )

    def loss(batch: list[Any]) -> Any:
        source, inputs, targets = batch
        return by_hand.smoothed_loss(model(source, inputs), targets, task.smoothing)

    return Peer(model, loss, lambda source, length: model.greedy(source, task.bos, task.eos, length))


def joeynmt(task: Task) -> Peer:
    model = train_peers.joeynmt_model(
        task.shape, task.dropout, task.smoothing, norm=task.norm, bos=task.bos, eos=task.eos
    )
    search = importlib.import_module("joeynmt.search")

    def loss(batch: list[Any]) -> Any:
        return train_peers.joeynmt_loss(model, *batch)

    def greedy(source: Any, length: int) -> Any:
        mask = (source != PAD)[:, None]
        encoded, hidden, _, _ = model(return_type="encode", src=source, src_length=mask.sum(-1)[:, 0], src_mask=mask)
        return search.greedy(mask, length, model, encoded, hidden, min_output_length=0)[0]

    return Peer(model, loss, greedy)


SIDES: dict[str, Callable[[Task], Peer]] = {"PyTorch": pytorch, "JoeyNMT": joeynmt}
PACKAGES = {name: train_peers.PACKAGES[name] for name in SIDES}


class Training:
    """A peer on its way through the batches."""

    def __init__(self, task: Task, peer: Peer, dtype: str):
        self._torch = importlib.import_module("torch")
        self._task, self._peer, self._dtype = task, peer, dtype
        parameters = peer.model.parameters()
        self._optimizer = self._torch.optim.Adam(parameters, lr=0.0, betas=task.betas, eps=task.epsilon, fused=True)
        self._done = 0

    def until(self, step: int) -> float:
        """Trains so far. Seconds."""
        self._peer.model.train()
        began = time.perf_counter()
        for number in range(self._done, step):
            self.update(number)
        self._done = step
        return time.perf_counter() - began

    def update(self, number: int) -> None:
        """One step, on the batch of that number."""
        for group in self._optimizer.param_groups:
            group["lr"] = self._task.rates[number]
        self._optimizer.zero_grad(set_to_none=True)
        with self._torch.autocast("cpu", self._torch.bfloat16, enabled=self._dtype == "bfloat16"):
            loss = self._peer.loss(self._task.batch(number))
        loss.backward()
        if self._task.clip_norm:
            self._torch.nn.utils.clip_grad_norm_(self._peer.model.parameters(), self._task.clip_norm)
        self._optimizer.step()
        if not math.isfinite(loss.item()):
            sys.exit(f"The loss of step {number + 1} is {loss.item()}.")

    def translate(self) -> list[list[int]]:
        """The outputs without what follows their ends."""
        self._peer.model.eval()
        sources = self._task.sources
        outputs: list[list[int]] = [[] for _ in sources]
        by_length = sorted(range(len(sources)), key=lambda number: len(sources[number]))
        for start in range(0, len(by_length), DECODED_ROWS):
            numbers = by_length[start : start + DECODED_ROWS]
            longest = max(len(sources[number]) for number in numbers)
            rows = np.full((len(numbers), longest), PAD)
            for row, number in zip(rows, numbers, strict=True):
                row[: len(sources[number])] = sources[number]
            with self._torch.no_grad():
                found = self._peer.greedy(self._torch.from_numpy(rows), longest + self._task.extra_length)
            for number, tokens in zip(numbers, found.tolist(), strict=True):
                tokens = tokens[: len(sources[number]) - 1 + self._task.extra_length]
                outputs[number] = tokens[: tokens.index(self._task.eos)] if self._task.eos in tokens else tokens
        return outputs


def faster(task: Task, side: Callable[[Task], Peer]) -> tuple[str, dict[str, float]]:
    """The precision to train in, and seconds a step of each."""
    times = {}
    for dtype in ("float32", "bfloat16"):
        trial = Training(task, side(task), dtype)
        trial.until(TRIED_BATCHES)
        began = time.perf_counter()
        for number in range(TRIED_BATCHES):
            trial.update(number)
        times[dtype] = (time.perf_counter() - began) / TRIED_BATCHES
    return min(times, key=times.__getitem__), times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--serve", choices=SIDES, help="Be this peer; unset: print the versions of all.")
    parser.add_argument("--folder", type=Path, help="The task.")
    arguments = parser.parse_args()
    if arguments.serve is None:
        train_peers.print_versions()
        return
    torch = importlib.import_module("torch")
    logging.disable(logging.INFO)
    torch.manual_seed(0)
    torch.set_num_threads(threads())
    task, side = Task.read(arguments.folder), SIDES[arguments.serve]
    dtype, times = faster(task, side)
    print(json.dumps({"dtype": dtype, "tried_s": times}), flush=True)
    training = Training(task, side(task), dtype)
    for line in sys.stdin:
        print(json.dumps({"seconds": training.until(int(line)), "outputs": training.translate()}), flush=True)


if __name__ == "__main__":
    main()

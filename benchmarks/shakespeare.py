"""Characters of tiny Shakespeare by nanoGPT's shape, batch and steps for a CPU: how long, and to which loss?

    python benchmarks/shakespeare.py input.txt [--peers] [--repeats 3] [--cpu_devices 2] [--json shakespeare.json]

Runs `transformer train --config=shakespeare_char:input.txt --cpu_devices=2` as a user of two cores would, from the text
to the last checkpoint, each time in a new work directory; --cpu_devices sets another number. Then the same with rotary
in place of learned positions, which comes to nanoGPT's loss in 600 of the 2,000 steps. With --peers also a GPT
written here in PyTorch (eager, float32, fused projections and `scaled_dot_product_attention`) with nanoGPT's shape,
batch, optimizer, steps and estimates of the loss (20 batches of each split, every 250 steps), in turns with the other.

The two sides differ, and the times and losses are to be read so: ours learns at three times nanoGPT's rate (3e-3; with
1e-3 it comes to nanoGPT's loss), theirs at nanoGPT's. Our products are in bfloat16, theirs in float32. Ours reads the
text in packed rows, each character once an epoch, theirs at places drawn at random. Ours measures the loss of the
whole validation text every 1,000 steps and writes checkpoints; theirs does neither, and neither reads text nor starts a
process in its time. Its loss is at the end that of 400 batches.

Prints the machine, a table of medians and, as its last line, one JSON object. About two minutes a run.
"""

import argparse
import functools
import json
import math
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from machine import machine

SOONER = shlex.split(
    """
    --config.model.positions=rotary --config.model.max_length=1024
    --config.training.steps=600 --config.evaluation.every=600
    """
)
STEPS, ROWS, CONTEXT, LAYERS, HEADS, WIDTH = 2000, 12, 64, 4, 4, 128


def ours(text: Path, devices: int, flags: Sequence[str] = ()) -> dict:
    """Seconds of the whole command, and the last validation loss."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "transformer", "train", f"--config=shakespeare_char:{text}"]
        command += [f"--workdir={folder}/run", f"--config.data.cache_dir={folder}/cache"]
        command += [f"--cpu_devices={devices}", *flags]
        start = time.perf_counter()
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        seconds = time.perf_counter() - start
        if done.returncode:
            sys.exit(f"transformer train ended with exit code {done.returncode}, and said:\n{done.stderr}")
        lines = [json.loads(line) for line in Path(folder, "run", "metrics.jsonl").read_text().splitlines()]
        summary = json.loads(Path(folder, "run", "summary.json").read_text())
    losses = [line["val/loss"] for line in lines if "val/loss" in line]
    return {"seconds": seconds, "in_the_loop": summary["seconds"], "loss": losses[-1]}


def torch_gpt(text: Path) -> dict:
    """The same of the PyTorch program, its imports left out."""
    import torch
    from torch import nn
    from torch.nn import functional

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norms = nn.ModuleList(nn.LayerNorm(WIDTH, bias=False) for _ in range(2))
            self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
            self.output = nn.Linear(WIDTH, WIDTH, bias=False)
            self.inner = nn.Linear(WIDTH, 4 * WIDTH, bias=False)
            self.outer = nn.Linear(4 * WIDTH, WIDTH, bias=False)

        def forward(self, x):
            rows, length, _ = x.shape
            heads = self.qkv(self.norms[0](x)).view(rows, length, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
            found = functional.scaled_dot_product_attention(*heads, is_causal=True)
            x = x + self.output(found.transpose(1, 2).reshape(rows, length, WIDTH))
            return x + self.outer(functional.gelu(self.inner(self.norms[1](x))))

    class Gpt(nn.Module):
        def __init__(self, vocabulary):
            super().__init__()
            self.tokens, self.places = nn.Embedding(vocabulary, WIDTH), nn.Embedding(CONTEXT, WIDTH)
            self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
            self.norm = nn.LayerNorm(WIDTH, bias=False)
            for name, weights in self.named_parameters():
                if weights.dim() == 2:
                    nn.init.normal_(weights, std=0.02 / (math.sqrt(2 * LAYERS) if "out" in name else 1))

        def forward(self, inputs, targets):
            x = self.tokens(inputs) + self.places.weight[: inputs.shape[1]]
            logits = functional.linear(self.norm(self.blocks(x)), self.tokens.weight)
            return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())

    torch.manual_seed(0)
    content = text.read_text(encoding="utf-8")
    letters = {letter: number for number, letter in enumerate(sorted(set(content)))}
    ids = torch.tensor([letters[letter] for letter in content])
    splits = {"train": ids[: len(ids) * 9 // 10], "validation": ids[len(ids) * 9 // 10 :]}

    def batch(split):
        starts = torch.randint(len(splits[split]) - CONTEXT, (ROWS,))
        rows = torch.stack([splits[split][start : start + CONTEXT + 1] for start in starts])
        return rows[:, :-1], rows[:, 1:]

    start = time.perf_counter()
    model = Gpt(len(letters))
    groups = [
        {"params": [weights for weights in model.parameters() if (weights.dim() >= 2) == decays], "weight_decay": decay}
        for decays, decay in ((True, 0.1), (False, 0.0))
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99))
    for step in range(STEPS + 1):
        if step % 250 == 0:
            with torch.no_grad():
                losses = {split: statistics.mean(model(*batch(split)).item() for _ in range(20)) for split in splits}
        if step < 100:
            rate = 1e-3 * step / 100
        else:
            rate = 1e-4 + 0.5 * (1 + math.cos(math.pi * (step - 100) / (STEPS - 100))) * 9e-4
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = model(*batch("train"))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    seconds = time.perf_counter() - start
    with torch.no_grad():  # of more batches than it looks at as it goes
        loss = statistics.mean(model(*batch("validation")).item() for _ in range(400))
    return {"seconds": seconds, "in_the_loop": seconds, "loss": loss, "estimate": losses["validation"]}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path, help="tiny Shakespeare, or another text.")
    parser.add_argument("--peers", action="store_true", help="Also the PyTorch program; needs torch.")
    parser.add_argument("--cpu_devices", type=int, default=2, help="Of our command.")
    parser.add_argument("--repeats", type=int, default=1, help="Runs of each, in turns.")
    parser.add_argument("--json", type=Path, help="Also write the result to this file.")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    print(machine(), flush=True)
    programs = {
        "transformer train": functools.partial(ours, devices=arguments.cpu_devices),
        "the same, rotary, 600 steps": functools.partial(ours, devices=arguments.cpu_devices, flags=SOONER),
    }
    if arguments.peers:
        programs["PyTorch"] = torch_gpt
    runs = {name: [] for name in programs}
    for _ in range(arguments.repeats):
        for name, program in programs.items():
            runs[name].append(program(arguments.text.absolute()))
    print("\n| program | whole, s | training, s | validation loss |\n|---|---|---|---|")
    medians = {
        name: {key: statistics.median(one[key] for one in found) for key in found[0]} for name, found in runs.items()
    }
    for name, found in medians.items():
        print(f"| {name} | {found['seconds']:.1f} | {found['in_the_loop']:.1f} | {found['loss']:.3f} |")
    result = {"machine": machine(), "medians": medians, "runs": runs}
    print(f"\n{json.dumps(result)}")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""The training step alone: forward, backward, Adam, dropout 0.1, label smoothing 0.1, tied embeddings, post-norm.

    python benchmarks/train_step.py [--models base,small] [--dtypes float32,bfloat16] [--json train_step.json]

base is the paper's (d512, ff2048, h8, N6+6, vocabulary 32,000) on 64 pairs of 32+32 tokens; small is d256, ff1024, h4,
N3+3, vocabulary 10,000 on 128 pairs of 24+24. No padding. Each case runs in a process of its own with huge pages, with
matrix products timed before and after in the same process as the ceiling. Prints the machine, a table and, as its last
line, one JSON object. About two minutes by default.
"""

import argparse
import dataclasses
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
from machine import machine

from transformer import sharding
from transformer.cli.process import MALLOC
from transformer.config import Config, MeshConfig, ModelConfig
from transformer.model.blueprint import Blueprint
from transformer.training import flops, peak
from transformer.training.step import Trainer


@dataclasses.dataclass(frozen=True)
class Case:
    """A model, and the batch it is timed on."""

    model: ModelConfig
    vocab_size: int
    rows: int
    length: int


CASES = {
    "base": Case(ModelConfig(), 32_000, 64, 32),
    "small": Case(
        ModelConfig(d_model=256, d_ff=1024, num_heads=4, num_encoder_layers=3, num_decoder_layers=3), 10_000, 128, 24
    ),
}


def batch_of(case: Case) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shape = (case.rows, case.length)
    names = ("source", "target_inputs", "targets")
    tokens = {name: rng.integers(4, case.vocab_size, shape, np.int32) for name in names}
    sides = {f"{side}_segments": np.ones(shape, np.int32) for side in ("source", "target")}
    positions = np.broadcast_to(np.arange(case.length, dtype=np.int32), shape)
    return tokens | sides | {f"{side}_positions": positions for side in ("source", "target")}


def measure(name: str, dtype: str, seconds: float) -> dict[str, float]:
    """One case, in this process."""
    case = CASES[name]
    # Unrolled: a rolled scan copies each layer's weights and gradients once more, 5 to 13% of a step on a CPU.
    model = dataclasses.replace(case.model, dtype=dtype, unroll=case.model.num_encoder_layers)
    config = Config(model=model)
    mesh = sharding.make_mesh(MeshConfig())
    trainer = Trainer.of(config, Blueprint.of(model, case.vocab_size, case.vocab_size), mesh)
    batch = batch_of(case)
    with jax.set_mesh(mesh):
        ceiling = peak.measure(dtype, jax.devices()).flops
        state = trainer.init()
        arrays = sharding.to_global(batch, mesh)
        began = time.perf_counter()
        step = trainer.train_step.lower(state, arrays).compile()
        compile_s = time.perf_counter() - began
        times: list[float] = []
        end = None
        while end is None or time.perf_counter() < end:
            began = time.perf_counter()
            state, report = step(state, arrays)
            jax.block_until_ready(report)
            times.append(time.perf_counter() - began)
            # The first steps fault memory in.
            end = time.perf_counter() + seconds if len(times) == 2 else end
        ceiling = max(ceiling, peak.measure(dtype, jax.devices()).flops)
    median = statistics.median(times[2:])
    step_flops = flops.training_flops(model, case.vocab_size, flops.count(batch))
    return {
        "target_tokens_per_s": case.rows * case.length / median,
        "step_s": median,
        "flops_per_s": step_flops / median,
        "matmul_flops_per_s": ceiling,
        "ratio": step_flops / median / ceiling,
        "compile_s": compile_s,
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "steps": len(times) - 2,
    }


def measure_apart(name: str, dtype: str, seconds: float) -> dict[str, float]:
    """One case, in a process of its own with huge pages, as the command line runs."""
    environment = os.environ | {"GLIBC_TUNABLES": MALLOC}
    command = [sys.executable, __file__, "--models", name, "--dtypes", dtype, "--seconds", str(seconds), "--here"]
    return json.loads(subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="base,small", help=f"Of {', '.join(CASES)}.")
    parser.add_argument("--dtypes", default="float32,bfloat16", help="Of float32, bfloat16.")
    parser.add_argument("--seconds", type=float, default=20, help="How long each case is timed.")
    parser.add_argument("--json", type=Path, help="Also write the result to this file.")
    parser.add_argument("--here", action="store_true", help="Measure one case in this process; print JSON only.")
    arguments = parser.parse_args()
    if arguments.here:
        print(json.dumps(measure(arguments.models, arguments.dtypes, arguments.seconds)))
        return

    print(machine())
    print(f"{'':16}{'target tok/s':>14}{'step':>9}{'GFLOP/s':>9}{'matmul':>9}{'ratio':>7}{'peak':>11}{'compile':>9}")
    result = {"machine": machine()}
    for name in arguments.models.split(","):
        for dtype in arguments.dtypes.split(","):
            row = measure_apart(name, dtype, arguments.seconds)
            result[f"{name} {dtype}"] = row
            print(
                f"{f'{name} {dtype}':16}{row['target_tokens_per_s']:14,.0f}{row['step_s']:7.3f} s"
                f"{row['flops_per_s'] / 1e9:9.0f}{row['matmul_flops_per_s'] / 1e9:9.0f}{row['ratio']:7.0%}"
                f"{row['peak_memory_mb']:8,} MB{row['compile_s']:7.1f} s",
                flush=True,
            )
    print(f"\n{json.dumps(result)}")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()

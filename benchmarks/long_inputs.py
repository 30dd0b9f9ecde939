"""Attention of long inputs: all scores at once (xla) against block by block (blockwise).

    python benchmarks/long_inputs.py [--lengths 512,1024,2048,4096,8192] [--masks all,causal] [--json long_inputs.json]

One row of one example, 8 heads of 64, float32: the attention alone, its output and that with the gradients of queries,
keys and values. Prints the machine, tokens a second (the median of interleaved runs), the memory that the compiled
program needs beside its arguments and results, and, as its last line, one JSON object. xla is left out where it would
need more than --most-gb. About two minutes by default.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from machine import machine

from transformer.cli.own_process import MALLOC
from transformer.model import blockwise
from transformer.model.attention import attention_weights
from transformer.model.masks import Causal, Mask, Places, SameSegment

HEADS, SIZE = 8, 64
MASKS = {"all": SameSegment(), "causal": SameSegment() & Causal()}
KERNELS = ("xla", "blockwise")


def xla(q_BTNH: jax.Array, keys_BSNH: jax.Array, values_BSNH: jax.Array, mask: Mask, places: Places) -> jax.Array:
    """As `MultiHeadAttention` computes it."""
    highest = jax.lax.Precision.HIGHEST
    scores_BNTS = jnp.einsum("BTNH,BSNH->BNTS", q_BTNH / SIZE**0.5, keys_BSNH, precision=highest)
    weights_BNTS = attention_weights(scores_BNTS, mask.allowed(places, places))
    return jnp.einsum("BNTS,BSNH->BTNH", weights_BNTS, values_BSNH, precision=highest)


def program(kernel: str, mask: Mask, gradients: bool) -> Callable:
    """Of queries, keys, values, weights of a loss, and places."""

    def attend(arrays, weights_BTNH, places):
        found_BTNH = xla(*arrays, mask, places) if kernel == "xla" else blockwise.attend(*arrays, mask, places, places)
        return jnp.sum(found_BTNH * weights_BTNH), found_BTNH

    return jax.value_and_grad(attend, has_aux=True) if gradients else attend


def measure(length: int, mask: str, runs: int, most_gb: float) -> list[dict]:
    """A line for each kernel, without and with gradients."""
    rng = np.random.default_rng(0)
    shape = (1, length, HEADS, SIZE)
    *arrays, weights = (jnp.asarray(rng.standard_normal(shape), jnp.float32) for _ in range(4))
    places = Places(jnp.arange(length, dtype=jnp.int32)[None], jnp.ones((1, length), jnp.int32))
    arguments = (arrays, weights, places)
    lines, compiled = [], {}
    for kernel in KERNELS:
        for gradients in (False, True):
            ready = jax.jit(program(kernel, MASKS[mask], gradients)).lower(*arguments).compile()
            memory = ready.memory_analysis().temp_size_in_bytes
            line = {"length": length, "mask": mask, "kernel": kernel, "gradients": gradients, "memory_bytes": memory}
            lines.append(line)
            if memory <= most_gb * 2**30:
                compiled[len(lines) - 1] = ready
    times: dict[int, list[float]] = {number: [] for number in compiled}
    for _ in range(runs + 1):
        for number, ready in compiled.items():
            began = time.perf_counter()
            jax.block_until_ready(ready(*arguments))
            times[number].append(time.perf_counter() - began)
    for number, seconds in times.items():
        lines[number]["tokens_per_s"] = length / statistics.median(seconds[1:])  # the first faults memory in
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", default="512,1024,2048,4096,8192", help="Of the row.")
    parser.add_argument("--masks", default="all,causal", help=f"Of {', '.join(MASKS)}.")
    parser.add_argument("--runs", type=int, default=3, help="How often each is timed.")
    parser.add_argument("--most-gb", type=float, default=4.0, help="What needs more memory is not run.")
    parser.add_argument("--json", type=Path, help="Also write the result to this file.")
    parser.add_argument("--here", action="store_true", help="Measure one length and mask in this process; JSON only.")
    arguments = parser.parse_args()
    if arguments.here:
        print(json.dumps(measure(int(arguments.lengths), arguments.masks, arguments.runs, arguments.most_gb)))
        return

    print(machine())
    print(f"{'':24}{'output: tok/s':>16}{'memory':>12}{'with gradients: tok/s':>24}{'memory':>12}")
    result = {"machine": machine(), "lines": []}
    for mask in arguments.masks.split(","):
        for length in arguments.lengths.split(","):
            # In a process of its own with huge pages, as the command line runs.
            command = [sys.executable, __file__, "--here", "--lengths", length, "--masks", mask]
            command += ["--runs", str(arguments.runs), "--most-gb", str(arguments.most_gb)]
            environment = os.environ | {"GLIBC_TUNABLES": MALLOC}
            lines = json.loads(subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout)
            result["lines"] += lines
            for kernel in KERNELS:
                output, gradients = (line for line in lines if line["kernel"] == kernel)
                print(f"{f'{mask} {length} {kernel}':24}{_cells(output, 16)}{_cells(gradients, 24)}", flush=True)
    print(f"\n{json.dumps(result)}")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


def _cells(line: dict, width: int) -> str:
    rate = f"{line['tokens_per_s']:,.0f}" if "tokens_per_s" in line else "not run"
    return f"{rate:>{width}}{line['memory_bytes'] / 2**20:9,.0f} MB"


if __name__ == "__main__":
    main()

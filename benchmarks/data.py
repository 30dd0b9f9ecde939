"""How fast token arrays become batches: planning, assembling, and the same through Grain; buckets and packing.

    python benchmarks/data.py [--pairs 1000000] [--batch_tokens 25000] [--repeats 5] [--json data.json]

Sentences of random tokens whose lengths are spread like those of news text (log-normal, median 22 tokens, target
about a tenth longer, at most 128). Rates count real target tokens, not padding, in one process; every figure is the
median of the repeats. Prints the machine, a table and, as its last line, one JSON object. Under a minute by default.
"""

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from machine import machine

from transformer.config import DataConfig
from transformer.data.batches import Batches, WeightedStore, training_batches
from transformer.data.loader import Loader
from transformer.data.store import Ragged, TokenStore

VOCABULARY = 32_000
BATCHES = 200  # assembled in each repeat


def news_like(pairs: int, longest: int) -> TokenStore:
    """Random tokens; of `pairs` drawn, those too long are dropped, as the filter does."""
    rng = np.random.default_rng(0)
    source = np.exp(rng.normal(3.1, 0.65, pairs))
    target = source * np.exp(rng.normal(0.05, 0.2, pairs))
    lengths = np.stack([source, target]).round().astype(np.int64).clip(1)
    lengths = lengths[:, lengths.max(axis=0) < longest]
    return TokenStore(*(_random_tokens(side, rng) for side in lengths))


def _random_tokens(lengths: np.ndarray, rng: np.random.Generator) -> Ragged:
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return Ragged(rng.integers(4, VOCABULARY, offsets[-1], dtype=np.uint16), offsets)


def seconds(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def target_tokens(batches: Batches, first: int) -> int:
    return sum(int((batches.batch(i)["target_segments"] > 0).sum()) for i in range(first, first + BATCHES))


def assemble(batches: Batches, first: int) -> None:
    for i in range(first, first + BATCHES):
        batches.batch(i)


def load(batches: Batches, first: int, read_ahead: int) -> None:
    with Loader(batches, first, first + BATCHES, read_ahead=read_ahead) as loader:
        for _ in loader:
            pass


def measure(store: TokenStore, data: DataConfig, repeats: int) -> dict[str, float]:
    """The medians for one kind of batching."""
    results: dict[str, list[float]] = {name: [] for name in ("plan_s", "order_s", "assembled", "loaded")}
    for seed in range(repeats):
        began = time.perf_counter()
        batches = training_batches([WeightedStore(store)], data, seed)
        results["plan_s"].append(time.perf_counter() - began)
        results["order_s"].append(seconds(lambda batches=batches: batches.layout(0)))
        first = seed * BATCHES
        tokens = target_tokens(batches, first)  # This also warms the pages these batches are read from.
        results["assembled"].append(tokens / seconds(lambda batches=batches, first=first: assemble(batches, first)))
        results["loaded"].append(
            tokens / seconds(lambda batches=batches, first=first: load(batches, first, data.read_ahead))
        )
    print(f"{data.batching}: {batches.statistics}")
    medians = {name: statistics.median(values) for name, values in results.items()}
    padding = {"source_padding": batches.statistics.source_padding, "target_padding": batches.statistics.target_padding}
    return medians | padding


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=1_000_000, help="Sentence pairs drawn.")
    parser.add_argument("--batch_tokens", type=int, default=25_000, help="Tokens a side in a batch, with padding.")
    parser.add_argument("--num_buckets", type=int, default=DataConfig().num_buckets, help="Shapes of the buckets.")
    parser.add_argument("--repeats", type=int, default=5, help="Figures are the median of so many.")
    parser.add_argument("--json", type=Path, help="Also write the result to this file.")
    arguments = parser.parse_args()

    print(machine())
    store = news_like(arguments.pairs, DataConfig().max_length)
    result = {"machine": machine(), "pairs": len(store), "batch_tokens": arguments.batch_tokens}
    for batching in ("buckets", "packing"):
        data = DataConfig(batching=batching, batch_tokens=arguments.batch_tokens, num_buckets=arguments.num_buckets)
        result[batching] = measure(store, data, arguments.repeats)
    result["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

    print(f"\n{'':9}{'plan':>9}{'order':>9}{'assembled':>16}{'through Grain':>17}{'padding source':>17}{'target':>9}")
    for batching in ("buckets", "packing"):
        row = result[batching]
        print(
            f"{batching:9}{row['plan_s']:7.2f} s{row['order_s']:7.2f} s"
            f"{row['assembled'] / 1e6:10.1f} Mtok/s{row['loaded'] / 1e6:11.1f} Mtok/s"
            f"{row['source_padding']:16.1%} {row['target_padding']:9.1%}"
        )
    print(f"peak memory {result['peak_memory_mb']:,} MB, the tokens themselves included\n")
    print(json.dumps(result))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()

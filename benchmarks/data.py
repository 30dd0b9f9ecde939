"""How fast token arrays become batches: planning, assembling, and the same through Grain; buckets, packing, documents.

    python benchmarks/data.py [--pairs 1000000] [--batch_tokens 25000] [--repeats 5] [--json data.json]

Sentences of random tokens whose lengths are spread like those of news text (log-normal, median 22 tokens, target
about a tenth longer, at most 128). A language model's documents are spread like web pages (log-normal, median 400
tokens, some of many thousands), as many as hold twenty times the tokens that the pairs' number says, in rows of 1,024.
Rates count real target tokens, not padding, in one process; every figure is the median of the repeats. Prints the
machine, a table and, as its last line, one JSON object. About a minute by default.
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
from transformer.data.store import DocumentStore, Ragged, TokenStore

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


def web_like(tokens: int) -> DocumentStore:
    """Documents of random tokens, without prompts."""
    rng = np.random.default_rng(0)
    lengths = np.exp(rng.normal(6.0, 1.0, tokens // 660)).astype(np.int64).clip(1)
    return DocumentStore(_random_tokens(lengths, rng), np.zeros(len(lengths), np.int32))


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


def measure(name: str, store: TokenStore | DocumentStore, data: DataConfig, repeats: int) -> dict[str, float]:
    """The medians for one kind of batches."""
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
    print(f"{name}: {batches.statistics}")
    medians = {name: statistics.median(values) for name, values in results.items()}
    padding = {"target_padding": batches.statistics.target_padding}
    if isinstance(store, TokenStore):
        padding["source_padding"] = batches.statistics.source_padding
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
        result[batching] = measure(batching, store, data, arguments.repeats)
    data = DataConfig(pack_length=1024, batch_tokens=max(arguments.batch_tokens, 8 * 1024))
    result["documents"] = measure("documents", web_like(20 * arguments.pairs), data, arguments.repeats)
    result["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

    print(f"\n{'':9}{'plan':>9}{'order':>9}{'assembled':>16}{'through Grain':>17}{'padding target':>17}{'source':>9}")
    for name in ("buckets", "packing", "documents"):
        row = result[name]
        print(
            f"{name:9}{row['plan_s']:7.2f} s{row['order_s']:7.2f} s"
            f"{row['assembled'] / 1e6:10.1f} Mtok/s{row['loaded'] / 1e6:11.1f} Mtok/s"
            f"{row['target_padding']:16.1%} " + (f"{row['source_padding']:9.1%}" if "source_padding" in row else "")
        )
    print(f"peak memory {result['peak_memory_mb']:,} MB, the tokens themselves included\n")
    print(json.dumps(result))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""How fast text becomes tokens: hashing, reading, training the tokenizer, tokenising; and how much memory that takes.

    python benchmarks/prepare.py [--pairs 4500000] [--vocab_size 37000] [--json prepare.json]

As many pairs as WMT 2014 English-German has, of made-up words: their number, how often each comes, and how long
sentences are follow news text (Zipf's law over 400,000 words a side; lengths log-normal with a median of 22 words,
the target about a tenth longer). Another process writes them to files first, which is not counted. `prepare` then runs
on its own defaults, and once more to find everything in its cache. What is aimed at, on 2 cores: 15 minutes and 4 GB.
Prints the machine, a table and, as its last line, one JSON object. It needs 6 GB in the temporary folder (TMPDIR).
"""

import argparse
import json
import math
import multiprocessing
import random
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from machine import machine

from transformer.config import Config
from transformer.data.prepare import Prepared, prepare

WORDS = 400_000  # different ones a side
PAIRS_AT_ONCE = 20_000
SYLLABLES = {
    "en": "the of and to in a is that for it as was with be by on not he his but at are this have from or had an they",
    "de": "der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als auch es an werden aus er",
}


def vocabulary(language: str) -> np.ndarray:
    """Different words, the frequent ones shorter: str [WORDS]."""
    rng = random.Random(language)
    syllables = SYLLABLES[language].split()
    words: dict[str, None] = {}
    while len(words) < WORDS:
        size = 1 + int(math.log10(1 + len(words)) * rng.uniform(0, 0.8))
        words["".join(rng.choices(syllables, k=size))] = None
    return np.array(list(words), object)


def write_text(folder: Path, pairs: int) -> None:
    """Writes text.en and text.de, and 1,000 other pairs as held.en and held.de."""
    words = {language: vocabulary(language) for language in SYLLABLES}
    # Zipf's law, with Mandelbrot's shift.
    up_to = np.cumsum(1 / (np.arange(WORDS) + 2.7))
    up_to /= up_to[-1]
    rng = np.random.default_rng(0)
    for name, count in (("text", pairs), ("held", 1000)):
        with open(folder / f"{name}.en", "w") as english, open(folder / f"{name}.de", "w") as german:
            for begin in range(0, count, PAIRS_AT_ONCE):
                lengths = np.exp(rng.normal(3.1, 0.65, min(PAIRS_AT_ONCE, count - begin)))
                for language, file in (("en", english), ("de", german)):
                    sizes = lengths.round().astype(np.int64).clip(1)
                    drawn = words[language][np.searchsorted(up_to, rng.random(sizes.sum()))].tolist()
                    ends = np.cumsum(sizes).tolist()
                    file.writelines(
                        " ".join(drawn[first:last]) + ".\n" for first, last in zip([0, *ends], ends, strict=False)
                    )
                    lengths = lengths * np.exp(rng.normal(0.05, 0.2, len(lengths)))


class Stopwatch:
    """Seconds for each thing that `prepare` says it does; what comes before the first is reading small files."""

    def __init__(self):
        self.seconds: dict[str, float] = {}
        self._what = "hashing the files"
        self._since = time.perf_counter()

    def __call__(self, what: str, done: int, total: int | None) -> None:
        if what != self._what:
            self.stop()
            self._what = what

    def stop(self) -> None:
        now = time.perf_counter()
        name = self._what.partition(" lines:")[0]
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._since
        self._since = now


def measure(config: Config) -> tuple[Prepared, dict[str, float]]:
    """What was prepared, and the seconds of each stage."""
    stopwatch = Stopwatch()
    prepared = prepare(config, progress=stopwatch)
    stopwatch.stop()
    return prepared, stopwatch.seconds


def peak_memory() -> float:
    """The most this process has held, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=4_500_000, help="Sentence pairs.")
    parser.add_argument("--vocab_size", type=int, default=37_000, help="Pieces of the shared vocabulary.")
    parser.add_argument("--json", type=Path, help="Also write the result to this file.")
    arguments = parser.parse_args()

    print(machine())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # In another process, so that its memory is not counted.
        writer = multiprocessing.get_context("spawn").Process(target=write_text, args=(folder, arguments.pairs))
        writer.start()
        writer.join()
        megabytes = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
        print(f"{arguments.pairs:,} pairs, {megabytes:,.0f} MB of text", flush=True)

        config = Config()
        config.data.train = (f"lines:{folder}/text.en:{folder}/text.de",)
        config.data.validation = (f"lines:{folder}/held.en:{folder}/held.de",)
        config.data.test = ()
        config.data.cache_dir = str(folder / "cache")
        config.tokenizer.vocab_size = arguments.vocab_size
        prepared, seconds = measure(config)
        _, again = measure(config)
        store = prepared.train[0].store
        tokens = [len(side.tokens) for side in (store.source, store.target)]

    total = sum(seconds.values())
    for stage, taken in [*seconds.items(), ("all", total), ("all, from the cache", sum(again.values()))]:
        print(f"{stage:24}{taken:10.1f} s{arguments.pairs / taken:14,.0f} pairs/s")
    print(f"kept {len(store):,} pairs, {tokens[0]:,} source and {tokens[1]:,} target tokens")
    print(f"peak memory {peak_memory():.2f} GB\n")
    result = {
        "machine": machine(),
        "pairs": arguments.pairs,
        "text_mb": round(megabytes),
        "source_tokens": tokens[0],
        "target_tokens": tokens[1],
        "seconds": {stage: round(taken, 2) for stage, taken in seconds.items()},
        "total_seconds": round(total, 1),
        "from_cache_seconds": round(sum(again.values()), 2),
        "peak_memory_gb": round(peak_memory(), 2),
    }
    print(json.dumps(result))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()

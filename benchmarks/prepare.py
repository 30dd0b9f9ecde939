"""How fast text becomes tokens: hashing, reading, training the tokenizer, tokenising; and how much memory that takes.

    python benchmarks/prepare.py [--pairs 4500000] [--vocab_size 37000] [--json prepare.json]

As many pairs as WMT 2014 English-German has, of made-up words: their number, how often each comes, and how long
sentences are follow news text (Zipf's law over 400,000 words a side; lengths log-normal with a median of 22 words,
the target about a tenth longer). Their letters are random, which makes half as many tokens again as words: more than
in real text. Another process writes all to files first, which is not counted. `prepare` then runs on its own defaults,
and once more to find everything in its cache. What is aimed at, on 2 cores: 15 minutes and 4 GB. Prints the machine, a
table and, as its last line, one JSON object. It needs 5 GB in the temporary folder (TMPDIR).
"""

import argparse
import dataclasses
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
LETTERS = {"en": "abcdefghijklmnopqrstuvwxyz", "de": "abcdefghijklmnopqrstuvwxyzäöüß"}


def vocabulary(language: str) -> np.ndarray:
    """Different words, the frequent ones shorter: str [WORDS]."""
    rng = random.Random(language)
    words: dict[str, None] = {}
    while len(words) < WORDS:
        size = 2 + int(math.log10(1 + len(words)) * rng.uniform(0.5, 1.5))
        words["".join(rng.choices(LETTERS[language], k=size))] = None
    return np.array(list(words), object)


def write_text(folder: Path, pairs: int) -> None:
    """Writes text.en and text.de, and 1,000 other pairs as held.en and held.de."""
    words = {language: vocabulary(language) for language in LETTERS}
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


@dataclasses.dataclass(frozen=True)
class Seconds:
    """By the clock, and of all cores together: on a busy machine only the second means something."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> "Seconds":
        return cls(time.perf_counter(), time.process_time())

    def __add__(self, other: "Seconds") -> "Seconds":
        return Seconds(self.wall + other.wall, self.cpu + other.cpu)

    def __sub__(self, other: "Seconds") -> "Seconds":
        return Seconds(self.wall - other.wall, self.cpu - other.cpu)


class Stopwatch:
    """Times each thing that `prepare` says it does; what comes before the first is hashing."""

    def __init__(self):
        self.stages: dict[str, Seconds] = {}
        self._what = "hashing the files"
        self._since = Seconds.now()

    def __call__(self, what: str, done: int, total: int | None) -> None:
        if what != self._what:
            self.stop()
            self._what = what

    def stop(self) -> None:
        now = Seconds.now()
        self.stages[self._what.partition(" lines:")[0]] = now - self._since
        self._since = now


def timed(config: Config) -> tuple[Prepared, dict[str, Seconds]]:
    """What was prepared, and how long each stage took."""
    stopwatch = Stopwatch()
    prepared = prepare(config, progress=stopwatch)
    stopwatch.stop()
    return prepared, stopwatch.stages


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
        prepared, stages = timed(config)
        _, again = timed(config)
        store = prepared.train[0].store
        tokens = [len(side.tokens) for side in (store.source, store.target)]

    nothing = Seconds(0.0, 0.0)
    stages["all"] = sum(stages.values(), nothing)
    stages["all, from the cache"] = sum(again.values(), nothing)
    print(f"\n{'':24}{'wall':>10}{'CPU':>10}")
    for stage, taken in stages.items():
        print(f"{stage:24}{taken.wall:8.1f} s{taken.cpu:8.1f} s{arguments.pairs / taken.wall:14,.0f} pairs/s")
    print(f"kept {len(store):,} pairs, {tokens[0]:,} source and {tokens[1]:,} target tokens")
    print(f"peak memory {peak_memory():.2f} GB\n")
    result = {
        "machine": machine(),
        "pairs": arguments.pairs,
        "text_mb": round(megabytes),
        "source_tokens": tokens[0],
        "target_tokens": tokens[1],
        "seconds": {stage: dataclasses.asdict(taken) for stage, taken in stages.items()},
        "peak_memory_gb": round(peak_memory(), 2),
    }
    print(json.dumps(result))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()

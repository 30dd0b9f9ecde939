"""What can be scored on the phrasebook's test split without learning any grammar.

    python benchmarks/phrasebook_floor.py [--train 120000] [--test 1000] [--json floor.json]

Each lookup answers with the translation of the most similar training sentence; copying answers with the source.
The floor belongs to the number of training sentences: 48.3 BLEU with the default 120,000; measure it again for a run
on `phrasebook:train:COUNT`. Prints a table and, as its last line, one JSON object. About a minute on one CPU core and
1 GB; ten times that for a million training pairs.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence

import numpy as np
import sacrebleu
from scipy import sparse

from transformer.data.phrasebook import accuracy_by_phenomenon, pairs

Similarity = Callable[[Sequence[str], Sequence[str]], np.ndarray]

_SCORES = 12_000_000  # similarities held at a time, of as many test sentences as that allows: float32, so 48 MB


def characters(text: str) -> list[str]:
    """All groups of three and of four characters."""
    padded = f" {text} "
    return [padded[start : start + size] for size in (3, 4) for start in range(len(padded) - size + 1)]


def counts(texts: Sequence[str], features: Callable[[str], list[str]], index: dict[str, int]) -> sparse.csr_matrix:
    """One row a text, one column a feature; features that `index` lacks are added to it."""
    columns, ends = [], [0]
    for text in texts:
        columns.extend(index.setdefault(feature, len(index)) for feature in features(text))
        ends.append(len(columns))
    matrix = sparse.csr_matrix((np.ones(len(columns), np.float32), columns, ends))
    matrix.sum_duplicates()
    return matrix


def nearest_by_cosine(queries: Sequence[str], memory: Sequence[str], features: Callable[[str], list[str]]) -> list[int]:
    """For each query the index of the sentence in `memory` whose weighted feature counts point most nearly its way."""
    index: dict[str, int] = {}
    memory_counts = counts(memory, features, index)
    query_counts = counts(queries, features, index)
    width = len(index)
    memory_counts.resize(len(memory), width)
    query_counts.resize(len(queries), width)
    document_frequency = np.asarray((memory_counts > 0).sum(axis=0)).ravel()
    weight = sparse.diags(np.log((1 + len(memory)) / (1 + document_frequency)).astype(np.float32))
    memory_vectors, query_vectors = normalised(memory_counts @ weight), normalised(query_counts @ weight)
    found: list[int] = []
    rows = max(1, _SCORES // len(memory))
    for start in range(0, len(queries), rows):
        scores = query_vectors[start : start + rows] @ memory_vectors.T
        found.extend(np.asarray(scores.todense()).argmax(axis=1).tolist())
    return found


def normalised(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    lengths = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    return sparse.diags(1 / np.maximum(lengths, 1e-9)) @ matrix


def nearest_by_edits(queries: Sequence[str], memory: Sequence[str]) -> list[int]:
    """For each query the index of the sentence in `memory` with the fewest words inserted, deleted or replaced."""
    index: dict[str, int] = {}
    coded = [[index.setdefault(word, len(index) + 1) for word in text.split()] for text in memory]
    lengths = np.array([len(words) for words in coded])
    longest = int(lengths.max())
    memory_words = np.zeros((longest, len(memory)), np.uint16)
    for column, words in enumerate(coded):
        memory_words[: len(words), column] = words
    rows = np.arange(len(memory))
    found = []
    for query in queries:
        # distances[j]: edits from the query so far to the first j words of every sentence in memory.
        distances = [np.full(len(memory), j, np.int8) for j in range(longest + 1)]
        for word in (index.get(word, len(index) + 1) for word in query.split()):
            previous, distances = distances, [distances[0] + 1]
            for j in range(1, longest + 1):
                replaced = previous[j - 1] + (memory_words[j - 1] != word)
                distances.append(np.minimum(np.minimum(previous[j], distances[-1]) + 1, replaced))
        found.append(int(np.stack(distances)[lengths, rows].argmin()))
    return found


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=int, help="pairs to look up in (default: the training split's own size)")
    parser.add_argument("--test", type=int, help="pairs to translate (default: the test split's own size)")
    parser.add_argument("--json", help="also write the results to this file")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    train, test = pairs("train", arguments.train), pairs("test", arguments.test)
    queries, memory = [pair.source for pair in test], [pair.source for pair in train]
    lookups: dict[str, Callable[[], list[int]]] = {
        "characters": lambda: nearest_by_cosine(queries, memory, characters),
        "words": lambda: nearest_by_cosine(queries, memory, str.split),
        "edits": lambda: nearest_by_edits(queries, memory),
    }
    answers = {"copy": queries}
    seconds = {"copy": 0.0}
    for name, lookup in lookups.items():
        started = time.perf_counter()
        answers[name] = [train[index].target for index in lookup()]
        seconds[name] = time.perf_counter() - started
    metric = sacrebleu.BLEU()
    results = {}
    print(f"{len(train):,} training pairs, {len(test):,} test pairs")
    print(f"{'answer':12s} {'BLEU':>6s} {'exact %':>8s} {'seconds':>8s}")
    for name, hypotheses in answers.items():
        bleu = metric.corpus_score(hypotheses, [[pair.target for pair in test]]).score
        exact = accuracy_by_phenomenon(hypotheses, test)["all"].percent
        results[name] = {"bleu": round(bleu, 2), "exact_percent": round(exact, 2)}
        print(f"{name:12s} {bleu:6.2f} {exact:8.2f} {seconds[name]:8.1f}")
    report = {"train": len(train), "test": len(test), "signature": str(metric.get_signature()), "results": results}
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=2)
    print(json.dumps(report))


if __name__ == "__main__":
    main()

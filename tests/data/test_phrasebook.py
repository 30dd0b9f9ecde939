"""The phrasebook as a corpus: how large, how split, how hard."""

import hashlib
import itertools
import math
import re
import time
from collections import Counter
from collections.abc import Iterable
from operator import attrgetter

import numpy as np
import pytest
import sacrebleu

from transformer.data.phrasebook import PHENOMENA, Accuracy, Pair, accuracy_by_phenomenon, corpus, pairs, space_size

# Of the first 2,000 training pairs. It changes with every change of grammar, lexicon or order: pin the new one then.
FIRST_PAIRS = "f82b14d562c5b652fe74e2138a67c7272c0b005615455fb9420fff7f2b594d5b"


@pytest.fixture(scope="module")
def train() -> list[Pair]:
    return pairs("train")


@pytest.fixture(scope="module")
def test() -> list[Pair]:
    return pairs("test")


def word_forms(texts: Iterable[str]) -> Counter[str]:
    return Counter(word for text in texts for word in re.findall(r"\w+", text))


def test_corpus_is_the_same_everywhere():
    text = "\n".join(f"{pair.source}\t{pair.target}\t{pair.phenomena}" for pair in pairs("train", 2000))
    assert hashlib.sha256(text.encode("utf-8")).hexdigest() == FIRST_PAIRS


def test_default_sizes(train, test):
    assert (len(train), len(pairs("validation")), len(test)) == (120_000, 500, 1_000)


def test_larger_count_continues_a_smaller_one(train):
    assert pairs("train", 100) == train[:100]
    assert pairs("train", 0) == []


def test_sources_are_distinct_within_and_across_splits(train, test):
    sources = [pair.source for pair in (*train, *test, *pairs("validation"))]
    assert len(set(sources)) == len(sources)


def test_space_counts_every_filled_frame_once():
    smallest = min(corpus.FRAMES, key=lambda frame: frame.size)
    splits = [[pair.source for pair in corpus.sentences(smallest, split)] for split in corpus.DEFAULT_COUNTS]
    assert len(set(itertools.chain(*splits))) == sum(map(len, splits)) == smallest.size
    assert space_size() == sum(frame.size for frame in corpus.FRAMES) >= 1_000_000


def test_every_value_of_every_slot_shows_in_the_source():
    """So no two fillings are one sentence, and the source says all that the target depends on."""
    for frame in corpus.FRAMES:
        first = {slot: values[0] for slot, values in frame.slots.items()}
        for slot, values in frame.slots.items():
            some = values[:: max(1, len(values) // 200)]
            assert len({frame.render(**(first | {slot: value})).source for value in some}) == len(some), frame.name


def test_order_of_each_frame_visits_every_number_once():
    for bits in (2, 5, 11, 12):
        numbers = corpus.shuffled(np.arange(1 << bits, dtype=np.uint64), bits, seed=7)
        assert sorted(numbers.tolist()) == list(range(1 << bits))


def held_out_combinations(split: str, count: int) -> set[tuple]:
    """(frame, what fills its held-out slots) of the first `count` sentences of every frame in `split`."""
    combinations = set()
    for frame in corpus.FRAMES:
        columns = [list(frame.slots).index(slot) for slot in frame.held_out]
        for digits in itertools.islice(corpus.fillings(frame, split), count):
            combinations.add((frame.name, *(digits[column] for column in columns)))
    return combinations


def test_no_combination_is_in_two_splits():
    train, validation, test = (held_out_combinations(split, 1000) for split in ("train", "validation", "test"))
    assert train.isdisjoint(validation) and train.isdisjoint(test) and validation.isdisjoint(test)
    assert len(test) > 1000


def test_each_value_of_a_held_out_slot_is_trained_in_its_frame():
    """What is held out are combinations, never a word."""
    for frame in corpus.FRAMES:
        fillings = list(itertools.islice(corpus.fillings(frame, "train"), 20_000))
        for column, (slot, values) in enumerate(frame.slots.items()):
            if slot in frame.held_out and len(values) < 200:
                assert len({digits[column] for digits in fillings}) == len(values), f"{frame.name}: {slot}"


def test_every_word_form_of_the_test_is_in_the_training_text(train, test):
    for side in (attrgetter("source"), attrgetter("target")):
        assert word_forms(map(side, test)).keys() <= word_forms(map(side, train)).keys()


def test_sentences_are_short(train):
    lengths = [len(text.split()) for pair in train for text in (pair.source, pair.target)]
    assert max(lengths) <= 24 and 8 <= sum(lengths) / len(lengths) <= 14


def test_each_phenomenon_can_be_measured(test):
    shown = Counter(phenomenon for pair in test for phenomenon in pair.phenomena)
    assert set(shown) == set(PHENOMENA)
    assert min(shown.values()) >= 60


def test_accuracy_counts_exact_matches_under_each_phenomenon():
    examples = [
        Pair("a", "eins", ("number", "price")),
        Pair("b", "zwei", ("number",)),
        Pair("c", "drei", ()),
    ]
    accuracy = accuracy_by_phenomenon(["eins ", "drei", "drei"], examples)
    assert accuracy["all"] == Accuracy(2, 3)
    assert accuracy["number"] == Accuracy(1, 2)
    assert accuracy["price"].percent == 100.0
    assert accuracy["date"] == Accuracy(0, 0)
    assert list(accuracy) == ["all", *PHENOMENA]


def test_bad_requests_name_the_remedy():
    with pytest.raises(ValueError, match="split = 'dev': choose one of train, validation, test"):
        pairs("dev")
    with pytest.raises(ValueError, match="count = -1: give the number of pairs"):
        pairs("train", -1)
    with pytest.raises(ValueError, match="1 hypotheses for 0 pairs: give one hypothesis for each pair"):
        accuracy_by_phenomenon(["x"], [])


def test_generation_is_fast():
    started = time.process_time()
    pairs("train", 10_000)
    assert time.process_time() - started < 2  # about 0.1 s


def test_nearest_neighbour_scores_under_60_bleu(train, test):
    """The translation of the training sentence with the rarest words in common; benchmarks/ has stronger lookups."""
    rows_of: dict[str, list[int]] = {}
    for row, pair in enumerate(train):
        for word in set(pair.source.split()):
            rows_of.setdefault(word, []).append(row)
    hypotheses, sample = [], test[::10]
    for pair in sample:
        likeness: Counter[int] = Counter()
        for word in set(pair.source.split()) & rows_of.keys():
            if len(rows_of[word]) < 5_000:
                likeness.update(dict.fromkeys(rows_of[word], 1 / math.sqrt(len(rows_of[word]))))
        hypotheses.append(train[likeness.most_common(1)[0][0]].target)
    bleu = sacrebleu.corpus_bleu(hypotheses, [[pair.target for pair in sample]]).score
    assert 20 < bleu < 60

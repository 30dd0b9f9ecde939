"""Tokenising: what is dropped, in which order, and that neither shards nor threads show in the result."""

import numpy as np
import pytest
from sentences import make_pairs

from transformer.config import DataConfig, TokenizerConfig
from transformer.data import shards
from transformer.data.filters import FilterReport, SeenPairs
from transformer.data.shards import PairShards, tokenise
from transformer.data.store import TokenStore
from transformer.data.tokenizer_training import train

PAIRS = make_pairs(300)


@pytest.fixture(scope="module")
def tokenizers():
    return train(lambda: iter(PAIRS), len(PAIRS), TokenizerConfig(vocab_size=80, character_coverage=1.0))


def decoded(store, tokenizers) -> list[tuple[str, str]]:
    sources, targets = ([side[index] for index in range(len(store))] for side in (store.source, store.target))
    return list(zip(tokenizers.source.decode(sources), tokenizers.target.decode(targets), strict=True))


def test_tokens_spell_the_text_without_special_ids(tokenizers):
    made = tokenise(PAIRS, tokenizers, DataConfig())
    assert decoded(made.store, tokenizers) == PAIRS
    assert min(made.store.source.tokens.min(), made.store.target.tokens.min()) > 3
    assert made.store.source.tokens.dtype == np.uint16


def test_every_reason_is_counted(tokenizers):
    bad = [("", "x"), ("x", ""), ("\u200b", "alt"), ("old", "alt " * 9), ("old " * 30, "alt " * 30)]
    data = DataConfig(max_length=50, max_length_ratio=8.0)
    made = tokenise([*bad, *PAIRS], tokenizers, data)
    assert made.report == FilterReport(kept=300, empty=3, length_ratio=1, too_long=1)
    assert decoded(made.store, tokenizers) == PAIRS


def test_longest_side_counts_its_end(tokenizers):
    lengths = tokenise(PAIRS, tokenizers, DataConfig()).store
    longest = np.maximum(lengths.source.lengths, lengths.target.lengths)
    limit = int(np.median(longest))
    made = tokenise(PAIRS, tokenizers, DataConfig(max_length=limit))
    assert made.report.kept == np.sum(longest + 1 <= limit)


def joined(pairs, tokenizers, folder, seen=None, **changes):
    made = PairShards(folder / "parts")
    made.make(pairs, tokenizers, DataConfig(**changes), seen, lambda done: None)
    made.join(folder)
    return made.report(), TokenStore.open(folder)


@pytest.mark.parametrize(("size", "workers"), [(7, 1), (7, 3), (64, 2), (300, 2), (1000, 1)])
def test_shards_and_threads_do_not_show(tokenizers, tmp_path, monkeypatch, size, workers):
    monkeypatch.setattr(shards, "SHARD_PAIRS", size)
    whole = tokenise(PAIRS, tokenizers, DataConfig(max_length=20))
    report, store = joined(iter(PAIRS), tokenizers, tmp_path, max_length=20, workers=workers)
    assert report == whole.report
    for side in ("source", "target"):
        mapped, expected = getattr(store, side), getattr(whole.store, side)
        np.testing.assert_array_equal(mapped.tokens, expected.tokens)
        np.testing.assert_array_equal(mapped.offsets, expected.offsets)


def test_shards_of_another_size_are_not_continued(tokenizers, tmp_path, monkeypatch):
    whole = tokenise(PAIRS, tokenizers, DataConfig())
    for size in (50, 64):
        monkeypatch.setattr(shards, "SHARD_PAIRS", size)
        # The first leaves its shards behind.
        report, store = joined(PAIRS, tokenizers, tmp_path)
        assert report == whole.report
        np.testing.assert_array_equal(store.target.tokens, whole.store.target.tokens)


def test_duplicates_are_dropped_within_and_across_shards(tokenizers, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD_PAIRS", 64)
    seen = SeenPairs()
    seen.add(PAIRS[:10])
    report, store = joined([*PAIRS, *PAIRS[:50], ("", ""), ("", "")], tokenizers, tmp_path, seen)
    assert report == FilterReport(kept=290, empty=2, duplicate=60)
    assert decoded(store, tokenizers) == PAIRS[10:]


def test_progress_ends_at_the_number_of_pairs(tokenizers, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD_PAIRS", 64)
    told = []
    PairShards(tmp_path / "parts").make(PAIRS, tokenizers, DataConfig(workers=2), None, told.append)
    assert told == sorted(told) and told[-1] == 300 and told[0] >= 0

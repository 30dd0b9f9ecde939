"""Documents tokenised: what is dropped, and that neither parts nor shards nor threads show in the result."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer.config import DataConfig
from transformer.data import document_shards, documents
from transformer.data.character_tokenizer import CharacterTokenizer, describe
from transformer.data.document_shards import DocumentShards, chunks, tokenise_documents
from transformer.data.documents import Part, in_parts
from transformer.data.filters import FilterReport, SeenPairs
from transformer.data.store import DocumentStore
from transformer.data.tokenizer import Tokenizers

TOKENIZER = CharacterTokenizer(describe("ab\n", with_bytes=True))
TOKENIZERS = Tokenizers(TOKENIZER, TOKENIZER)

Texts = list[tuple[str, str]]
ANY_TEXTS = st.lists(st.tuples(st.text("ab\né", max_size=4), st.text("ab\né", max_size=40)), min_size=1, max_size=12)


def decoded(store: DocumentStore) -> Texts:
    pairs = []
    for number in range(len(store)):
        ids, prompt = store.documents[number], store.prompt_lengths[number]
        pairs.append(tuple(TOKENIZER.decode([ids[:prompt], ids[prompt:]])))
    return pairs


def parts_of(texts: Texts) -> list[Part]:
    return [part for prompt, text in texts for part in in_parts([text], prompt)]


def joined(parts, folder, seen=None, **changes) -> tuple[FilterReport, DocumentStore]:
    folder.mkdir(exist_ok=True)
    made = DocumentShards(folder / "parts")
    made.make(parts, TOKENIZERS, DataConfig(**changes), seen, lambda done: None)
    made.join(folder)
    return made.report(), DocumentStore.open(folder)


@settings(deadline=None)
@given(ANY_TEXTS)
def test_documents_are_spelt_by_their_tokens(texts):
    made = tokenise_documents(parts_of(texts), TOKENIZER, DataConfig())
    kept = [pair for pair in texts if pair[1]]
    assert decoded(made.store) == kept
    assert made.report == FilterReport(kept=len(kept), empty=len(texts) - len(kept))
    assert made.text_bytes == sum(len(text.encode()) for _, text in kept)
    assert not made.continues and made.store.documents.tokens.dtype == TOKENIZER.dtype


@settings(deadline=None)
@given(ANY_TEXTS, st.integers(1, 9), st.integers(1, 60), st.integers(1, 5))
def test_parts_shards_and_threads_do_not_show(tmp_path_factory, texts, part, characters, count):
    expected = tokenise_documents(parts_of(texts), TOKENIZER, DataConfig())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "PART", part)
        patch.setattr(document_shards, "SHARD_CHARACTERS", characters)
        patch.setattr(document_shards, "SHARD_PAIRS", count)
        report, store = joined(iter(parts_of(texts)), tmp_path_factory.mktemp("made"), workers=2)
    assert report == expected.report
    np.testing.assert_array_equal(store.documents.tokens, expected.store.documents.tokens)
    np.testing.assert_array_equal(store.documents.offsets, expected.store.documents.offsets)
    np.testing.assert_array_equal(store.prompt_lengths, expected.store.prompt_lengths)


def test_a_long_document_is_held_in_parts_only():
    parts = [Part("", "a" * 100, continues=number > 0, continued=number < 99) for number in range(100)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(document_shards, "SHARD_CHARACTERS", 250)
        assert {sum(len(part.text) for part in chunk) for chunk in chunks(parts)} == {300, 100}


def test_no_document_is_too_long():
    made = tokenise_documents([Part("a" * 999, "b" * 9999)], TOKENIZER, DataConfig(max_length=10))
    assert made.report == FilterReport(kept=1)


def test_uneven_pairs_are_dropped_and_text_alone_is_not():
    data = DataConfig(max_length_ratio=2.0)
    texts = [Part("a b\n", "a b"), Part("a\n", "a b a b"), Part("", "a b a b a")]
    # Of a document in parts nothing is dropped: its rest would be joined to another one.
    in_two = [Part("a\n", "b b b b b", continued=True), Part("", "b", continues=True)]
    made = tokenise_documents([*texts, *in_two], TOKENIZER, data)
    assert made.report == FilterReport(kept=3, length_ratio=1)
    assert [text for _, text in decoded(made.store)] == ["a b", "a b a b a", "b b b b bb"]


def test_duplicates_are_dropped_within_and_across_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(document_shards, "SHARD_PAIRS", 3)
    seen = SeenPairs()
    seen.add([("", "a")])
    # Line ends between prompt and text are no confusion.
    texts = [("", "a"), ("", "b"), ("a\n", "b"), ("", "b"), ("a", "\nb"), ("", ""), ("a\n", "b"), ("", "ab")]
    report, store = joined(parts_of(texts), tmp_path, seen)
    assert report == FilterReport(kept=4, empty=1, duplicate=3)
    assert decoded(store) == [("", "b"), ("a\n", "b"), ("a", "\nb"), ("", "ab")]


def test_documents_in_parts_are_never_duplicates(tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "PART", 4)
    report, store = joined(parts_of([("", "abababab"), ("", "abab"), ("", "abababab")]), tmp_path, SeenPairs())
    assert (
        report.kept == 2 + 1 - (report.duplicate == 1) and [text for _, text in decoded(store)].count("abababab") == 2
    )


def test_shards_of_another_size_are_not_continued(tmp_path, monkeypatch):
    texts = [("", "ab" * number) for number in range(1, 40)]
    for size in (50, 64):
        monkeypatch.setattr(document_shards, "SHARD_CHARACTERS", size)
        assert decoded(joined(parts_of(texts), tmp_path)[1]) == texts


def test_interrupted_and_continued_is_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "PART", 8)
    monkeypatch.setattr(document_shards, "SHARD_CHARACTERS", 20)
    texts = [("", "ab" * number) for number in range(1, 40)]
    expected = joined(parts_of(texts), tmp_path / "whole")[1]

    def broken():
        yield from parts_of(texts)[:60]
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        joined(broken(), tmp_path / "broken", workers=1)
    made = len(list((tmp_path / "broken" / "parts").iterdir()))
    calls = []
    original = document_shards.tokenise_documents
    monkeypatch.setattr(document_shards, "tokenise_documents", lambda *given: calls.append(1) or original(*given))
    store = joined(parts_of(texts), tmp_path / "broken")[1]
    assert made > 5 and len(calls) == len(list(chunks(parts_of(texts)))) - made
    np.testing.assert_array_equal(store.documents.tokens, expected.documents.tokens)
    np.testing.assert_array_equal(store.documents.offsets, expected.documents.offsets)


def test_the_store_is_mapped(tmp_path):
    store = joined([Part("", "ab")], tmp_path)[1]
    assert isinstance(store.documents.tokens, np.memmap) and not store.documents.tokens.flags.writeable


def test_prompts_and_documents_that_do_not_match_are_refused():
    whole = DocumentStore.from_lists([[5], []], [[6], [7]])
    assert whole.documents[0].tolist() == [5, 6] and whole.prompt_lengths.tolist() == [1, 0]
    with pytest.raises(ValueError, match="2 documents, but 1 prompts"):
        DocumentStore(whole.documents, whole.prompt_lengths[:1])

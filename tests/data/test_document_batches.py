"""Batches of documents: the right arrays, every token once an epoch, cuts that move, and always the same."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer.config import ConfigError, DataConfig
from transformer.data.batches import WeightedStore, evaluation_batches, training_batches
from transformer.data.errors import DataError
from transformer.data.loader import Loader
from transformer.data.store import DocumentStore
from transformer.data.tokenizer import BOS, EOS

ROW = 16
NAMES = {
    "target_inputs",
    "targets",
    "target_segments",
    "target_positions",
    "target_prompt",
}


def _documents(count, seed=0, longest=60, prompts=9):
    """(prompt, text) as lists of random tokens; some texts are empty, many prompts too."""
    rng = np.random.default_rng(seed)

    def tokens(most):
        return rng.integers(4, 60_000, rng.integers(0, most)).tolist()

    return [(tokens(prompts) if rng.random() < 0.5 else [], tokens(longest)) for _ in range(count)]


def _store(documents) -> DocumentStore:
    return DocumentStore.from_lists(*zip(*documents, strict=True))


def _config(**changes) -> DataConfig:
    return DataConfig(**{"pack_length": ROW, "batch_tokens": 6 * ROW, "rows_multiple_of": 2} | changes)


def _training(documents, seed=3, **changes):
    return training_batches([WeightedStore(_store(documents))], _config(**changes), seed)


def _stream(document):
    prompt, text = document
    return [BOS, *prompt, *text, EOS]


def _slow_batch(layout, documents):
    """What the arrays should be, written as plainly as possible."""
    shape = (layout.shape.rows, layout.shape.target_length)
    arrays = {name: np.zeros(shape, np.int32) for name in NAMES}
    column, segment = Counter(), Counter()
    pieces = zip(layout.rows, layout.pieces.documents, layout.pieces.begins, layout.pieces.ends, strict=True)
    for row, number, begin, end in pieces:
        stream, prompt = _stream(documents[number]), len(documents[number][0])
        segment[row] += 1
        for position, target in enumerate(range(begin, end)):
            # Token 0 is BOS, the prompt's are 1 .. prompt; target j is token j + 1 and follows token j.
            values = {
                "target_inputs": stream[target],
                "targets": stream[target + 1],
                "target_segments": segment[row],
                "target_positions": position,
                "target_prompt": target + 1 <= prompt,
            }
            for name, value in values.items():
                arrays[name][row, column[row]] = value
            column[row] += 1
    return arrays


def _equal(batch, other):
    return batch.keys() == other.keys() and all(np.array_equal(batch[name], other[name]) for name in batch)


def _epoch(batches, number=0):
    return range(number * len(batches), (number + 1) * len(batches))


def _counts(batches, documents, numbers):
    """How often each target of each document is learned in batches of these numbers."""
    seen = [np.zeros(len(prompt) + len(text) + 1, int) for prompt, text in documents]
    for i in numbers:
        pieces = batches.layout(i).pieces
        for number, begin, end in zip(pieces.documents, pieces.begins, pieces.ends, strict=True):
            seen[number][begin:end] += 1
    return seen


# --- the arrays ---


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=3), st.integers(2, 40), st.integers(0, 2**32 - 1))
def test_arrays_are_those_of_a_plain_implementation(counts, row, seed):
    parts = [_documents(count, seed=index) for index, count in enumerate(counts)]
    data = _config(pack_length=row, batch_tokens=6 * row)
    training = training_batches([WeightedStore(_store(part)) for part in parts], data, seed)
    evaluation = evaluation_batches([_store(part) for part in parts], data)
    documents = sum(parts, [])
    for batches in (training, evaluation):
        for i in range(len(batches) + 1):
            batch = batches.batch(i)
            assert all(array.dtype == np.int32 for array in batch.values())
            assert _equal(batch, _slow_batch(batches.layout(i), documents))


def test_a_document_by_hand():
    data = _config(pack_length=4, batch_tokens=8, rows_multiple_of=1)
    batches = evaluation_batches([_store([([11, 12], [21, 22, 23])])], data)
    assert len(batches) == 1
    assert {name: array.tolist() for name, array in batches.batch(0).items()} == {
        "target_inputs": [[BOS, 11, 12, 21], [22, 23, 0, 0]],
        "targets": [[11, 12, 21, 22], [23, EOS, 0, 0]],
        "target_segments": [[1, 1, 1, 1], [1, 1, 0, 0]],
        "target_positions": [[0, 1, 2, 3], [0, 1, 0, 0]],
        "target_prompt": [[1, 1, 0, 0], [0, 0, 0, 0]],
    }


def test_a_prompt_that_is_cut():
    data = _config(pack_length=2, batch_tokens=8, rows_multiple_of=1)
    batch = evaluation_batches([_store([([11, 12, 13], [21])])], data).batch(0)
    found = {name: array[array.any(axis=1)].tolist() for name, array in batch.items()}
    assert found["target_inputs"] == [[BOS, 11], [12, 13], [21, 0]]
    assert batch["target_prompt"][:3].tolist() == [[1, 1], [1, 0], [0, 0]]


@pytest.mark.parametrize("seed", range(4))
def test_pieces_read_what_they_should(seed):
    """From the arrays alone: a segment is a run of one document, and its inputs are the tokens before its targets."""
    documents = _documents(40, seed)
    streams = [_stream(document) for document in documents]
    batches = _training(documents, seed)
    for i in _epoch(batches):
        batch = batches.batch(i)
        for row in range(len(batch["targets"])):
            for segment in range(1, batch["target_segments"][row].max() + 1):
                chosen = batch["target_segments"][row] == segment
                inputs, targets = (batch[name][row][chosen].tolist() for name in ("target_inputs", "targets"))
                assert batch["target_positions"][row][chosen].tolist() == list(range(len(targets)))
                run = [inputs[0], *targets]
                assert inputs == run[:-1]
                assert any(stream[k : k + len(run)] == run for stream in streams for k in range(len(stream)))


# --- every token once, and where documents are cut ---


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 40), st.sampled_from([0.5, 1.0, 2.0, 1.3])), min_size=1, max_size=3),
    st.integers(1, 40),
    st.integers(0, 2**32 - 1),
)
def test_every_token_is_seen_as_often_as_its_weight_says(corpora, row, seed):
    parts = [_documents(count, seed=index) for index, (count, _) in enumerate(corpora)]
    weighted = [WeightedStore(_store(part), weight) for part, (_, weight) in zip(parts, corpora, strict=True)]
    batches = training_batches(weighted, _config(pack_length=row, batch_tokens=6 * row), seed)
    epochs = 4
    seen = _counts(batches, sum(parts, []), range(epochs * len(batches)))
    for part, (_, weight) in zip(parts, corpora, strict=True):
        counts, seen = np.concatenate(seen[: len(part)]), seen[len(part) :]
        if weight == int(weight):
            assert (counts == epochs * weight).all()
        else:
            # Rounding the share of an epoch to whole rows may move it by half a row, in either of two pools.
            assert counts.max() - counts.min() <= epochs + 1
            assert counts.min() >= 1


def test_each_epoch_has_every_token_once():
    documents = _documents(150)
    batches = _training(documents)
    for number in (0, 1, 7):
        assert (np.concatenate(_counts(batches, documents, _epoch(batches, number))) == 1).all()


@pytest.mark.parametrize("length", [1, 1000, 16 * 40 - 1, 16 * 40])
def test_one_document_is_cut_elsewhere_every_epoch(length):
    documents = [([], list(range(4, 4 + length)))]
    batches = _training(documents)
    cuts = []
    for number in range(60):
        assert (_counts(batches, documents, _epoch(batches, number))[0] == 1).all()
        cuts.append(
            frozenset(int(begin) % ROW for i in _epoch(batches, number) for begin in batches.layout(i).pieces.begins)
        )
    # The first piece begins at 0; where the others do is any of 16 places.
    assert len(set().union(*cuts)) == (ROW if length > 1 else 1)


def test_cuts_move_for_every_document_and_follow_from_the_seed():
    documents = _documents(30, longest=300, prompts=1)
    cuts = []
    for batches, epoch in [(_training(documents), 0), (_training(documents), 1), (_training(documents, seed=4), 0)]:
        pieces = [batches.layout(i).pieces for i in _epoch(batches, epoch)]
        cuts.append(
            {(int(d), int(b)) for each in pieces for d, b in zip(each.documents, each.begins, strict=True) if b}
        )
    assert all(len(a & b) < 0.3 * len(a) for a, b in [(cuts[0], cuts[1]), (cuts[0], cuts[2]), (cuts[1], cuts[2])])


def test_documents_that_fit_a_row_are_not_cut():
    documents = _documents(200, longest=10, prompts=5)
    batches = _training(documents)
    for i in _epoch(batches):
        pieces = batches.layout(i).pieces
        assert not pieces.begins.any()
        assert all(
            end == len(_stream(documents[number])) - 1
            for number, end in zip(pieces.documents, pieces.ends, strict=True)
        )


def test_long_documents_leave_no_padding():
    batches = _training(_documents(50, longest=300, prompts=1), batch_tokens=2 * ROW)
    filled = sum(int((batches.batch(i)["target_segments"] > 0).sum()) for i in _epoch(batches))
    assert filled == batches.statistics.target_tokens
    assert batches.statistics.target_padding < 0.03


# --- order ---


def test_a_batch_depends_on_nothing_but_its_number():
    documents = _documents(100)
    batches = _training(documents)
    numbers = np.random.default_rng(0).integers(0, 6 * len(batches), 12).tolist()
    visited = [batches.batch(i) for i in numbers]
    for i, batch in zip(numbers, visited, strict=True):
        assert _equal(batch, _training(documents).batch(i))


def test_order_changes_with_the_epoch_and_with_the_seed():
    documents = _documents(100)
    batches = _training(documents)
    firsts = [batches.batch(0), batches.batch(len(batches)), _training(documents, seed=4).batch(0)]
    assert not any(_equal(a, b) for a, b in [(firsts[0], firsts[1]), (firsts[0], firsts[2]), (firsts[1], firsts[2])])


def test_documents_of_corpora_are_mixed():
    parts = [_documents(150, seed=0), _documents(150, seed=1)]
    batches = training_batches([WeightedStore(_store(part)) for part in parts], _config(), seed=0)
    of_first = [(batches.layout(i).pieces.documents < 150).mean() for i in _epoch(batches)]
    assert np.mean([0 < share < 1 for share in of_first]) > 0.5


# --- shapes, processes, resuming ---


@pytest.mark.parametrize("documents", [_documents(100), _documents(1), [([], list(range(4, 5000)))]])
@pytest.mark.parametrize(("tokens", "rows"), [(96, 6), (111, 6), (10, 2)])
def test_all_batches_have_one_shape(documents, tokens, rows):
    batches = _training(documents, batch_tokens=tokens)
    (shape,) = batches.shapes
    assert (shape.rows, shape.source_length, shape.target_length, str(shape)) == (rows, 0, ROW, f"{rows}x16")
    for i in range(len(batches) + 2):
        batch = batches.batch(i)
        assert batch.keys() == NAMES and {array.shape for array in batch.values()} == {(rows, ROW)}


def test_no_batch_is_much_emptier_than_the_others():
    batches = _training(_documents(200))
    filled = [len(np.unique(batches.layout(i).rows)) for i in _epoch(batches)]
    assert max(filled) - min(filled) <= 1


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_the_shares_of_all_processes_make_the_batch(count):
    batches = _training(_documents(60), rows_multiple_of=6)
    for i in range(len(batches) + 3):
        shares = [batches.rows(i, (index,), count) for index in range(count)]
        assert _equal({name: np.concatenate([share[name] for share in shares]) for name in NAMES}, batches.batch(i))
        assert len({len(share["targets"]) for share in shares}) == 1


def test_a_share_without_documents_is_all_padding():
    share = _training(_documents(1, longest=5), rows_multiple_of=6).rows(0, (5,), 6)
    assert share["targets"].shape == (1, ROW) and share.keys() == NAMES
    assert not any(array.any() for array in share.values())


def test_a_number_of_processes_that_does_not_divide_the_rows_is_refused():
    with pytest.raises(ConfigError, match="rows_multiple_of = 2: the rows of a batch cannot"):
        _training(_documents(5)).rows(0, (0,), 3)


def test_resuming_anywhere_with_other_processes_continues_the_same():
    batches = _training(_documents(60), rows_multiple_of=6)
    stop = 2 * len(batches) + 3
    for position in (1, len(batches) - 1, len(batches), stop - 1):
        with Loader(batches, 0, stop, read_ahead=4, blocks=(1,), count=2) as first:
            for _ in range(position):
                next(first)
            state = first.get_state()
        shares = []
        for index in range(3):
            with Loader(batches, 0, stop, read_ahead=3, blocks=(index,), count=3) as loader:
                loader.set_state(state)
                shares.append(list(loader))
        for i, parts in enumerate(zip(*shares, strict=True), start=position):
            assert _equal({name: np.concatenate([part[name] for part in parts]) for name in NAMES}, batches.batch(i))


# --- evaluation ---


def test_evaluation_has_every_token_once_and_never_changes():
    parts = [_documents(40, seed=8), _documents(30, seed=9)]
    stores = [_store(part) for part in parts]
    training = training_batches([WeightedStore(store) for store in stores], _config(), seed=5)
    batches = evaluation_batches(stores, _config(), training.shapes)
    assert batches.shapes == training.shapes
    documents = sum(parts, [])
    assert (np.concatenate(_counts(batches, documents, _epoch(batches))) == 1).all()
    again = evaluation_batches(stores, _config())
    for i in _epoch(batches):
        assert _equal(batches.batch(i), again.batch(i)) and _equal(batches.batch(i), batches.batch(i + len(batches)))


def test_how_a_document_is_cut_for_evaluation_does_not_depend_on_others():
    documents = _documents(40)

    def runs(chosen):
        batches, found = evaluation_batches([_store(chosen)], _config()), Counter()
        for i in _epoch(batches):
            batch = batches.batch(i)
            for row in range(len(batch["targets"])):
                for segment in range(1, batch["target_segments"][row].max() + 1):
                    here = batch["target_segments"][row] == segment
                    found[
                        tuple(
                            zip(
                                *(batch[name][row][here].tolist() for name in sorted(NAMES - {"target_segments"})),
                                strict=True,
                            )
                        )
                    ] += 1
        return found

    assert runs(documents) == sum((runs([document]) for document in documents), Counter())


# --- statistics and errors ---


def test_statistics_are_what_counting_gives():
    documents = _documents(200)
    batches = _training(documents)
    arrays = [batches.batch(i) for i in _epoch(batches)]
    statistics = batches.statistics
    assert (statistics.documents, statistics.batches) == (200, len(batches))
    assert statistics.cut == sum(len(_stream(document)) - 1 > ROW for document in documents)
    assert statistics.target_tokens == sum((batch["target_segments"] > 0).sum() for batch in arrays)
    in_prompts = sum(batch["target_prompt"].sum() for batch in arrays)
    assert statistics.target_tokens - statistics.learned_tokens == in_prompts
    assert statistics.target_capacity == sum(batch["targets"].size for batch in arrays)
    assert f"200 documents ({statistics.cut} longer than a row) in {len(batches)} batches" in str(statistics)
    evaluation = evaluation_batches([_store(documents)], _config()).statistics
    assert (evaluation.documents, evaluation.target_tokens) == (200, statistics.target_tokens)


def test_fingerprints_tell_documents_apart():
    documents = [([5], [6, 7]), ([], [8])]
    others = [[([5], [6, 7, 8]), ([], [8])], [([], [5, 6, 7]), ([], [8])], documents[::-1]]
    prints = [_training(each).fingerprint for each in (documents, documents, *others)]
    assert prints[0] == prints[1] and len(set(prints)) == 4


def test_empty_corpora_are_refused():
    empty = DocumentStore.from_lists([], [])
    for stores in ([empty], [_store(_documents(3)), empty]):
        with pytest.raises(DataError, match="no documents"):
            evaluation_batches(stores, _config())

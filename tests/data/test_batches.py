"""Batches: the right arrays, every example as often as it should be, and always the same."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer.config import ConfigError, DataConfig
from transformer.data.batches import WeightedStore, evaluation_batches, training_batches
from transformer.data.errors import DataError
from transformer.data.order import Shuffled
from transformer.data.store import TokenStore
from transformer.data.tokenizer import BOS, EOS, PAD

BATCHINGS = ("buckets", "packing")
FIRST_TOKEN = 4


def _pairs(count, seed=0, longest=12):
    """Distinct random pairs of token lists, some empty, as tuples."""
    rng = np.random.default_rng(seed)
    pairs = {}
    while len(pairs) < count:
        sides = (tuple(rng.integers(FIRST_TOKEN, 60_000, rng.integers(0, longest)).tolist()) for _ in range(2))
        pairs[tuple(sides)] = None
    return list(pairs)


def _store(pairs) -> TokenStore:
    return TokenStore.from_lists(*zip(*pairs, strict=True))


def _config(batching, **changes) -> DataConfig:
    small = {"batch_tokens": 96, "rows_multiple_of": 4, "pack_length": 24, "num_buckets": 4, "max_length": 16}
    return DataConfig(batching=batching, **small | changes)


def _training(pairs, batching, seed=3, **changes):
    return training_batches([WeightedStore(_store(pairs))], _config(batching, **changes), seed)


def examples_of(batch):
    """The examples of a batch, read back from its arrays as a user of the contract would."""
    found = []
    for row in range(len(batch["source"])):
        for segment in range(1, batch["source_segments"][row].max() + 1):
            sides = []
            for tokens, segments in (("source", "source_segments"), ("targets", "target_segments")):
                ids = batch[tokens][row][batch[segments][row] == segment].tolist()
                assert ids[-1] == EOS
                sides.append(tuple(ids[:-1]))
            found.append(tuple(sides))
    return found


def _epoch(batches, number=0):
    return [pair for i in range(len(batches)) for pair in examples_of(batches.batch(number * len(batches) + i))]


def _slow_batch(layout, pairs):
    """What `Examples.assemble` should give, written as plainly as possible."""
    shape = layout.shape
    source = {name: np.full((shape.rows, shape.source_length), PAD) for name in ("ids", "segments", "positions")}
    target = {name: np.zeros((shape.rows, shape.target_length), int) for name in ("ids", "in", "segments", "positions")}
    for row in range(shape.rows):
        column = {"source": 0, "target": 0}
        for segment, example in enumerate(layout.examples[layout.rows == row], start=1):
            for position, token in enumerate([*pairs[example][0], EOS]):
                source["ids"][row, column["source"]] = token
                source["segments"][row, column["source"]] = segment
                source["positions"][row, column["source"]] = position
                column["source"] += 1
            previous = BOS
            for position, token in enumerate([*pairs[example][1], EOS]):
                target["in"][row, column["target"]] = previous
                target["ids"][row, column["target"]] = token
                target["segments"][row, column["target"]] = segment
                target["positions"][row, column["target"]] = position
                previous = token
                column["target"] += 1
    return {
        "source": source["ids"],
        "source_segments": source["segments"],
        "source_positions": source["positions"],
        "target_inputs": target["in"],
        "targets": target["ids"],
        "target_segments": target["segments"],
        "target_positions": target["positions"],
    }


def _equal(batch, other):
    return batch.keys() == other.keys() and all(np.array_equal(batch[name], other[name]) for name in batch)


# --- the arrays ---


@pytest.mark.parametrize("batching", BATCHINGS)
def test_arrays_are_those_of_a_plain_implementation(batching):
    parts = [_pairs(40, seed=1), _pairs(7, seed=2), _pairs(30, seed=3)]
    batches = training_batches([WeightedStore(_store(part)) for part in parts], _config(batching), seed=0)
    pairs = sum(parts, [])
    for i in range(len(batches)):
        batch = batches.batch(i)
        assert all(array.dtype == np.int32 for array in batch.values())
        assert _equal(batch, _slow_batch(batches.layout(i), pairs))


def test_a_packed_row_by_hand():
    # Both sides fit one row of 8: whatever the order of the two, the arrays follow from it.
    data = _config("packing", pack_length=8, batch_tokens=8, rows_multiple_of=1)
    batches = evaluation_batches([_store([((11, 12, 13), (21,)), ((14,), (22, 23))])], data)
    assert (len(batches), batches.layout(0).examples.tolist()) == (1, [0, 1])
    assert {name: array.tolist()[0] for name, array in batches.batch(0).items()} == {
        "source": [11, 12, 13, EOS, 14, EOS, PAD, PAD],
        "source_segments": [1, 1, 1, 1, 2, 2, 0, 0],
        "source_positions": [0, 1, 2, 3, 0, 1, 0, 0],
        "target_inputs": [BOS, 21, BOS, 22, 23, PAD, PAD, PAD],
        "targets": [21, EOS, 22, 23, EOS, PAD, PAD, PAD],
        "target_segments": [1, 1, 2, 2, 2, 0, 0, 0],
        "target_positions": [0, 1, 0, 1, 2, 0, 0, 0],
    }


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
def test_tokens_come_out_of_a_mapped_file_unchanged(tmp_path, dtype):
    pairs = [((FIRST_TOKEN, np.iinfo(dtype).max // 2), (9,)), ((), (np.iinfo(dtype).max // 2,))]
    in_memory = _store(pairs)
    np.save(tmp_path / "tokens.npy", in_memory.source.tokens.astype(dtype))
    mapped = type(in_memory.source)(np.load(tmp_path / "tokens.npy", mmap_mode="r"), in_memory.source.offsets)
    batches = evaluation_batches([TokenStore(mapped, in_memory.target)], _config("buckets"))
    assert Counter(_epoch(batches)) == Counter(pairs)


# --- every example as often as it should be ---


@pytest.mark.parametrize("batching", BATCHINGS)
def test_every_epoch_has_every_example_once(batching):
    pairs = _pairs(300)
    batches = _training(pairs, batching)
    for number in (0, 1, 5):
        assert Counter(_epoch(batches, number)) == Counter(pairs)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(BATCHINGS),
    st.lists(st.tuples(st.integers(1, 60), st.sampled_from([0.5, 1.0, 2.0, 1.3])), min_size=1, max_size=3),
    st.integers(0, 2**32 - 1),
)
def test_over_the_epochs_every_example_is_seen_as_often_as_its_weight_says(batching, corpora, seed):
    parts = [_pairs(count, seed=index) for index, (count, _) in enumerate(corpora)]
    weighted = [WeightedStore(_store(part), weight) for part, (_, weight) in zip(parts, corpora, strict=True)]
    batches = training_batches(weighted, _config(batching), seed)
    epochs = 6
    # Counted by number: the corpora may have pairs in common.
    layouts = [batches.layout(i) for i in range(epochs * len(batches))]
    seen = np.bincount(np.concatenate([layout.examples for layout in layouts]), minlength=sum(map(len, parts)))
    base = 0
    for part, (_, weight) in zip(parts, corpora, strict=True):
        counts = seen[base : base + len(part)]
        base += len(part)
        if weight == int(weight):
            assert (counts == epochs * weight).all()
        else:
            # Rounding a group's share to whole rows may move it by half a row an epoch; of one row, by its half.
            assert abs(counts.mean() - epochs * weight) <= epochs * 0.5
            assert counts.min() >= 1


@pytest.mark.parametrize("batching", BATCHINGS)
def test_a_weighted_corpus_is_seen_evenly(batching):
    parts = [_pairs(400, seed=0), _pairs(200, seed=1)]
    weighted = [WeightedStore(_store(parts[0]), 0.25), WeightedStore(_store(parts[1]), 3)]
    batches = training_batches(weighted, _config(batching), seed=0)
    seen = np.zeros(600, int)
    for epoch in range(8):
        for i in range(epoch * len(batches), (epoch + 1) * len(batches)):
            np.add.at(seen, batches.layout(i).examples, 1)
        assert (seen[400:] == 3 * (epoch + 1)).all()
        # A quarter of each group of the first corpus: none is seen twice before all its group has been once.
        assert seen[:400].max() <= seen[:400].mean() + 1
    assert abs(seen[:400].mean() - 2) < 0.1


# --- order ---


@pytest.mark.parametrize("batching", BATCHINGS)
def test_order_changes_with_the_epoch_and_with_the_seed(batching):
    pairs = _pairs(200)
    batches = _training(pairs, batching)
    orders = [_epoch(batches, 0), _epoch(batches, 1), _epoch(_training(pairs, batching, seed=4), 0)]
    assert all(a != b for a, b in [(orders[0], orders[1]), (orders[0], orders[2]), (orders[1], orders[2])])


def test_shapes_come_in_another_order_every_epoch():
    batches = _training(_pairs(200), "buckets")
    orders = [[batches.layout(epoch * len(batches) + i).shape for i in range(len(batches))] for epoch in range(3)]
    assert orders[0] != orders[1] != orders[2] != sorted(orders[2])


def test_what_is_packed_together_follows_from_the_seed():
    pairs = _pairs(200)
    together = [
        {tuple(layout.examples[layout.rows == row]) for layout in (batches.layout(0),) for row in layout.rows}
        for batches in (_training(pairs, "packing", seed, batch_tokens=24 * 200) for seed in (0, 1))
    ]
    assert len(together[0] & together[1]) < len(together[0]) / 2


def test_reading_to_and_fro_across_the_end_of_an_epoch_plans_each_epoch_once(monkeypatch):
    batches = _training(_pairs(60), "buckets")
    planned = []
    plan = Shuffled.epoch
    monkeypatch.setattr(Shuffled, "epoch", lambda self, number: planned.append(number) or plan(self, number))
    for i in (0, len(batches), 1, len(batches) + 1, 2 * len(batches), len(batches) + 2):
        batches.batch(i)
    assert planned == [0, 1, 2]


@pytest.mark.parametrize("batching", BATCHINGS)
def test_a_batch_depends_on_nothing_but_its_number(batching):
    pairs = _pairs(200)
    batches = _training(pairs, batching)
    numbers = np.random.default_rng(0).integers(0, 6 * len(batches), 12).tolist()
    visited = [batches.batch(i) for i in numbers]
    for i, batch in zip(numbers, visited, strict=True):
        assert _equal(batch, _training(pairs, batching).batch(i))


@pytest.mark.parametrize("batching", BATCHINGS)
def test_examples_of_corpora_are_mixed(batching):
    parts = [_pairs(150, seed=0), _pairs(150, seed=1)]
    batches = training_batches([WeightedStore(_store(part)) for part in parts], _config(batching), seed=0)
    of_first = [(batches.layout(i).examples < 150).mean() for i in range(len(batches))]
    assert np.mean([0 < share < 1 for share in of_first]) > 0.3


# --- shapes ---


@pytest.mark.parametrize("batching", BATCHINGS)
def test_batches_have_the_declared_shapes_and_no_others(batching):
    batches = _training(_pairs(300), batching)
    found = set()
    for i in range(len(batches)):
        batch = batches.batch(i)
        found.add((*batch["source"].shape, *batch["targets"].shape))
    assert found == {(s.rows, s.source_length, s.rows, s.target_length) for s in batches.shapes}
    assert 1 < len(found) <= 4 if batching == "buckets" else len(found) == 1


@pytest.mark.parametrize("batching", BATCHINGS)
def test_no_batch_is_much_emptier_than_the_others_of_its_shape(batching):
    batches = _training(_pairs(300), batching)
    filled = {}
    for i in range(len(batches)):
        layout = batches.layout(i)
        filled.setdefault(layout.shape, []).append(len(np.unique(layout.rows)))
    assert all(max(counts) - min(counts) <= 1 for counts in filled.values())


# --- processes ---


@pytest.mark.parametrize("batching", BATCHINGS)
@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_shares_of_all_processes_make_the_batch(batching, count):
    batches = _training(_pairs(200), batching)
    for i in range(len(batches) + 3):
        shares = [batches.rows(i, (index,), count) for index in range(count)]
        joined = {name: np.concatenate([share[name] for share in shares]) for name in shares[0]}
        assert _equal(joined, batches.batch(i))
        assert len({len(share["source"]) for share in shares}) == 1


@pytest.mark.parametrize("batching", BATCHINGS)
@pytest.mark.parametrize("blocks", [(0, 2), (1, 3), (0, 1, 3), (0, 1, 2, 3)])
def test_a_share_may_be_any_blocks(batching, blocks):
    batches = _training(_pairs(200), batching)
    for i in range(len(batches) + 3):
        share = batches.rows(i, blocks, 4)
        for name, array in batches.batch(i).items():
            np.testing.assert_array_equal(share[name], np.concatenate([np.split(array, 4)[block] for block in blocks]))


@pytest.mark.parametrize("batching", BATCHINGS)
def test_a_share_without_examples_is_all_padding(batching):
    share = _training(_pairs(1), batching).rows(0, (3,), 4)
    assert len(share["source"]) >= 1
    assert not any(array.any() for array in share.values())


def test_a_number_of_blocks_that_does_not_divide_the_rows_is_refused():
    with pytest.raises(ConfigError, match="rows_multiple_of = 4: .* evenly over 3 devices. Make it a multiple of 3"):
        _training(_pairs(50), "buckets").rows(0, (0,), 3)


# --- evaluation ---


@pytest.mark.parametrize("batching", BATCHINGS)
def test_evaluation_has_every_example_once_in_a_fixed_order_in_the_shapes_of_training(batching):
    training = _training(_pairs(300), batching)
    parts = [_pairs(30, seed=8, longest=8), _pairs(25, seed=9, longest=8)]
    stores = [_store(part) for part in parts]
    batches = evaluation_batches(stores, _config(batching), training.shapes)
    assert {batches.layout(i).shape for i in range(len(batches))} == set(batches.shapes) <= set(training.shapes)
    numbered = sum(parts, [])
    for i in range(len(batches)):
        assert [numbered[example] for example in batches.layout(i).examples] == examples_of(batches.batch(i))
    assert Counter(_epoch(batches)) == Counter(numbered)
    again = evaluation_batches(stores, _config(batching), training.shapes)
    assert _epoch(again) == _epoch(batches) == _epoch(batches, 1)


def test_an_evaluation_example_longer_than_all_of_training_gets_a_shape_of_its_own():
    training = _training(_pairs(100), "buckets")
    long = ((5,) * 30, (6,))
    batches = evaluation_batches([_store([((5,), (6,)), long])], _config("buckets"), training.shapes)
    assert Counter(_epoch(batches)) == Counter([((5,), (6,)), long])
    assert len(set(batches.shapes) - set(training.shapes)) == 1


def test_evaluation_without_training_chooses_its_own_shapes():
    pairs = _pairs(60)
    assert Counter(_epoch(evaluation_batches([_store(pairs)], _config("buckets")))) == Counter(pairs)


# --- statistics and errors ---


@pytest.mark.parametrize("batching", BATCHINGS)
def test_statistics_are_what_counting_gives(batching):
    batches = _training(_pairs(300), batching)
    counted = Counter(batches=len(batches))
    for i in range(len(batches)):
        batch = batches.batch(i)
        for side in ("source", "target"):
            counted[side] += int((batch[f"{side}_segments"] > 0).sum())
            counted[side + " capacity"] += batch[f"{side}_segments"].size
    statistics = batches.statistics
    assert (statistics.examples, statistics.batches) == (300, counted["batches"])
    assert (statistics.source_tokens, statistics.source_capacity) == (counted["source"], counted["source capacity"])
    assert (statistics.target_tokens, statistics.target_capacity) == (counted["target"], counted["target capacity"])
    assert statistics.target_padding == 1 - counted["target"] / counted["target capacity"]
    assert f"300 pairs in {len(batches)} batches" in str(statistics)
    assert "\n" not in str(statistics)


def test_statistics_count_weights():
    pairs = _pairs(100)
    twice = training_batches([WeightedStore(_store(pairs), 2)], _config("buckets"), seed=0).statistics
    once = _training(pairs, "buckets").statistics
    assert (twice.examples, twice.target_tokens) == (200, 2 * once.target_tokens)


def test_empty_corpora_and_weights_of_nothing_are_refused():
    empty = TokenStore.from_lists([], [])
    for stores in ([], [empty], [_store(_pairs(3)), empty]):
        with pytest.raises(DataError, match="no examples"):
            evaluation_batches(stores, _config("packing"))
    with pytest.raises(DataError, match="weight of a corpus is 0"):
        WeightedStore(_store(_pairs(1)), 0)

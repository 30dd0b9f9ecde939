import functools
import math

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P
from prefix_model import (
    BOS,
    EOS,
    PAD,
    PlainModel,
    as_lists,
    assert_same,
    empty_cache,
    exhaustive_search,
    plain_beam_search,
    random_table,
    table_step,
)

from transformer.decoding.beam import beam_search
from transformer.decoding.ensemble import ensemble
from transformer.decoding.length_penalty import LengthPenalty

SENTENCES = [3, 14, 15, 92, 65, 35]


@functools.partial(
    jax.jit, static_argnames=("max_length", "beam_size", "num_hypotheses", "length_penalty", "bos", "eos", "pad")
)
def jitted_search(table, cache, limits, **settings):
    return beam_search(table_step(table), cache, max_lengths_B=limits, **settings)


def search(table, sentences, limits, *, max_length, beam_size, num_hypotheses, length_penalty=0.6, form="gnmt"):
    hypotheses = jitted_search(
        table,
        empty_cache(sentences, beam_size, max_length),
        jnp.asarray(limits, jnp.int32),
        max_length=max_length,
        beam_size=beam_size,
        num_hypotheses=num_hypotheses,
        length_penalty=LengthPenalty(length_penalty, form),
        bos=BOS,
        eos=EOS,
        pad=PAD,
    )
    assert hypotheses.tokens_BKT.shape == (len(sentences), num_hypotheses, max_length)
    assert hypotheses.tokens_BKT.dtype == hypotheses.lengths_BK.dtype == jnp.int32
    assert hypotheses.scores_BK.dtype == hypotheses.log_probabilities_BK.dtype == jnp.float32
    return as_lists(hypotheses)


def table_of(rows, otherwise):
    """A table giving these probabilities after some prefixes of sentence 0, and `otherwise` after all others."""
    table = np.tile(np.asarray(otherwise, np.float32), (997, 1))
    for prefix, probabilities in rows.items():
        value = 0
        for token in (BOS, *prefix):
            value = (value * 31 + token * 7 + 3) % 997
        table[value] = probabilities
    with np.errstate(divide="ignore"):
        return np.log(table)


# --- against exhaustive and plain searches ---


@pytest.mark.parametrize(("length_penalty", "form"), [(0.0, "gnmt"), (0.6, "gnmt"), (1.5, "gnmt"), (0.6, "power")])
def test_a_beam_as_wide_as_the_tree_finds_what_exhaustive_search_finds(length_penalty, form):
    limits = [4, 3, 2, 1]
    table = random_table(seed=1, vocab_size=4)
    results = search(
        table,
        SENTENCES[:4],
        limits,
        max_length=4,
        beam_size=81,
        num_hypotheses=6,
        length_penalty=length_penalty,
        form=form,
    )
    for sentence, limit, found in zip(SENTENCES, limits, results, strict=False):
        best = exhaustive_search(PlainModel(table, sentence, form), limit, length_penalty)[:6]
        assert_same(found[: len(best)], best)


@pytest.mark.parametrize(
    ("vocab_size", "beam_size", "num_hypotheses", "length_penalty", "form"),
    [
        (11, 1, 1, 0.6, "gnmt"),
        (11, 2, 1, 0.0, "gnmt"),
        (11, 4, 2, 1.0, "gnmt"),
        (3, 5, 5, 0.6, "gnmt"),
        (11, 4, 2, 1.0, "power"),
        (3, 5, 5, 0.6, "power"),
    ],
)
@pytest.mark.parametrize("eos_bonus", [0.0, -3.0])
def test_a_narrow_beam_is_that_of_plain_python(vocab_size, beam_size, num_hypotheses, length_penalty, form, eos_bonus):
    """The plain search never stops early, so stopping early loses nothing; each sentence has a limit of its own."""
    limits = [8, 1, 7, 3, 8, 5]
    for seed in range(3):
        table = random_table(seed, vocab_size)
        table[:, EOS] += eos_bonus
        results = search(
            table,
            SENTENCES,
            limits,
            max_length=8,
            beam_size=beam_size,
            num_hypotheses=num_hypotheses,
            length_penalty=length_penalty,
            form=form,
        )
        for sentence, limit, found in zip(SENTENCES, limits, results, strict=True):
            expected = plain_beam_search(PlainModel(table, sentence, form), limit, length_penalty, beam_size)
            assert_same(found, expected[:num_hypotheses])


@hypothesis.settings(max_examples=40, deadline=None, derandomize=True)
@hypothesis.given(
    seed=st.integers(0, 10_000),
    sentence=st.integers(0, 900),
    limit=st.integers(1, 8),
    spread=st.sampled_from([0.3, 1.0, 4.0]),
    eos_bonus=st.sampled_from([-40.0, -4.0, 0.0, 4.0]),
    forbidden=st.integers(0, 60),
)
def test_any_model_any_limit_with_forbidden_tokens(seed, sentence, limit, spread, eos_bonus, forbidden):
    table = random_table(seed, 7, spread)
    table[:, EOS] += eos_bonus
    # A share of all tokens, here and there every token of a prefix.
    table[np.random.default_rng(seed).integers(0, 100, size=table.shape) < forbidden] = -np.inf
    [found] = search(table, [sentence], [limit], max_length=8, beam_size=3, num_hypotheses=3)
    assert_same(found, plain_beam_search(PlainModel(table, sentence), limit, 0.6, beam_size=3)[:3])


def test_a_batch_of_one_is_the_batch_of_many():
    limits = [8, 2, 7, 3, 8, 5]
    table = random_table(7, 11)
    settings = {"max_length": 8, "beam_size": 4, "num_hypotheses": 2, "length_penalty": 1.0}
    together = search(table, SENTENCES, limits, **settings)
    for sentence, limit, found in zip(SENTENCES, limits, together, strict=True):
        [alone] = search(table, [sentence], [limit], **settings)
        assert_same(alone, found)


# --- by hand ---


@pytest.mark.parametrize(("loss", "found"), [(2.3, True), (2.5, False)])
def test_what_would_win_only_by_growing_far_is_given_up(loss, found):
    """One token is an output at once; another, which loses `loss` times as much, is certain to end after 11.

    At length 1 the search thinks of lengths up to 1.5 + 8, whose penalty is 14.5 / 6 = 2.42; that of 11 is 2.67, by
    which the longer one is the better both times.
    """
    path, end, on = (4, 4, 3, 4, 4, 4, 4, 4, 4, 3), math.exp(-0.5), math.exp(-0.5 * loss)
    rows = {path[:length]: np.eye(6)[path[length]] for length in range(1, len(path))} | {path: np.eye(6)[EOS]}
    table = table_of({(): [0, 0, end, 0, on, 1 - end - on]} | rows, otherwise=np.eye(6)[5])
    [[best]] = search(table, [0], [20], max_length=20, beam_size=2, num_hypotheses=1, length_penalty=1.0)
    assert best.tokens == ((*path, EOS) if found else (EOS,))


def test_the_first_to_finish_is_not_the_best():
    """0.4 at once, 0.6 * 0.9 = 0.54 a step later."""
    table = table_of({(): [0, 0, 0.4, 0.6]}, otherwise=[0, 0, 0.9, 0.1])
    [[best]] = search(table, [0], [5], max_length=5, beam_size=1, num_hypotheses=1, length_penalty=0.0)
    assert best.tokens == (3, EOS)
    assert best.log_probability == best.score == pytest.approx(math.log(0.54))


def test_the_penalty_counts_eos_and_can_turn_the_order():
    """log 0.4 at length 1 against log 0.36 at length 2: penalties 6/6 and 7/6 at alpha 1."""
    table = table_of({(): [0, 0, 0.4, 0.6]}, otherwise=[0, 0, 0.6, 0.4])
    settings = {"max_length": 2, "beam_size": 2, "num_hypotheses": 2}
    [[best, second]] = search(table, [0], [2], length_penalty=0.0, **settings)
    assert (best.tokens, second.tokens) == ((EOS,), (3, EOS))
    [[best, second]] = search(table, [0], [2], length_penalty=1.0, **settings)
    assert (best.tokens, second.tokens) == ((3, EOS), (EOS,))
    assert best.score == pytest.approx(math.log(0.36) / (7 / 6))
    assert second.score == pytest.approx(math.log(0.4))


def test_without_eos_the_limit_cuts_and_the_best_are_still_returned():
    table = random_table(3, 7)
    table[:, EOS] = -np.inf
    limits = [1, 4]
    results = search(table, SENTENCES[:2], limits, max_length=5, beam_size=3, num_hypotheses=3)
    for sentence, limit, found in zip(SENTENCES, limits, results, strict=False):
        assert [len(output.tokens) for output in found] == [limit] * 3
        assert all(EOS not in output.tokens for output in found)
        assert [output.score for output in found] == sorted((output.score for output in found), reverse=True)
        assert_same(found, plain_beam_search(PlainModel(table, sentence), limit, 0.6, beam_size=3))


def test_cut_hypotheses_follow_finished_ones_even_when_they_are_more_probable():
    table = table_of({(): [0, 0, 0.1, 0.9]}, otherwise=[0, 0, 0, 1])
    [[first, second]] = search(table, [0], [4], max_length=4, beam_size=2, num_hypotheses=2)
    assert (first.tokens, second.tokens) == ((EOS,), (3, 3, 3, 3))
    assert first.score < second.score


def test_places_without_a_hypothesis_are_empty():
    table = table_of({(): [0, 0, 1, 0]}, otherwise=[0, 0, 1, 0])
    [found] = search(table, [0], [4], max_length=4, beam_size=3, num_hypotheses=3)
    assert [(output.tokens, output.score) for output in found] == [((EOS,), 0.0)]


def test_a_prefix_after_which_every_token_is_forbidden_is_no_hypothesis():
    dead_end = {(): [0, 0.2, 0, 0.8], (3,): [0, 0, 0, 0]}
    settings = {"max_length": 4, "num_hypotheses": 1}
    [found] = search(table_of(dead_end, otherwise=[0, 0, 1, 0]), [0], [4], beam_size=2, **settings)
    assert [output.tokens for output in found] == [(1, EOS)]
    [found] = search(table_of(dead_end, otherwise=[1, 0, 0, 0]), [0], [4], beam_size=1, **settings)
    assert found == []


def test_equal_probabilities_go_by_the_lower_token():
    table = np.zeros((997, 5), np.float32)
    [found] = search(table, [0], [1], max_length=1, beam_size=5, num_hypotheses=5)
    assert [output.tokens for output in found] == [(EOS,), (0,), (1,), (3,), (4,)]


def test_of_equal_scores_the_one_that_finished_first_goes_first():
    table = table_of({(): [0, 0, 0.5, 0.5]}, otherwise=[0, 0, 1, 0])
    [found] = search(table, [0], [2], max_length=2, beam_size=2, num_hypotheses=2, length_penalty=0.0)
    assert [output.tokens for output in found] == [(EOS,), (3, EOS)]
    assert found[0].score == found[1].score


def test_limits_of_zero_give_nothing_and_limits_beyond_the_arrays_are_theirs():
    table = random_table(3, 7)
    table[:, EOS] = -np.inf
    padding, negative, long = search(table, [1, 2, 3], [0, -4, 99], max_length=4, beam_size=2, num_hypotheses=2)
    assert padding == negative == []
    assert_same(long, plain_beam_search(PlainModel(table, 3), 4, 0.6, beam_size=2))


def steps_taken(table, all_limits, length_penalty, **settings):
    """How often the step function is run, for each batch of limits."""
    step, positions = table_step(table), []
    settings["length_penalty"] = LengthPenalty(length_penalty)

    def counted(tokens_BK, position, slots_BKT, cache):
        jax.debug.callback(positions.append, position)
        return step(tokens_BK, position, slots_BKT, cache)

    @jax.jit
    def run(cache, limits):
        return beam_search(counted, cache, max_lengths_B=limits, bos=BOS, eos=EOS, pad=PAD, **settings)

    counts = []
    for limits in all_limits:
        positions.clear()
        run(empty_cache([0] * len(limits), settings["beam_size"], settings["max_length"]), jnp.asarray(limits))
        jax.effects_barrier()
        counts.append(len(positions))
    return counts


def test_the_search_ends_as_soon_as_nothing_can_improve_and_not_before():
    """0.6 at once. What is left, 0.4, may still become log 0.4 / penalty(limit): too little up to the limit L where
    ((5 + L) / 6)^alpha = log 0.4 / log 0.6 = 1.79, which is L = 5.8 at alpha 1."""
    table = table_of({(): [0, 0, 0.6, 0.4]}, otherwise=[0, 0, 0, 1])
    one = {"max_length": 6, "beam_size": 1, "num_hypotheses": 1}
    assert steps_taken(table, [[3, 5], [3, 6]], length_penalty=1.0, **one) == [1, 6]
    assert steps_taken(table, [[3, 6]], length_penalty=0.0, **one) == [1]
    # A second hypothesis was asked for, so it is waited for.
    two = {"max_length": 6, "beam_size": 2, "num_hypotheses": 2}
    assert steps_taken(table, [[3, 6]], length_penalty=0.0, **two) == [6]


def test_a_model_that_is_not_a_number_shows_in_the_scores():
    table = np.full((997, 7), np.nan, np.float32)
    [found] = search(table, [0], [8], max_length=8, beam_size=3, num_hypotheses=3)
    assert len(found) == 3
    assert all(math.isnan(output.score) for output in found)


@pytest.mark.parametrize(("field", "value"), [("beam_size", 0), ("num_hypotheses", 3), ("max_length", 0)])
def test_impossible_settings_are_named(field, value):
    settings = {"max_length": 4, "beam_size": 2, "num_hypotheses": 2, field: value}
    with pytest.raises(ValueError, match=f"{field} = {value}"):
        beam_search(
            table_step(random_table(0, 5)),
            empty_cache([0], 2, 4),
            max_lengths_B=jnp.array([4]),
            length_penalty=LengthPenalty(0.6),
            bos=BOS,
            eos=EOS,
            pad=PAD,
            **settings,
        )


# --- on a mesh ---


def test_split_over_a_mesh_the_search_finds_the_same_and_stays_split():
    """Sentences over 4 devices, the vocabulary over 2, two models averaged."""
    assert jax.device_count() == 8
    sentences, limits = [3, 14, 15, 92, 65, 35, 89, 79], [8, 1, 7, 3, 8, 5, 0, 6]
    tables = [random_table(seed, 48) for seed in (1, 2)]
    settings = {"max_length": 8, "beam_size": 3, "num_hypotheses": 2, "length_penalty": LengthPenalty(0.6)}
    settings |= {"bos": BOS, "eos": EOS, "pad": PAD}
    batch = ("data", "fsdp")

    def split_step(table):
        def step(tokens_BK, position, slots_BKT, cache):
            assert jax.typeof(tokens_BK).sharding.spec[0] == batch
            assert jax.typeof(slots_BKT).sharding.spec[0] == batch
            logits_BKV, cache = table_step_on_mesh(tokens_BK, position, slots_BKT, cache)
            return jax.sharding.reshard(logits_BKV, P(batch, None, "tensor")), cache

        def table_step_on_mesh(tokens_BK, position, slots_BKT, cache):
            inner = table_step(table)
            split = jax.shard_map(
                inner,
                in_specs=(P(batch), P(), P(batch), P(batch)),
                out_specs=(P(batch), P(batch)),
            )
            return split(tokens_BK, position, slots_BKT, cache)

        return step

    def run(make_step, caches, limits):
        steps = ensemble([make_step(table) for table in tables])
        return jax.jit(lambda caches, limits: beam_search(steps, caches, max_lengths_B=limits, **settings))(
            caches, limits
        )

    caches = (empty_cache(sentences, 3, 8),) * 2
    whole = run(table_step, caches, jnp.asarray(limits, jnp.int32))
    with jax.set_mesh(jax.make_mesh((2, 2, 2), ("data", "fsdp", "tensor"))):
        split = run(
            split_step,
            jax.device_put(caches, P(batch)),
            jax.device_put(jnp.asarray(limits, jnp.int32), P(batch)),
        )
        assert all(jax.typeof(leaf).sharding.spec[0] == batch for leaf in jax.tree.leaves(split))
    for found, expected in zip(as_lists(split), as_lists(whole), strict=True):
        assert_same(found, expected)


def test_one_sentence_and_one_hypothesis_on_a_mesh():
    """The shape of a single line given to `translate`: every batch axis is 1 and yet split."""
    mesh = jax.make_mesh((1, 1, 1), ("data", "fsdp", "tensor"), devices=jax.devices()[:1])
    table_VV = jax.random.normal(jax.random.key(0), (64, 64))

    def step(tokens_BK, position, slots_BKT, cache):
        return table_VV.at[tokens_BK].get(out_sharding=jax.typeof(tokens_BK).sharding.spec), cache

    arguments = {
        "max_length": 6,
        "beam_size": 4,
        "num_hypotheses": 1,
        "length_penalty": LengthPenalty(0.6),
        "bos": 1,
        "eos": 2,
        "pad": 0,
    }
    alone = beam_search(lambda *given: (table_VV[given[0]], given[3]), (), max_lengths_B=jnp.array([6]), **arguments)
    with jax.set_mesh(mesh):
        limits_B = jax.device_put(jnp.array([6]), jax.P(("data", "fsdp")))
        found = jax.jit(lambda limits_B: beam_search(step, (), max_lengths_B=limits_B, **arguments))(limits_B)
    assert found.tokens_BKT.shape == (1, 1, 6)
    assert (found.tokens_BKT == alone.tokens_BKT).all()

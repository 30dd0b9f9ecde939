import functools

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
    plain_greedy,
    random_table,
    table_step,
)

from transformer.decoding.beam import beam_search
from transformer.decoding.greedy import greedy
from transformer.decoding.length_penalty import LengthPenalty

SENTENCES = [3, 14, 15, 92, 65, 35, 89, 79]
LIMITS = [8, 1, 7, 3, 8, 5, 0, 99]
IDS = {"max_length": 8, "bos": BOS, "eos": EOS, "pad": PAD}


@functools.partial(jax.jit, static_argnames="length_penalty")
def jitted_greedy(table, cache, limits, length_penalty):
    return greedy(table_step(table), cache, max_lengths_B=limits, length_penalty=length_penalty, **IDS)


@functools.partial(jax.jit, static_argnames="length_penalty")
def beam_of_one(table, cache, limits, length_penalty):
    sizes = {"beam_size": 1, "num_hypotheses": 1}
    return beam_search(table_step(table), cache, max_lengths_B=limits, length_penalty=length_penalty, **sizes, **IDS)


def run(method, table, sentences=SENTENCES, limits=LIMITS, length_penalty=0.6, form="gnmt"):
    penalty = LengthPenalty(length_penalty, form)
    hypotheses = method(table, empty_cache(sentences, 1, 8), jnp.asarray(limits, jnp.int32), penalty)
    assert hypotheses.tokens_BKT.shape == (len(sentences), 1, 8)
    return as_lists(hypotheses)


@pytest.mark.parametrize(("eos_bonus", "form"), [(0.0, "gnmt"), (2.0, "gnmt"), (-np.inf, "gnmt"), (2.0, "power")])
def test_greedy_is_the_argmax_path_to_eos_or_the_limit(eos_bonus, form):
    for seed in range(5):
        table = random_table(seed, 11)
        table[:, EOS] += eos_bonus
        results = run(jitted_greedy, table, form=form)
        for sentence, limit, found in zip(SENTENCES, LIMITS, results, strict=True):
            expected = [plain_greedy(PlainModel(table, sentence, form), min(limit, 8), 0.6)] if limit else []
            assert_same(found, expected)


def test_a_beam_of_one_is_greedy_where_ending_is_out_of_the_question_or_certain():
    """Elsewhere it may also end at an EOS that is only the second choice."""
    table = random_table(4, 11)
    certain = np.random.default_rng(4).random(len(table)) < 0.2
    table[:, EOS] = np.where(certain, 40.0, -40.0)
    paths = run(jitted_greedy, table)
    assert any(path and path[0].tokens[-1] == EOS for path in paths)
    for path, best in zip(paths, run(beam_of_one, table), strict=True):
        assert_same(path, best)


@pytest.mark.parametrize("length_penalty", [0.0, 0.6])
def test_a_beam_of_one_never_scores_below_a_greedy_output_that_ends(length_penalty):
    ended = 0
    for seed in range(5):
        table = random_table(seed, 11)
        table[:, EOS] += 2.0
        paths = run(jitted_greedy, table, length_penalty=length_penalty)
        beams = run(beam_of_one, table, length_penalty=length_penalty)
        for path, best in zip(paths, beams, strict=True):
            if path and path[0].tokens[-1] == EOS:
                ended += 1
                assert best[0].score >= path[0].score - 1e-6
    assert ended > 10


def test_where_every_token_is_forbidden_there_is_no_hypothesis():
    table = np.full((997, 11), -np.inf, np.float32)
    assert run(jitted_greedy, table) == [[]] * len(SENTENCES)


def test_split_over_a_mesh_greedy_finds_the_same_and_stays_split():
    assert jax.device_count() == 8
    table = random_table(5, 48)
    batch = ("data", "fsdp")

    def split_step(tokens_BK, position, slots_BKT, cache):
        inner = jax.shard_map(
            table_step(table), in_specs=(P(batch), P(), P(batch), P(batch)), out_specs=(P(batch), P(batch))
        )
        logits_BKV, cache = inner(tokens_BK, position, slots_BKT, cache)
        return jax.sharding.reshard(logits_BKV, P(batch, None, "tensor")), cache

    with jax.set_mesh(jax.make_mesh((2, 2, 2), ("data", "fsdp", "tensor"))):
        cache = jax.device_put(empty_cache(SENTENCES, 1, 8), P(batch))
        limits = jax.device_put(jnp.asarray(LIMITS, jnp.int32), P(batch))
        search = jax.jit(
            lambda cache, limits: greedy(
                split_step, cache, max_lengths_B=limits, length_penalty=LengthPenalty(0.6), **IDS
            )
        )
        split = search(cache, limits)
        assert all(jax.typeof(leaf).sharding.spec[0] == batch for leaf in jax.tree.leaves(split))
    for found, expected in zip(as_lists(split), run(jitted_greedy, table), strict=True):
        assert_same(found, expected)

"""A search in stages, with sentences leaving the batch, finds what one plain loop over all of them finds."""

import functools
import os
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_model import VOCABULARY, blueprint_of, random_params, tiny

from transformer.config import DecodingConfig, MeshConfig
from transformer.data.tokenizer import BOS, EOS, PAD
from transformer.decoding.beam import beam_search
from transformer.decoding.ensemble import ensemble
from transformer.decoding.greedy import greedy
from transformer.decoding.length_penalty import LengthPenalty
from transformer.evaluation import search as module
from transformer.evaluation.search import Search
from transformer.evaluation.search_programs import LATE
from transformer.model.masks import Places
from transformer.sharding import make_mesh
from transformer.training.compilations import Compilations

EXTRA = 14


@pytest.fixture(scope="module")
def mesh():
    return make_mesh(MeshConfig(), jax.devices()[:1])


def sentences() -> list[list[int]]:
    """Of 1 to 12 tokens: their limits are apart, so they end apart."""
    rng = np.random.default_rng(3)
    return [rng.integers(3, VOCABULARY, length).tolist() for length in (12, 1, 7, 3, 10, 2, 5, 12, 1, 4)]


LONGEST = max(len(source) for source in sentences())


def plain(blueprints, params, sources, beam_size, count):
    """Each sentence alone, in one loop, by the search that tests/decoding compares with brute force."""

    @jax.jit
    def search(tokens, segments, limit):
        places = Places(jnp.arange(tokens.shape[1], dtype=jnp.int32)[None], segments)
        steps, caches = [], []
        for blueprint, member in zip(blueprints, params, strict=True):
            model = blueprint.bind(member)
            step, cache = model.start_decoding(model.encode(tokens, places), beam_size, LONGEST + EXTRA)
            steps.append(step)
            caches.append(cache)
        run = functools.partial(
            greedy if beam_size == 1 else beam_search,
            ensemble(steps) if len(steps) > 1 else steps[0],
            tuple(caches) if len(steps) > 1 else caches[0],
            max_lengths_B=limit[None],
            max_length=LONGEST + EXTRA,
            length_penalty=LengthPenalty(0.6),
            bos=BOS,
            eos=EOS,
            pad=PAD,
        )
        return run() if beam_size == 1 else run(beam_size=beam_size, num_hypotheses=count)

    def outputs(source):
        # All as long as the longest, so that they are one program.
        ends = np.arange(LONGEST + 1) <= len(source)
        tokens = np.pad([*source, EOS], (0, LONGEST - len(source)))
        found = search(tokens[None].astype(np.int32), ends[None].astype(np.int32), jnp.int32(len(source) + EXTRA))
        rows = zip(found.tokens_BKT[0].tolist(), found.lengths_BK[0].tolist(), strict=True)
        kept = (row[:length] for row, length in rows)
        return [row[:-1] if row[-1:] == [EOS] else row for row in kept]

    return [outputs(source) for source in sources]


@pytest.mark.parametrize(("beam_size", "count", "members"), [(1, 1, 1), (3, 2, 1), (2, 1, 2)])
def test_stages_and_leaving_change_nothing(beam_size, count, members, mesh, monkeypatch):
    monkeypatch.setattr(module, "FEW_ROWS", (1, 4))
    monkeypatch.setattr(module, "LAST_ROWS", 2)
    monkeypatch.setattr(module, "ROOMS", (4, 6))
    monkeypatch.setattr(module, "READ", (16,))
    blueprint = blueprint_of(tiny())
    params = [jax.tree.map(jnp.asarray, random_params(blueprint, seed)) for seed in range(members)]
    blueprints = [blueprint] * members
    search = Search(blueprints, mesh)
    programs = search._programs
    grown, narrowed = [], []
    grow, narrow = programs.grow, programs.narrow
    programs.grow = lambda state, **static: grown.append(static["tokens"]) or grow(state, **static)
    programs.narrow = lambda state, rows: narrowed.append(len(rows)) or narrow(state, rows)
    settings = DecodingConfig(beam_size=beam_size, extra_length=EXTRA, batch_size=10)
    with jax.set_mesh(mesh):
        placed = [jax.device_put(member, blueprint.shardings(mesh)) for member in params]
    found = search(search.prepare(placed), sentences(), settings, num_hypotheses=count)

    ours = [[output.tokens for output in outputs] for outputs in found]
    assert ours == plain(blueprints, params, sentences(), beam_size, count)
    assert len(grown) >= 2
    assert len(narrowed) >= 1
    assert len({len(outputs[0]) for outputs in ours}) > 3, "sentences should end apart"


@pytest.mark.parametrize("beam_size", [1, 3])
def test_scores_have_the_penalty_that_is_asked_for(beam_size, mesh):
    blueprint = blueprint_of(tiny())
    search = Search([blueprint], mesh)
    with jax.set_mesh(mesh):
        weights = search.prepare([jax.device_put(random_params(blueprint), blueprint.shardings(mesh))])
    settings = DecodingConfig(
        beam_size=beam_size, extra_length=EXTRA, batch_size=10, length_penalty=0.7, length_penalty_form="power"
    )
    for [output] in search(weights, sentences(), settings):
        # With the end, which counts, unless the limit came first.
        divisors = [max(len(output.tokens) + end, 1) ** 0.7 for end in (1, 0)]
        assert min(abs(output.log_probability / divisor - output.score) for divisor in divisors) < 1e-4


def test_nothing_is_found_for_rows_that_only_fill_up(mesh):
    blueprint = blueprint_of(tiny())
    params = jax.tree.map(jnp.asarray, random_params(blueprint))
    search = Search([blueprint], mesh)
    with jax.set_mesh(mesh):
        placed = jax.device_put(params, blueprint.shardings(mesh))
    seen, done = [], []
    start = search._programs.start

    def watched(*arguments, **static):
        state = start(*arguments, **static)
        done.append(np.asarray(state.done_B).tolist())
        return state

    search._programs.start = watched
    settings = DecodingConfig(beam_size=2, extra_length=3, batch_size=8)
    found = search(search.prepare([placed]), [[5, 9, 7], [20, 21]], settings, progress=seen.append)
    assert [len(outputs) for outputs in found] == [1, 1]
    assert seen == [2]
    assert done == [[False] * 2 + [True] * 6], "nobody should wait for rows that only fill up"


def test_groups_searched_together_are_those_searched_alone(mesh, monkeypatch):
    """Several at a time, on a CPU of two cores; `progress` hears of all; who leaves off does not wait for the rest."""
    blueprint = blueprint_of(tiny())
    search = Search([blueprint], mesh)
    with jax.set_mesh(mesh):
        weights = search.prepare([jax.device_put(random_params(blueprint), blueprint.shardings(mesh))])
    settings = DecodingConfig(beam_size=2, extra_length=EXTRA, batch_size=3)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    seen, threads = [], set()
    one = search._search
    search._search = lambda *given: threads.add(threading.current_thread()) or one(*given)
    together = search(weights, sentences(), settings, progress=seen.append)
    assert sum(seen) == len(sentences()) and len(seen) > 2
    assert threading.current_thread() not in threads and len(threads) == module.AT_A_TIME
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    assert search(weights, sentences(), settings) == together
    assert threading.current_thread() in threads

    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    stages = []
    advance = search._programs.advance
    search._programs.advance = lambda *given, **static: stages.append(1) or advance(*given, **static)

    def leave(done):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(weights, sentences() * 100, settings, progress=leave)
    assert len(stages) < 100


def test_rooms_grow_by_no_more_than_three_times():
    assert module._rooms(5) == [5]
    assert module._rooms(96) == [16, 32, 96]
    assert module._rooms(1000) == [16, 32, 96, 192, 384, 768, 1000]


def test_programs_that_come_late_have_the_names_that_jax_tells(mesh, monkeypatch):
    monkeypatch.setattr(module, "ROOMS", (2,))
    monkeypatch.setattr(module, "LAST_ROWS", 2)
    blueprint = blueprint_of(tiny())
    search = Search([blueprint], mesh)
    with jax.set_mesh(mesh):
        weights = search.prepare([jax.device_put(random_params(blueprint), blueprint.shardings(mesh))])
    with Compilations(warn=print) as compilations:
        search(weights, sentences(), DecodingConfig(beam_size=1, extra_length=EXTRA, batch_size=10))
    assert set(LATE) <= set(compilations._names)

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from prefix_model import (
    BOS,
    EOS,
    PAD,
    PlainModel,
    as_lists,
    assert_same,
    empty_cache,
    plain_beam_search,
    random_table,
    table_step,
)

from transformer.decoding.beam import beam_search
from transformer.decoding.ensemble import ensemble
from transformer.decoding.length_penalty import LengthPenalty

TABLES = [random_table(seed, 9) for seed in range(3)]


class PlainMean(PlainModel):
    """The mean of several models' probabilities."""

    def __init__(self, tables, sentence):
        super().__init__(tables[0], sentence)
        self.models = [PlainModel(table, sentence) for table in tables]

    def next_log_probabilities(self, prefix):
        with np.errstate(divide="ignore"):
            return np.log(np.mean([np.exp(model.next_log_probabilities(prefix)) for model in self.models], axis=0))


def test_an_ensemble_searches_the_mean_of_the_probabilities():
    tables = [table.copy() for table in TABLES]
    # Forbidden by all: stays so. Forbidden by one: the others still have their say.
    for table in tables:
        table[:, 5] = -np.inf
    tables[0][:, 6] = -np.inf
    sentences, limits = [3, 14], [6, 4]
    steps = ensemble([table_step(table) for table in tables])
    caches = tuple(empty_cache(sentences, 3, 6) for _ in tables)

    @jax.jit
    def search(caches):
        return beam_search(
            steps,
            caches,
            max_lengths_B=jnp.asarray(limits, jnp.int32),
            max_length=6,
            beam_size=3,
            num_hypotheses=3,
            length_penalty=LengthPenalty(0.6),
            bos=BOS,
            eos=EOS,
            pad=PAD,
        )

    for sentence, limit, found in zip(sentences, limits, as_lists(search(caches)), strict=True):
        assert_same(found, plain_beam_search(PlainMean(tables, sentence), limit, 0.6, beam_size=3)[:3])


def test_every_member_keeps_its_own_cache():
    steps = ensemble([table_step(table) for table in TABLES[:2]])
    caches = (empty_cache([1], 2, 4), empty_cache([2], 2, 4))
    tokens_BK, slots_BKT = jnp.full((1, 2), BOS), jnp.broadcast_to(jnp.arange(2)[:, None], (1, 2, 4))
    _, (first, second) = jax.jit(steps)(tokens_BK, jnp.int32(0), slots_BKT, caches)
    assert (first["sentences_B"], second["sentences_B"]) == (1, 2)
    np.testing.assert_array_equal(second["columns_BKT"][0, :, 0], [BOS, BOS])


def test_very_small_probabilities_do_not_underflow():
    """exp(-200) is 0 in float32; its logarithm is not lost."""

    def step(tokens_BK, position, slots_BKT, cache):
        return jnp.array([[[0.0, -200.0]]]), cache

    logits_BKV, _ = ensemble([step, step])(None, None, None, ((), ()))
    np.testing.assert_allclose(logits_BKV, [[[0.0, -200.0]]])


def test_no_members_no_ensemble():
    with pytest.raises(ValueError, match="at least one"):
        ensemble([])

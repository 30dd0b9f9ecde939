"""Our model is the paper's: logits, loss, gradients and greedy decoding of a reference that knows only the paper."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import paper_reference
import pytest
from tiny_model import (
    VOCABULARY,
    assert_close,
    batch_of,
    blueprint_of,
    examples_of,
    from_reference,
    relative,
    tiny,
)

from transformer.decoding.greedy import greedy
from transformer.decoding.length_penalty import LengthPenalty
from transformer.model.masks import Places
from transformer.training.loss import smoothed_cross_entropy

PAD, BOS, END = 0, 1, 2  # END ends the sources; see below for what ends the outputs
SIZES = {"d_model": 16, "d_ff": 24, "heads": 2, "d_k": 3, "d_v": 5}
MAX_LENGTH = 12


@dataclasses.dataclass(frozen=True)
class Both:
    """The reference's parameters, float64 of float32 values, and ours, the same values."""

    theirs: dict
    ours: dict
    blueprint: object
    pre_norm: bool


@pytest.fixture(scope="module", params=["post", "pre"])
def both(request):
    pre_norm = request.param == "pre"
    rng = np.random.default_rng(0)
    float32 = paper_reference.init(rng, vocabulary=VOCABULARY, layers=2, pre_norm=pre_norm, dtype=np.float32, **SIZES)
    blueprint = blueprint_of(tiny(norm=request.param, d_k=SIZES["d_k"], d_v=SIZES["d_v"]))
    ours = from_reference(float32)
    assert jax.tree.map(jnp.shape, ours) == jax.tree.map(lambda leaf: leaf.shape, blueprint.shapes())
    theirs = jax.tree.map(lambda leaf: leaf.astype(np.float64), float32)
    return Both(theirs, ours, blueprint, pre_norm)


def test_logits_loss_and_every_gradient_to_1e_5(both):
    one, two, three = examples_of((3, 4), (5, 2), (4, 5))
    batch = batch_of([[one, two], [three]], source_length=9, target_length=8)
    expected = paper_reference.loss_and_gradients(both.theirs, batch, pre_norm=both.pre_norm)
    real_BT = batch["target_segments"] > 0

    def loss(params):
        model = both.blueprint.bind(params)
        hidden_BTD, table_VD = model(batch), model.output_table()
        sums = smoothed_cross_entropy(
            hidden_BTD, table_VD, batch["targets"], real_BT, smoothing=0.1, dtype="float32", chunk_mb=1
        )
        return sums.loss / sums.tokens, (sums, jnp.einsum("BTD,VD->BTV", hidden_BTD, table_VD))

    (mean, (sums, logits_BTV)), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(both.ours)
    assert relative(logits_BTV[real_BT], expected.logits[real_BT]) < 1e-5
    assert float(mean) == pytest.approx(expected.loss, rel=1e-5)
    assert float(sums.loss) == pytest.approx(expected.loss_sum, rel=1e-5)
    assert int(sums.tokens) == expected.token_count == 11
    hits = expected.logits.argmax(-1) == batch["targets"]
    assert int(sums.correct) == hits[real_BT].sum()
    assert_close(gradients, from_reference(expected.gradients), 1e-5)


def test_greedy_decoding_says_what_the_reference_says(both):
    rng = np.random.default_rng(1)
    sources = [[*rng.integers(3, VOCABULARY, size), END] for size in (2, 5, 3, 6)]
    tokens = np.zeros((4, 7), np.int32)
    segments = np.zeros((4, 7), np.int32)
    for row, source in enumerate(sources):
        tokens[row, : len(source)] = source
        segments[row, : len(source)] = 1
    positions = np.broadcast_to(np.arange(7, dtype=np.int32), (4, 7))

    def reference(source, eos):
        return paper_reference.greedy(both.theirs, source, MAX_LENGTH, bos=BOS, eos=eos, pre_norm=both.pre_norm)

    # Random weights hardly ever say a given token: what the first sentence says soon is taken for the end.
    eos = reference(sources[0], eos=-1)[3]

    @jax.jit
    def decoded(params):
        model = both.blueprint.bind(params)
        step, cache = model.start_decoding(model.encode(tokens, Places(positions, segments)), 1, MAX_LENGTH)
        limits_B = jnp.full(4, MAX_LENGTH, jnp.int32)
        return greedy(
            step,
            cache,
            max_lengths_B=limits_B,
            max_length=MAX_LENGTH,
            length_penalty=LengthPenalty(0.6),
            bos=BOS,
            eos=eos,
            pad=PAD,
        )

    found = decoded(both.ours)
    expected = [reference(source, eos) for source in sources]
    assert expected[0][-1] == eos
    for row, tokens in enumerate(expected):
        assert found.lengths_BK[row, 0] == len(tokens)
        assert found.tokens_BKT[row, 0, : len(tokens)].tolist() == tokens

"""A small "model" for tests of searches, and slow searches over it written in plain Python.

Its next-token logits depend on the whole prefix: they are the row of a random table that a hash of the sentence and of
the prefix picks. As a step function it keeps, like a real decoder, only what each beam slot wrote at each position, and
finds the prefixes through the ancestry table, so a wrong table gives wrong scores.
"""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np

PAD, BOS, EOS = 0, 1, 2
TABLE_ROWS = 997


def random_table(seed, vocab_size, spread=2.0):
    return np.random.default_rng(seed).normal(scale=spread, size=(TABLE_ROWS, vocab_size)).astype(np.float32)


def empty_cache(sentences, slots, max_length):
    """Columns nobody wrote hold -7, which no correct prefix contains."""
    return {
        "sentences_B": jnp.asarray(sentences, jnp.int32),
        "columns_BKT": jnp.full((len(sentences), slots, max_length), -7, jnp.int32),
    }


def table_step(table):
    """The step function over `table`; see `transformer.decoding.step`."""
    table = jnp.asarray(table)

    def step(tokens_BK, position, slots_BKT, cache):
        max_length = slots_BKT.shape[-1]
        here_T = jnp.arange(max_length) == position
        columns_BKT = jnp.where(here_T, tokens_BK[:, :, None], cache["columns_BKT"])
        hashes_BK = jnp.broadcast_to(cache["sentences_B"][:, None], tokens_BK.shape)
        for t in range(max_length):
            past_BK = jnp.take_along_axis(columns_BKT[:, :, t], slots_BKT[:, :, t], axis=1)
            hashes_BK = jnp.where(t <= position, _mix(hashes_BK, past_BK), hashes_BK)
        return table[hashes_BK], {**cache, "columns_BKT": columns_BKT}

    return step


def _mix(hashes, tokens):
    return (hashes * 31 + tokens * 7 + 3) % TABLE_ROWS


@dataclasses.dataclass(frozen=True)
class Found:
    """One hypothesis of a plain search."""

    tokens: tuple[int, ...]
    log_probability: float
    score: float


class PlainModel:
    """The same model, one prefix at a time, in float64."""

    def __init__(self, table, sentence, penalty_form="gnmt"):
        self.table = table.astype(np.float64)
        self.sentence = sentence
        self.penalty_form = penalty_form

    def next_log_probabilities(self, prefix):
        value = self.sentence
        for token in (BOS, *prefix):
            value = _mix(value, token)
        logits = self.table[value]
        peak = logits.max()
        if np.isneginf(peak):
            return logits
        return logits - peak - np.log(np.exp(logits - peak).sum())

    def found(self, tokens, log_probability, alpha):
        base = {"gnmt": (5 + len(tokens)) / 6, "power": len(tokens)}[self.penalty_form]
        return Found(tuple(tokens), log_probability, log_probability / base**alpha)


def exhaustive_search(model, limit, alpha):
    """Every output of at most `limit` tokens that ends, best first."""
    vocab_size = model.table.shape[1]
    outputs = []
    others = [token for token in range(vocab_size) if token != EOS]
    for length in range(limit):
        for prefix in itertools.product(others, repeat=length):
            tokens = (*prefix, EOS)
            log_probability = sum(model.next_log_probabilities(tokens[:t])[tokens[t]] for t in range(len(tokens)))
            if log_probability > -np.inf:
                outputs.append(model.found(tokens, log_probability, alpha))
    return sorted(outputs, key=lambda output: -output.score)


def plain_beam_search(model, limit, alpha, beam_size):
    """Beam search with a list of prefixes, and no early stop: finished ones first, then what reached the limit."""
    live, finished = [((), 0.0)], []
    for _ in range(limit):
        extensions = []
        for prefix, log_probability in live:
            gains = model.next_log_probabilities(prefix)
            extensions += [((*prefix, token), log_probability + gain) for token, gain in enumerate(gains)]
        extensions = [extension for extension in extensions if extension[1] > -np.inf]
        extensions = sorted(extensions, key=lambda extension: -extension[1])[: 2 * beam_size]
        finished += [model.found(*extension, alpha) for extension in extensions if extension[0][-1] == EOS]
        live = [extension for extension in extensions if extension[0][-1] != EOS][:beam_size]
    unfinished = [model.found(*hypothesis, alpha) for hypothesis in live]
    return sorted(finished, key=lambda output: -output.score) + unfinished


def plain_greedy(model, limit, alpha):
    """The argmax path."""
    prefix, total = (), 0.0
    while len(prefix) < limit and prefix[-1:] != (EOS,):
        gains = model.next_log_probabilities(prefix)
        token = int(np.argmax(gains))
        prefix, total = (*prefix, token), total + gains[token]
    return model.found(prefix, total, alpha)


def as_lists(hypotheses):
    """`Hypotheses` as a list of `Found` for each sentence, after checking what every result has to satisfy."""
    hypotheses = jax.device_get(hypotheses)
    batch = []
    for tokens_KT, lengths_K, scores_K, log_probabilities_K in zip(
        hypotheses.tokens_BKT,
        hypotheses.lengths_BK,
        hypotheses.scores_BK,
        hypotheses.log_probabilities_BK,
        strict=True,
    ):
        found = []
        for tokens_T, length, score, log_probability in zip(
            tokens_KT, lengths_K, scores_K, log_probabilities_K, strict=True
        ):
            assert (tokens_T[length:] == PAD).all(), "something after the end"
            assert EOS not in tokens_T[: max(length - 1, 0)], "EOS before the end"
            assert (length == 0) == (score == -np.inf) == (log_probability == -np.inf)
            if length:
                found.append(Found(tuple(tokens_T[:length].tolist()), float(log_probability), float(score)))
            else:
                assert not lengths_K[len(found) :].any(), "an empty place before others"
        batch.append(found)
    return batch


def assert_same(found, expected):
    """The same hypotheses in the same order, probabilities to float32's precision."""
    assert [output.tokens for output in found] == [output.tokens for output in expected]
    for output, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(output.log_probability, other.log_probability, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(output.score, other.score, rtol=1e-5, atol=1e-5)

"""A text that grows: it ends where it should, and what was told of it stays."""

import itertools

import numpy as np
import pytest

from transformer.data.tokenizer import EOS
from transformer.data.vocabulary import SPECIAL_NAMES, Leading, TextStream
from transformer.evaluation.continuation import Continuation

# Pieces that overlap, and two halves of a character.
SURFACES = [b""] * len(SPECIAL_NAMES) + [b"a", b"b", b"ab", b"bca", b" ", *(b"\xc3", b"\xa4")]
STOPS = [(), ("ab",), ("abca", "b b"), ("ä", "aab"), ("ca a",), ("�b",)]


def stream() -> TextStream:
    return TextStream(SURFACES, Leading.KEPT)


def drawn(seed: int) -> list[int]:
    return np.random.default_rng(seed).integers(len(SPECIAL_NAMES), len(SURFACES), 20).tolist()


def expected(tokens: list[int], stops: tuple[str, ...]) -> str:
    """The shortest beginning that has a stop string, up to the first one; by decoding every beginning anew."""
    for size in range(len(tokens) + 1):
        text = stream().add(*tokens[:size])
        places = [text.find(stop) for stop in stops if stop in text]
        if places:
            return text[: min(places)]
    whole = stream()
    text = whole.add(*tokens) + whole.end()
    return text[: min((text.find(stop) for stop in stops if stop in text), default=len(text))]


@pytest.mark.parametrize("stops", STOPS, ids=str)
def test_a_stop_string_ends_a_text_wherever_tokens_begin(stops):
    reasons = set()
    for seed in range(50):
        text = Continuation([], 0, stops, stream())
        text.add(drawn(seed), [0.0] * 20)
        text.close()
        assert text.result().text == expected(drawn(seed), stops)
        reasons.add(text.result().reason)
    assert reasons == {"stop", "limit"} or not stops


@pytest.mark.parametrize("stops", STOPS, ids=str)
def test_what_was_taken_stays(stops):
    """However many tokens come at a time: the parts make the text, and none is a part of a character."""
    for seed, size in itertools.product(range(50), (1, 3)):
        text, parts = Continuation([], 0, stops, stream()), []
        for begin in range(0, 20, size):
            tokens = drawn(seed)[begin : begin + size]
            text.add(tokens, [0.0] * len(tokens))
            parts.append(text.take())
        text.close()
        parts.append(text.take())
        assert "".join(parts) == expected(drawn(seed), stops) == text.result().text


def test_nothing_follows_the_end():
    text = Continuation([4, 5], 0, ("zz",), stream())
    text.add([4, 6, EOS, 5], [-1.0, -2.0, -4.0, -8.0])
    text.add([4], [-16.0])
    text.close()
    found = text.result()
    assert (found.text, found.tokens, found.log_probability, found.reason) == ("aab", [4, 6], -7.0, "end")


def test_the_model_sees_prompt_and_text_or_the_last_of_it():
    text = Continuation([4, 5], 0, (), stream())
    text.add([6], [0.0])
    assert text.visible == [1, 4, 5, 6]
    text.forget(2)
    text.add([7], [0.0])
    assert text.visible == [5, 6, 7]
    assert text.seen == {1, 4, 5, 6, 7}

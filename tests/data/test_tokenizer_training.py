"""Training tokenizers: always the same model, on an even sample, with the largest vocabulary named."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentences import make_pairs

from transformer.config import ConfigError, TokenizerConfig
from transformer.data import tokenizer_training
from transformer.data.documents import Part
from transformer.data.errors import DataError
from transformer.data.tokenizer import UNK
from transformer.data.tokenizer_training import sample_evenly, train, train_on_documents

PAIRS = make_pairs(300)


def trained(pairs=PAIRS, **changes):
    config = TokenizerConfig(**{"vocab_size": 80, "character_coverage": 1.0} | changes)
    return train(lambda: iter(pairs), len(pairs), config)


@pytest.mark.parametrize("algorithm", ["bpe", "unigram"])
def test_same_text_gives_the_same_model(algorithm):
    assert trained(algorithm=algorithm).to_files() == trained(algorithm=algorithm).to_files()


def test_shared_model_knows_both_languages_and_separate_ones_their_own():
    shared, separate = trained(), trained(shared=False, vocab_size=60)
    assert shared.source.size == 80 and separate.source.size == separate.target.size == 60
    assert "ß" in set(separate.target.pieces(range(60)))
    assert "ß" not in set(separate.source.pieces(range(60)))
    assert "ß" in set(shared.source.pieces(range(80)))


@pytest.mark.parametrize(("count", "wanted"), [(10, 10), (10, 1), (10, 3), (1000, 333), (7, 6)])
def test_sample_is_even(count, wanted):
    sample = list(sample_evenly(range(count), count, wanted))
    assert len(sample) == wanted
    gaps = [later - earlier for earlier, later in zip(sample, sample[1:], strict=False)]
    assert not gaps or max(gaps) - min(gaps) <= 1


def test_only_the_sample_is_read_by_the_trainer():
    pairs = [(f"a{'x' * (index % 2)}", f"b{'y' * (index % 2)}") for index in range(100)]
    # Every second pair, from the second on: those with x and y.
    assert trained(pairs, sample_lines=50, vocab_size=10).source.encode(["x"])[0] != [3]
    halves = trained([pair for pair in pairs if "x" in pair[0]], vocab_size=10)
    assert trained(pairs, sample_lines=50, vocab_size=10).to_files() == halves.to_files()


@pytest.mark.parametrize("algorithm", ["bpe", "unigram"])
def test_vocabulary_too_large_names_the_largest(algorithm):
    with pytest.raises(ConfigError, match=r"config.tokenizer.vocab_size = 9000: .* only (\d+)") as caught:
        trained(algorithm=algorithm, vocab_size=9000)
    largest = int(caught.value.remedy.split()[3])
    assert trained(algorithm=algorithm, vocab_size=largest).source.size == largest


def test_vocabulary_too_small_names_the_smallest():
    with pytest.raises(ConfigError, match=r"config.tokenizer.vocab_size = 10: .* characters .* take (\d+) pieces"):
        trained(vocab_size=10)


def test_nothing_to_train_on():
    with pytest.raises(DataError, match="could not be trained"):
        trained([("", "")] * 3)


@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), DataError("line 7")])
def test_what_interrupts_the_text_comes_through(interruption):
    def broken():
        yield from PAIRS
        raise interruption

    with pytest.raises(type(interruption)):
        tokenizer_training.train(broken, 10**6, TokenizerConfig())


# --- characters and bytes, for translation ---


def test_characters_of_both_sides_or_of_each():
    shared, separate = trained(algorithm="characters"), trained(algorithm="characters", shared=False)
    assert set(shared.source.pieces()[4:]) == {character for pair in PAIRS for text in pair for character in text}
    assert "ß" in separate.target.pieces() and "ß" not in separate.source.pieces()
    texts = [target for _, target in PAIRS]
    assert separate.target.decode_lines(separate.target.encode(texts)) == texts
    # Also those that only the last of many lines holds.
    assert "z" in trained([*PAIRS, ("z", "z")], algorithm="characters", sample_lines=3).source.pieces()


def test_bytes_need_no_text():
    assert trained([], algorithm="bytes").source.size == 260
    assert trained([], algorithm="bytes", size_multiple_of=16).source.size == 272
    with pytest.raises(DataError, match="no text to take characters from"):
        trained([], algorithm="characters")


# --- language models ---

TEXT = "".join(f"{source}\n\t{target}\n\n" for source, target in PAIRS)


def of_documents(text=TEXT, **changes):
    config = TokenizerConfig(**{"vocab_size": 400, "character_coverage": 1.0, "byte_fallback": True} | changes)
    made = train_on_documents(lambda: iter([Part("", text)]), config)
    assert made.shared
    return made.target


KEEPING = {algorithm: of_documents(algorithm=algorithm) for algorithm in ("bpe", "unigram")}


@settings(deadline=None)
@given(st.text(st.characters(exclude_characters="\u2581", exclude_categories=["Cs"])))
@pytest.mark.parametrize("algorithm", KEEPING)
def test_text_comes_back_with_its_spaces_and_line_ends(algorithm, text):
    tokenizer = KEEPING[algorithm]
    ids = tokenizer.encode([text])[0]
    stream = tokenizer.stream()
    assert tokenizer.decode([ids]) == [text]
    assert "".join([*map(stream.add, ids), stream.end()]) == text
    assert UNK not in ids


@pytest.mark.parametrize("algorithm", KEEPING)
def test_pieces_do_not_cross_line_ends(algorithm):
    tokenizer = KEEPING[algorithm]
    newline = tokenizer.pieces().index("\n")
    assert not any("\n" in piece for piece in tokenizer.pieces() if piece != "\n")
    assert tokenizer.encode(["\n\n"]) == [[newline] * 2]
    lines = TEXT[:500].splitlines(keepends=True)
    assert sum(tokenizer.encode(lines), []) == tokenizer.encode(["".join(lines)])[0]


def test_the_one_character_that_is_not_kept():
    assert KEEPING["bpe"].decode(KEEPING["bpe"].encode(["a\u2581b"])) == ["a b"]


def test_long_lines_are_trained_on_too():
    tokenizer = of_documents("question " * 2000, vocab_size=278)
    assert "\u2581question" in tokenizer.pieces()


def test_prompts_are_trained_on_too():
    config = TokenizerConfig(algorithm="characters")
    assert train_on_documents(lambda: iter([Part("ab", "c")]), config).target.pieces()[4:] == ["a", "b", "c"]

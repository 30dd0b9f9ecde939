"""Training tokenizers: always the same model, on an even sample, with the largest vocabulary named."""

import pytest
from sentences import make_pairs

from transformer.config import ConfigError, TokenizerConfig
from transformer.data import tokenizer_training
from transformer.data.errors import DataError
from transformer.data.tokenizer_training import sample_evenly, train

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

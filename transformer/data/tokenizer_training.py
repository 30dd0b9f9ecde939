"""Tokenizers made from the training text."""

import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

import sentencepiece

from transformer.config import ConfigError, TokenizerConfig
from transformer.data.character_tokenizer import CharacterTokenizer, describe
from transformer.data.documents import Part
from transformer.data.errors import DataError
from transformer.data.sentencepiece_tokenizer import SentencePieceTokenizer
from transformer.data.tokenizer import BOS, EOS, PAD, UNK, Tokenizer, Tokenizers

# The unigram model's sums depend on how many threads share them, so their number must not follow the machine's.
_THREADS = 8
_ERRORS_ONLY = 2
# SentencePiece leaves out lines of more than 4192 bytes.
_LONGEST_LINE = 1000
# A piece never crosses a line end, and no space is added, lost or joined: what is decoded is the text.
_KEEPING_TEXT = {
    "normalization_rule_name": "identity",
    "remove_extra_whitespaces": False,
    "add_dummy_prefix": False,
    "user_defined_symbols": ["\n"],
    "allow_whitespace_only_pieces": True,
}

_Item = TypeVar("_Item")


def train(pairs: Callable[[], Iterator[tuple[str, str]]], count: int, config: TokenizerConfig) -> Tokenizers:
    """Makes one tokenizer of both sides, or one a side, as `config.shared` says. The same pairs give the same ones.

    Args:
      pairs: starts an iterator over all training pairs; called once a tokenizer.
      count: how many pairs that yields.

    Raises:
      ConfigError: when the text has too few or too many different characters or words for `config.vocab_size`.
      DataError: when there is nothing to train on.
    """

    def chosen() -> Iterator[tuple[str, str]]:
        wanted = min(config.sample_lines or count, count) if config.algorithm in ("bpe", "unigram") else count
        return sample_evenly(pairs(), count, wanted)

    if config.shared:
        tokenizer = _train_one((text for pair in chosen() for text in pair), config)
        return Tokenizers(tokenizer, tokenizer)
    source = _train_one((source for source, _ in chosen()), config)
    target = _train_one((target for _, target in chosen()), config)
    return Tokenizers(source, target)


def train_on_documents(parts: Callable[[], Iterator[Part]], config: TokenizerConfig) -> Tokenizers:
    """Makes the tokenizer of a language model, from which text comes back with all its spaces and line ends.

    Args:
      parts: starts an iterator over all training text.

    Raises:
      ConfigError, DataError: as `train`.
    """
    if config.algorithm in ("bpe", "unigram"):
        count = sum(1 for _ in _lines(parts()))
        wanted = min(config.sample_lines or count, count)
        tokenizer = _sentencepiece(sample_evenly(_lines(parts()), count, wanted), config, _KEEPING_TEXT)
    else:
        tokenizer = _train_one((text for part in parts() for text in (part.prompt, part.text)), config)
    return Tokenizers(tokenizer, tokenizer)


def _lines(parts: Iterable[Part]) -> Iterator[str]:
    """What stands between line ends, in pieces that SentencePiece takes."""
    for part in parts:
        for line in (part.prompt + part.text).split("\n"):
            for begin in range(0, len(line), _LONGEST_LINE):
                yield line[begin : begin + _LONGEST_LINE]


def sample_evenly(items: Iterable[_Item], count: int, wanted: int) -> Iterator[_Item]:
    """`wanted` of `count` items, at even distances."""
    return (item for i, item in enumerate(items) if (i + 1) * wanted // count > i * wanted // count)


def _train_one(texts: Iterator[str], config: TokenizerConfig) -> Tokenizer:
    match config.algorithm:
        case "bytes":
            return CharacterTokenizer(describe("", with_bytes=True, size_multiple_of=config.size_multiple_of))
        case "characters":
            return _of_characters(texts, config)
    return _sentencepiece(texts, config, {})


def _of_characters(texts: Iterator[str], config: TokenizerConfig) -> Tokenizer:
    characters: set[str] = set()
    for text in texts:
        characters.update(text)
    if not characters:
        raise DataError("there is no text to take characters from. Check that the training files were written.")
    return CharacterTokenizer(
        describe(characters, with_bytes=config.byte_fallback, size_multiple_of=config.size_multiple_of)
    )


def _sentencepiece(texts: Iterator[str], config: TokenizerConfig, settings: Mapping[str, object]) -> Tokenizer:
    model = io.BytesIO()
    reader = _Reader(texts)
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(reader),
            model_writer=model,
            model_type=config.algorithm,
            vocab_size=config.vocab_size,
            character_coverage=config.character_coverage,
            byte_fallback=config.byte_fallback,
            pad_id=PAD,
            bos_id=BOS,
            eos_id=EOS,
            unk_id=UNK,
            num_threads=_THREADS,
            minloglevel=_ERRORS_ONLY,
            **settings,
        )
    except RuntimeError as error:
        if reader.interruption:
            raise reader.interruption from None
        raise _explained(error, config) from error
    return SentencePieceTokenizer(model.getvalue())


class _Reader:
    """Passes texts on and keeps what interrupts them: SentencePiece turns every exception into a RuntimeError."""

    def __init__(self, texts: Iterator[str]):
        self._texts = texts
        self.interruption: BaseException | None = None

    def __iter__(self) -> Iterator[str]:
        try:
            yield from self._texts
        except BaseException as error:
            self.interruption = error
            raise


def _explained(error: RuntimeError, config: TokenizerConfig) -> Exception:
    """SentencePiece's failure in terms of the config."""
    message = str(error)
    if largest := re.search(r"set it to a value <= (\d+)", message):
        return ConfigError(
            "tokenizer.vocab_size",
            config.vocab_size,
            f"the training text has only {largest[1]} different pieces",
            f"Set it to {largest[1]} or less, or train on more text.",
        )
    if smallest := re.search(r"smaller than required_chars. \d+ vs (\d+)", message):
        return ConfigError(
            "tokenizer.vocab_size",
            config.vocab_size,
            f"the characters of the training text alone take {smallest[1]} pieces",
            f"Set it above {smallest[1]}, or lower tokenizer.character_coverage.",
        )
    return DataError(f"SentencePiece could not be trained on this text: {message}")

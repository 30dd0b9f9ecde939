"""SentencePiece models trained on the training text."""

import io
import re
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import sentencepiece

from transformer.config import ConfigError, TokenizerConfig
from transformer.data.errors import DataError
from transformer.data.tokenizer import BOS, EOS, PAD, UNK, Tokenizer, Tokenizers

# The unigram model's sums depend on how many threads share them, so their number must not follow the machine's.
_THREADS = 8
_ERRORS_ONLY = 2

_Item = TypeVar("_Item")


def train(pairs: Callable[[], Iterator[tuple[str, str]]], count: int, config: TokenizerConfig) -> Tokenizers:
    """Trains one model on both sides, or one a side, as `config.shared` says. The same pairs give the same models.

    Args:
      pairs: starts an iterator over all training pairs; called once a model.
      count: how many pairs that yields.

    Raises:
      ConfigError: when the text has too few or too many different characters or words for `config.vocab_size`.
      DataError: when there is nothing to train on.
    """
    wanted = min(config.sample_lines or count, count)
    if config.shared:
        tokenizer = _train_one((text for pair in sample_evenly(pairs(), count, wanted) for text in pair), config)
        return Tokenizers(tokenizer, tokenizer)
    source = _train_one((source for source, _ in sample_evenly(pairs(), count, wanted)), config)
    target = _train_one((target for _, target in sample_evenly(pairs(), count, wanted)), config)
    return Tokenizers(source, target)


def sample_evenly(items: Iterable[_Item], count: int, wanted: int) -> Iterator[_Item]:
    """`wanted` of `count` items, at even distances."""
    return (item for i, item in enumerate(items) if (i + 1) * wanted // count > i * wanted // count)


def _train_one(texts: Iterator[str], config: TokenizerConfig) -> Tokenizer:
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
        )
    except RuntimeError as error:
        if reader.interruption:
            raise reader.interruption from None
        raise _explained(error, config) from error
    return Tokenizer(model.getvalue())


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

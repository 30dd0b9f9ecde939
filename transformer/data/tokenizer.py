"""The tokenizers of a run: of both sides, in its files, and those that a config names."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from transformer.config import ConfigError, TokenizerConfig
from transformer.data.character_tokenizer import CharacterTokenizer
from transformer.data.errors import DataError
from transformer.data.sentencepiece_tokenizer import SentencePieceTokenizer
from transformer.data.vocabulary import BOS, EOS, PAD, UNK, TextStream, Tokenizer

__all__ = ["BOS", "EOS", "PAD", "UNK", "TextStream", "Tokenizer", "Tokenizers", "from_bytes", "read_given"]

_SOURCE, _TARGET = "source", "target"


def from_bytes(content: bytes) -> Tokenizer:
    """The tokenizer that a file's content describes.

    Raises:
      DataError: for content that is none, is damaged, or has other special ids.
    """
    # A SentencePiece model begins with the number of its first field.
    return CharacterTokenizer(content) if content.startswith(b"{") else SentencePieceTokenizer(content)


@dataclasses.dataclass(frozen=True)
class Tokenizers:
    """The tokenizers of both sides: one object twice when the vocabulary is shared."""

    source: Tokenizer
    target: Tokenizer

    @property
    def shared(self) -> bool:
        return self.source is self.target

    def to_files(self) -> dict[str, bytes]:
        """Name and content of the files: source.model (.json: characters and bytes), and target.model when the
        vocabularies are separate."""
        sides = {_SOURCE: self.source} if self.shared else {_SOURCE: self.source, _TARGET: self.target}
        return {f"{side}{tokenizer.suffix}": tokenizer.model_bytes for side, tokenizer in sides.items()}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> "Tokenizers":
        """What `to_files` gave."""
        sides = {Path(name).stem: from_bytes(content) for name, content in files.items()}
        return cls(sides[_SOURCE], sides.get(_TARGET, sides[_SOURCE]))


def read_given(config: TokenizerConfig) -> Tokenizers:
    """The tokenizers of the model files that the config names.

    Raises:
      ConfigError: for a file that is missing, damaged, or has other special ids.
    """
    source = _read_model("tokenizer.model", config.model)
    if config.target_model is None:
        return Tokenizers(source, source)
    return Tokenizers(source, _read_model("tokenizer.target_model", config.target_model))


def _read_model(field: str, name: str) -> Tokenizer:
    remedy = (
        "Name a model trained with --pad_id=0 --bos_id=1 --eos_id=2 --unk_id=3, or leave tokenizer.model unset to have "
        "one trained."
    )
    try:
        return from_bytes(Path(name).expanduser().read_bytes())
    except OSError as error:
        raise ConfigError(field, name, f"cannot be read ({error.strerror})", remedy) from error
    except DataError as error:
        raise ConfigError(field, name, str(error), remedy) from error

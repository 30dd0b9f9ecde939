"""Text to token ids and back, by SentencePiece.

Text is normalised on its way in (SentencePiece's `nmt_nfkc`): no-break and zero-width spaces become spaces, composed
letters one character, the ellipsis three dots, a half 1/2. German and typographic quotes, dashes and letters stay as
they are. Normalised characters cannot be produced, so a reference that holds them is never matched there.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import sentencepiece

from transformer.config import ConfigError, TokenizerConfig
from transformer.data.errors import DataError

PAD, BOS, EOS, UNK = 0, 1, 2, 3
"""The ids every tokenizer has."""

# As in line files, a sentence holds no line end; with byte_fallback a model can produce one.
_NO_LINE_ENDS = str.maketrans("\r\n", "  ")
_SOURCE_FILE, _TARGET_FILE = "source.model", "target.model"


class Tokenizer:
    """One vocabulary: a SentencePiece model held in memory. `encode` may be called from several threads.

    Raises:
      DataError: when the bytes are no SentencePiece model, or one with other special ids.
    """

    def __init__(self, model_bytes: bytes):
        self.model_bytes = model_bytes
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=model_bytes)
        except RuntimeError as error:
            raise DataError("is not a SentencePiece model, or a damaged one") from error
        if not len(self._processor):
            raise DataError("is not a SentencePiece model, or a damaged one")
        processor = self._processor
        ids = (processor.pad_id(), processor.bos_id(), processor.eos_id(), processor.unk_id())
        if ids != (PAD, BOS, EOS, UNK):
            raise DataError(f"has the ids pad {ids[0]}, bos {ids[1]}, eos {ids[2]}, unk {ids[3]} instead of 0, 1, 2, 3")

    @property
    def size(self) -> int:
        """Pieces in the vocabulary, special ones included."""
        return len(self._processor)

    @property
    def dtype(self) -> type:
        """The smallest type its ids are stored in."""
        return np.uint16 if self.size <= 2**16 else np.uint32

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Token ids of each text, without BOS and EOS."""
        return self._processor.encode(texts, num_threads=1)

    def decode(self, sentences: Sequence[Sequence[int]]) -> list[str]:
        """The text of each sentence, in one line, up to its first EOS; PAD and BOS are left out."""
        texts = self._processor.decode([_spoken(sentence) for sentence in sentences], num_threads=1)
        return [text.translate(_NO_LINE_ENDS) for text in texts]

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """The piece behind each id, as SentencePiece writes it (U+2581 begins a word)."""
        return [self._processor.id_to_piece(int(token)) for token in ids]


@dataclasses.dataclass(frozen=True)
class Tokenizers:
    """The tokenizers of both sides: one object twice when the vocabulary is shared."""

    source: Tokenizer
    target: Tokenizer

    @property
    def shared(self) -> bool:
        return self.source is self.target

    def to_files(self) -> dict[str, bytes]:
        """Name and content of the model files: source.model, and target.model when the vocabularies are separate."""
        files = {_SOURCE_FILE: self.source.model_bytes}
        return files if self.shared else files | {_TARGET_FILE: self.target.model_bytes}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> "Tokenizers":
        """What `to_files` gave."""
        source = Tokenizer(files[_SOURCE_FILE])
        return cls(source, Tokenizer(files[_TARGET_FILE]) if _TARGET_FILE in files else source)


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
        return Tokenizer(Path(name).expanduser().read_bytes())
    except OSError as error:
        raise ConfigError(field, name, f"cannot be read ({error.strerror})", remedy) from error
    except DataError as error:
        raise ConfigError(field, name, str(error), remedy) from error


def _spoken(sentence: Sequence[int]) -> list[int]:
    ids = np.asarray(sentence, np.int64)
    ends = np.flatnonzero(ids == EOS)
    ids = ids[: ends[0]] if len(ends) else ids
    return ids[(ids != PAD) & (ids != BOS)].tolist()

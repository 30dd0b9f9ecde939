"""What every tokenizer is: ids for text, and text for ids, at once or as the ids come."""

import abc
import codecs
import enum
from collections.abc import Iterable, Sequence

import numpy as np

from transformer.data.store import Ragged

PAD, BOS, EOS, UNK = 0, 1, 2, 3
"""The ids every tokenizer has."""

SPECIAL_NAMES = ("<pad>", "<s>", "</s>", "<unk>")

# As in line files, a sentence holds no line end.
_NO_LINE_ENDS = str.maketrans("\r\n", "  ")


class Leading(enum.Enum):
    """What becomes of spaces at the very beginning of a decoded text."""

    KEPT = enum.auto()
    FIRST_DROPPED = enum.auto()  # the one that encoding put there
    ALL_DROPPED = enum.auto()


class Tokenizer(abc.ABC):
    """One vocabulary, held in memory. `encode` may be called from several threads.

    Args:
      model_bytes: the content of the file it came from.
      names: of every piece, as people read it.
      surfaces: of every piece, the UTF-8 bytes it stands for, which need be no whole characters.
      leading: what becomes of spaces at the beginning of a text.
    """

    suffix: str
    """Of its file."""

    def __init__(self, model_bytes: bytes, names: Sequence[str], surfaces: Sequence[bytes], leading: Leading):
        self.model_bytes = model_bytes
        self._names = list(names)
        self._surfaces = list(surfaces)
        self._leading = leading

    @property
    def size(self) -> int:
        """Pieces in the vocabulary, special ones included."""
        return len(self._names)

    @property
    def dtype(self) -> type:
        """The smallest type its ids are stored in."""
        return np.uint16 if self.size <= 2**16 else np.uint32

    @abc.abstractmethod
    def encode(self, texts: list[str]) -> list[list[int]]:
        """Token ids of each text, without BOS and EOS."""

    def encode_ragged(self, texts: list[str]) -> Ragged:
        """The same in one array, of type `dtype`."""
        return Ragged.from_lists(self.encode(texts), self.dtype)

    def decode(self, sequences: Iterable[Sequence[int]]) -> list[str]:
        """The text of each sequence up to its first EOS, with its spaces and line ends; PAD and BOS are left out.

        Bytes that are not UTF-8, which a model can produce, become U+FFFD.
        """
        return [self._decode_one(sequence) for sequence in sequences]

    def decode_lines(self, sentences: Iterable[Sequence[int]]) -> list[str]:
        """As `decode`, but each in one line: line ends become spaces."""
        return [text.translate(_NO_LINE_ENDS) for text in self.decode(sentences)]

    def stream(self) -> "TextStream":
        """Decodes one token after the other."""
        return TextStream(self._surfaces, self._leading)

    def pieces(self, ids: Iterable[int] | None = None) -> list[str]:
        """The piece behind each id, in SentencePiece's spelling (U+2581 begins a word) where it is one of its; all
        pieces when no ids are given."""
        return list(self._names) if ids is None else [self._names[int(token)] for token in ids]

    def _decode_one(self, sequence: Sequence[int]) -> str:
        stream = self.stream()
        return stream.add(*np.asarray(sequence, np.int64).tolist()) + stream.end()


class TextStream:
    """Text as its tokens come; all that `add` and `end` return together is what `decode` gives for all tokens.

    A character whose bytes are spread over several tokens comes with the last of them.
    """

    def __init__(self, surfaces: Sequence[bytes], leading: Leading):
        self._surfaces = surfaces
        self._leading = leading
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._ended = False

    def add(self, *tokens: int) -> str:
        """The text that these tokens make certain; nothing after EOS."""
        if self._ended:
            return ""
        if EOS in tokens:
            tokens = tokens[: tokens.index(EOS)]
            self._ended = True
        return self._after_leading(self._decoder.decode(b"".join([self._surfaces[token] for token in tokens])))

    def end(self) -> str:
        """What was held back: a replacement for a character that never became whole."""
        self._ended = True
        return self._after_leading(self._decoder.decode(b"", final=True))

    def _after_leading(self, text: str) -> str:
        if self._leading is Leading.KEPT or not text:
            return text
        if self._leading is Leading.FIRST_DROPPED:
            self._leading = Leading.KEPT
            return text.removeprefix(" ")
        text = text.lstrip(" ")
        if text:
            self._leading = Leading.KEPT
        return text

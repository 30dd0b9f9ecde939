"""Characters or bytes as tokens: nothing is normalised, and every text comes back as it was."""

import dataclasses
import json
from collections.abc import Iterable

import numpy as np

from transformer.data.errors import DataError
from transformer.data.store import Ragged
from transformer.data.vocabulary import SPECIAL_NAMES, UNK, Leading, Tokenizer

_FIRST = len(SPECIAL_NAMES)
_REPLACEMENT = "\ufffd".encode()


class CharacterTokenizer(Tokenizer):
    """A token for each of some characters; others are spelt in the bytes of UTF-8, or unknown when there are none.

    Without any characters it is a tokenizer of bytes. Ids: the special ones, the bytes, the characters, and what fills
    the vocabulary up, which stands for nothing.

    Args:
      model_bytes: as `describe` makes it.

    Raises:
      DataError: for anything else.
    """

    suffix = ".json"

    def __init__(self, model_bytes: bytes):
        described = _Described.read(model_bytes)
        characters, with_bytes, size = described.characters, described.bytes, described.size
        first_character = _FIRST + 256 * with_bytes
        names = [*SPECIAL_NAMES, *(f"<0x{byte:02X}>" for byte in range(256 * with_bytes)), *characters]
        surfaces = [b"", b"", b"", _REPLACEMENT, *(bytes([byte]) for byte in range(256 * with_bytes))]
        surfaces += [character.encode() for character in characters]
        names += [f"<unused{number}>" for number in range(size - len(names))]
        surfaces += [b""] * (size - len(surfaces))
        super().__init__(model_bytes, names, surfaces, Leading.KEPT)
        self._with_bytes = with_bytes
        # The id of every character by its number; beyond the last there is one more, for all others.
        codes = _codes(characters)
        self._ids = np.full(int(codes.max(initial=0)) + 2, UNK, np.int32)
        self._ids[codes] = np.arange(first_character, first_character + len(codes))

    def encode(self, texts: list[str]) -> list[list[int]]:
        ragged = self.encode_ragged(texts)
        return [ragged[number].tolist() for number in range(len(texts))]

    def encode_ragged(self, texts: list[str]) -> Ragged:
        codes = _codes("".join(texts))
        ids = self._ids[np.minimum(codes, len(self._ids) - 1)]
        ends = np.cumsum([0, *(len(text) for text in texts)])
        spelt = ids == UNK
        if not (self._with_bytes and spelt.any()):
            return Ragged(ids.astype(self.dtype), ends)
        others = codes[spelt]
        counts = np.ones(len(ids), np.int64)
        counts[spelt] += (others >= 0x80).astype(np.int64) + (others >= 0x800) + (others >= 0x10000)
        ids, spelt = np.repeat(ids, counts), np.repeat(spelt, counts)
        ids[spelt] = np.frombuffer(others.tobytes().decode("utf-32-le").encode(), np.uint8) + np.int32(_FIRST)
        return Ragged(ids.astype(self.dtype), np.concatenate([[0], np.cumsum(counts)])[ends])


@dataclasses.dataclass(frozen=True)
class _Described:
    """What a file says."""

    characters: str
    bytes: bool
    size: int

    @classmethod
    def read(cls, content: bytes) -> "_Described":
        try:
            described = cls(**json.loads(content))
        except (ValueError, TypeError) as error:
            raise _none_such() from error
        if not described.sound():
            raise _none_such()
        return described

    def sound(self) -> bool:
        """Whether a tokenizer can be made of it."""
        types = (type(self.characters), type(self.bytes), type(self.size))
        if types != (str, bool, int) or len(set(self.characters)) != len(self.characters):
            return False
        return self.size >= _FIRST + 256 * self.bytes + len(self.characters)


def _none_such() -> DataError:
    return DataError("is not the file of a character or byte tokenizer, or a damaged one")


def describe(characters: Iterable[str], *, with_bytes: bool, size_multiple_of: int = 1) -> bytes:
    """The file of a tokenizer of these characters."""
    kept = "".join(sorted({character for text in characters for character in text}))
    used = _FIRST + 256 * with_bytes + len(kept)
    size = -(-used // size_multiple_of) * size_multiple_of
    return json.dumps(dataclasses.asdict(_Described(kept, with_bytes, size)), indent=2).encode()


def _codes(text: str) -> np.ndarray:
    """The number of every character in Unicode, uint32."""
    return np.frombuffer(text.encode("utf-32-le"), "<u4")

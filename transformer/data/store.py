"""Tokenised text as memory-mapped arrays: all tokens of a side in one flat array, and where each sentence begins.

Neither BOS nor EOS is stored; batches add them, so that the rows of a batch are one longer than the lengths here.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

SIDES = ("source", "target")


@dataclasses.dataclass(frozen=True, eq=False)
class Ragged:
    """Sentences of different lengths: sentence i is `tokens[offsets[i] : offsets[i + 1]]`.

    `tokens` is one-dimensional, uint16 or uint32, in memory or mapped from a file; `offsets` is int64 [n + 1].
    """

    tokens: np.ndarray
    offsets: np.ndarray

    @classmethod
    def from_lists(cls, sentences: Sequence[Sequence[int]], dtype: type = np.uint32) -> "Ragged":
        """Packs lists of token ids."""
        offsets = np.zeros(len(sentences) + 1, np.int64)
        np.cumsum([len(sentence) for sentence in sentences], out=offsets[1:])
        tokens = np.fromiter(itertools.chain.from_iterable(sentences), dtype, offsets[-1])
        return cls(tokens, offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> np.ndarray:
        """The tokens of one sentence."""
        if not 0 <= index < len(self):
            raise IndexError(f"sentence {index} of {len(self)}")
        return self.tokens[self.offsets[index] : self.offsets[index + 1]]

    @functools.cached_property
    def lengths(self) -> np.ndarray:
        """Tokens in each sentence, int64 [n], without BOS and EOS."""
        return np.diff(self.offsets)


@dataclasses.dataclass(frozen=True, eq=False)
class TokenStore:
    """Aligned source and target sentences as tokens, without BOS and EOS."""

    source: Ragged
    target: Ragged

    def __post_init__(self):
        if len(self.source) != len(self.target):
            raise ValueError(f"{len(self.source)} source sentences, but {len(self.target)} target sentences")

    @classmethod
    def from_lists(cls, source_ids: Sequence[Sequence[int]], target_ids: Sequence[Sequence[int]]) -> "TokenStore":
        """A store in memory."""
        return cls(Ragged.from_lists(source_ids), Ragged.from_lists(target_ids))

    @classmethod
    def open(cls, folder: str | Path) -> "TokenStore":
        """Maps a folder that `write_side` filled; nothing but the offsets is read until it is used."""
        return cls(*(_open_side(Path(folder), side) for side in SIDES))

    def __len__(self) -> int:
        return len(self.source)


def write_side(folder: Path, side: str, offsets: Sequence[np.ndarray], tokens: Iterable[np.ndarray]) -> None:
    """Writes several `Ragged`s as one: the offsets and the tokens of each, in order; tokens are read one by one."""
    begins = np.cumsum([0, *(part[-1] for part in offsets)])
    joined = np.concatenate([[0], *(part[1:] + begin for part, begin in zip(offsets, begins[:-1], strict=True))])
    np.save(folder / f"{side}.offsets.npy", joined)
    with open(folder / f"{side}.tokens.npy", "wb") as file:
        for number, part in enumerate(tokens):
            if number == 0:
                header = {"descr": part.dtype.str, "fortran_order": False, "shape": (int(joined[-1]),)}
                np.lib.format.write_array_header_1_0(file, header)
            part.tofile(file)


def _open_side(folder: Path, side: str) -> Ragged:
    tokens = np.load(folder / f"{side}.tokens.npy", mmap_mode="r")
    # The offsets are read whole (8 bytes a sentence): every plan of batches needs all of them.
    return Ragged(tokens, np.load(folder / f"{side}.offsets.npy"))

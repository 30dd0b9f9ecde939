"""Tokenised text as memory-mapped arrays: all tokens of a side in one flat array, and where each sentence begins; or
all of documents, and where each begins.

Neither BOS nor EOS is stored; batches add them, so that the rows of a batch are one longer than the lengths here.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

SIDES = ("source", "target")
_DOCUMENTS, _PROMPT_LENGTHS = "documents", "prompt_lengths.npy"


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

    examples_are: ClassVar[str] = "pairs"

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


@dataclasses.dataclass(frozen=True, eq=False)
class DocumentStore:
    """Documents as tokens, without BOS and EOS: prompt and text in one, and where the text begins.

    `prompt_lengths` is int32 [n], 0 where there is no prompt.
    """

    examples_are: ClassVar[str] = "documents"

    documents: Ragged
    prompt_lengths: np.ndarray

    def __post_init__(self):
        if len(self.documents) != len(self.prompt_lengths):
            raise ValueError(f"{len(self.documents)} documents, but {len(self.prompt_lengths)} prompts")

    @classmethod
    def from_lists(cls, prompts: Sequence[Sequence[int]], texts: Sequence[Sequence[int]]) -> "DocumentStore":
        """A store in memory."""
        joined = Ragged.from_lists([[*prompt, *text] for prompt, text in zip(prompts, texts, strict=True)])
        return cls(joined, np.array([len(prompt) for prompt in prompts], np.int32))

    @classmethod
    def open(cls, folder: str | Path) -> "DocumentStore":
        """Maps a folder that `write_documents` filled."""
        folder = Path(folder)
        return cls(_open_side(folder, _DOCUMENTS), np.load(folder / _PROMPT_LENGTHS))

    def __len__(self) -> int:
        return len(self.documents)


@dataclasses.dataclass(frozen=True, eq=False)
class DocumentShard:
    """Documents that follow each other, without their tokens.

    Attributes:
      offsets: as of `Ragged`.
      prompt_lengths: as of `DocumentStore`.
      continues: the first of them goes on with the last one of the shard before.
    """

    offsets: np.ndarray
    prompt_lengths: np.ndarray
    continues: bool


def write_documents(folder: Path, shards: Sequence[DocumentShard], tokens: Iterable[np.ndarray]) -> None:
    """Writes several shards as one store: what is known of each, and its tokens, which are read one by one."""
    begins = np.cumsum([0, *(shard.offsets[-1] for shard in shards)])
    ends, prompts = [np.zeros(1, np.int64)], []
    for shard, begin in zip(shards, begins[:-1], strict=True):
        if shard.continues:
            ends[-1] = ends[-1][:-1]
        ends.append(shard.offsets[1:] + begin)
        prompts.append(shard.prompt_lengths[int(shard.continues) :])
    np.save(folder / _PROMPT_LENGTHS, np.concatenate(prompts))
    np.save(folder / f"{_DOCUMENTS}.offsets.npy", np.concatenate(ends))
    _write_tokens(folder / f"{_DOCUMENTS}.tokens.npy", int(begins[-1]), tokens)


def write_side(folder: Path, side: str, offsets: Sequence[np.ndarray], tokens: Iterable[np.ndarray]) -> None:
    """Writes several `Ragged`s as one: the offsets and the tokens of each, in order; tokens are read one by one."""
    begins = np.cumsum([0, *(part[-1] for part in offsets)])
    joined = np.concatenate([[0], *(part[1:] + begin for part, begin in zip(offsets, begins[:-1], strict=True))])
    np.save(folder / f"{side}.offsets.npy", joined)
    _write_tokens(folder / f"{side}.tokens.npy", int(joined[-1]), tokens)


def _write_tokens(path: Path, total: int, tokens: Iterable[np.ndarray]) -> None:
    with open(path, "wb") as file:
        for number, part in enumerate(tokens):
            if number == 0:
                header = {"descr": part.dtype.str, "fortran_order": False, "shape": (total,)}
                np.lib.format.write_array_header_1_0(file, header)
            part.tofile(file)


def _open_side(folder: Path, side: str) -> Ragged:
    tokens = np.load(folder / f"{side}.tokens.npy", mmap_mode="r")
    # The offsets are read whole (8 bytes a sentence): every plan of batches needs all of them.
    return Ragged(tokens, np.load(folder / f"{side}.offsets.npy"))

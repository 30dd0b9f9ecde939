"""Embeddings of one vocabulary made of another's.

Letters: V pieces of the new vocabulary, W of the old one, D model.
"""

import dataclasses
import re

import numpy as np

from transformer.data.vocabulary import SPECIAL_NAMES, UNK, Tokenizer

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")


@dataclasses.dataclass(frozen=True)
class Correspondence:
    """What the pieces of a new vocabulary are in an old one.

    Attributes:
      same_V: the id of the same piece, -1 where there is none.
      parts: of the others, ids of the pieces that the old vocabulary writes them with; none where it cannot.
    """

    same_V: np.ndarray
    parts: dict[int, list[int]]

    @classmethod
    def of(cls, old: Tokenizer, new: Tokenizer) -> "Correspondence":
        """By the pieces' spelling; special ones by their ids, whatever a model calls them."""
        ids = {_spelling(piece): number for number, piece in enumerate(old.pieces())}
        spellings = [_spelling(piece) for piece in new.pieces()]
        same_V = np.array([ids.get(spelling, -1) for spelling in spellings], np.int64)
        same_V[: len(SPECIAL_NAMES)] = range(len(SPECIAL_NAMES))
        others = np.flatnonzero(same_V < 0).tolist()
        # A byte is no text of its own.
        texts = ["" if _BYTE.fullmatch(spellings[number]) else spellings[number].strip() for number in others]
        parts = {number: _known(old, written) for number, written in zip(others, old.encode(texts), strict=True)}
        return cls(same_V, parts)

    def table(self, old_WD: np.ndarray, fresh_VD: np.ndarray, new_pieces: str) -> np.ndarray:
        """The embeddings [V, D] of the new vocabulary.

        Args:
          fresh_VD: of a new model.
          new_pieces: as `config.transfer.new_pieces`. Of a piece with no parts, the mean of all.
        """
        table_VD = np.array(fresh_VD)
        shared = self.same_V >= 0
        table_VD[shared] = old_WD[self.same_V[shared]]
        if new_pieces == "parts":
            mean_D = old_WD.mean(axis=0)
            for number, parts in self.parts.items():
                table_VD[number] = old_WD[parts].mean(axis=0) if parts else mean_D
        return table_VD

    def __str__(self) -> str:
        written = sum(bool(parts) for parts in self.parts.values())
        return (
            f"{np.count_nonzero(self.same_V >= 0):,} of {len(self.same_V):,} pieces are the same, {written:,} others "
            "can be written with pieces of the old vocabulary"
        )


def _spelling(piece: str) -> str:
    """SentencePiece writes a space as U+2581, a tokenizer of characters as it is."""
    return piece.replace("\u2581", " ")


def _known(old: Tokenizer, written: list[int]) -> list[int]:
    """Of a text's pieces those that are known; none where but the space is left that SentencePiece begins with."""
    known = [piece for piece in written if piece != UNK]
    return known if old.decode([known])[0].strip() else []

"""SentencePiece models as tokenizers.

A model says itself what it makes of text. Those trained here for translation normalise it (SentencePiece's `nmt_nfkc`):
no-break and zero-width spaces become spaces, composed letters one character, the ellipsis three dots, a half 1/2.
German and typographic quotes, dashes and letters stay as they are. Normalised characters cannot be produced, so a
reference that holds them is never matched there. Those trained for a language model keep text as it is.
"""

import re

import sentencepiece

from transformer.data.errors import DataError
from transformer.data.vocabulary import BOS, EOS, PAD, UNK, Leading, Tokenizer

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_SPACE = "\u2581"


class SentencePieceTokenizer(Tokenizer):
    """A SentencePiece model held in memory.

    Raises:
      DataError: when the bytes are no SentencePiece model, or one with other special ids.
    """

    suffix = ".model"

    def __init__(self, model_bytes: bytes):
        self._processor = sentencepiece.SentencePieceProcessor()
        try:
            self._processor.load_from_serialized_proto(model_bytes)
        except RuntimeError as error:
            raise DataError("is not a SentencePiece model, or a damaged one") from error
        if not len(self._processor):
            raise DataError("is not a SentencePiece model, or a damaged one")
        processor = self._processor
        ids = (processor.pad_id(), processor.bos_id(), processor.eos_id(), processor.unk_id())
        if ids != (PAD, BOS, EOS, UNK):
            raise DataError(f"has the ids pad {ids[0]}, bos {ids[1]}, eos {ids[2]}, unk {ids[3]} instead of 0, 1, 2, 3")
        names = processor.id_to_piece(list(range(len(processor))))
        surfaces = [self._surface(token, name) for token, name in enumerate(names)]
        super().__init__(model_bytes, names, surfaces, self._leading_of_model())

    def encode(self, texts: list[str]) -> list[list[int]]:
        return self._processor.encode(texts, num_threads=1)

    def _surface(self, token: int, name: str) -> bytes:
        if self._processor.is_byte(token):
            return bytes.fromhex(_BYTE.fullmatch(name)[1])
        if self._processor.is_control(token):
            return b""
        return (self._processor.decode([UNK]) if token == UNK else name.replace(_SPACE, " ")).encode()

    def _leading_of_model(self) -> Leading:
        # SentencePiece has no function that tells; reading its file would bind us to one version of protobuf.
        def pieces(text: str) -> list[str]:
            return self._processor.encode(text, out_type=str)

        if pieces("a  b") == pieces("a b"):  # what encoding joins, decoding drops
            return Leading.ALL_DROPPED
        return Leading.FIRST_DROPPED if pieces("a")[0].startswith(_SPACE) else Leading.KEPT

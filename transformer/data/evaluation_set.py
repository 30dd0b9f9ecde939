"""Text that a model is scored on."""

import dataclasses

import numpy as np

from transformer.data.filters import FilterReport
from transformer.data.store import DocumentStore, TokenStore
from transformer.data.tokenizer import UNK


@dataclasses.dataclass(frozen=True)
class EvaluationSet:
    """Text to be scored on: all of it as text, for BLEU; as tokens, for the loss, what the model takes.

    For translation `store` lacks pairs with an empty side or one beyond `data.max_length`, for a language model it
    lacks documents without text; `report` counts them.

    Attributes:
      sources: what is translated; of documents the prompts, with what ends them.
      targets: what it should come to; of documents the texts.
      target_bytes: of UTF-8, in the targets that `store` holds: a loss in nats, summed over these, is divided by it and
        by ln 2 to give bits per byte.
    """

    name: str
    sources: list[str]
    targets: list[str]
    store: TokenStore | DocumentStore
    report: FilterReport
    target_bytes: int

    @property
    def target_tokens(self) -> np.ndarray:
        """Those of the targets that `store` holds, one after the other: of documents without their prompts and ends."""
        if isinstance(self.store, TokenStore):
            return self.store.target.tokens
        documents = self.store.documents
        within = np.arange(len(documents.tokens)) - np.repeat(documents.offsets[:-1], documents.lengths)
        return documents.tokens[within >= np.repeat(self.store.prompt_lengths, documents.lengths)]

    @property
    def unknown_tokens(self) -> int:
        """How many characters of targets the tokenizer has no piece for: of those, no loss per byte tells anything."""
        return int(np.count_nonzero(self.target_tokens == UNK))

"""Documents tokenised, in shards as pairs are (`shards`)."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from transformer.config import DataConfig
from transformer.data.documents import PART, Part
from transformer.data.filters import FilterReport, SeenPairs, within_ratio
from transformer.data.shards import SHARD_PAIRS, ShardFolder
from transformer.data.store import DocumentShard, DocumentStore, Ragged, write_documents
from transformer.data.tokenizer import Tokenizer, Tokenizers

# Beside the number of documents: what a thread holds at once.
SHARD_CHARACTERS = 8 * PART


@dataclasses.dataclass(frozen=True)
class TokenisedDocuments:
    """Documents as tokens, what was left out of them, and the bytes of UTF-8 that the texts kept take.

    `continues`: the first one goes on with a document that began elsewhere.
    """

    store: DocumentStore
    report: FilterReport
    text_bytes: int
    continues: bool


def tokenise_documents(parts: Sequence[Part], tokenizer: Tokenizer, data: DataConfig) -> TokenisedDocuments:
    """Tokenises documents, drops those without text and, with `data.max_length_ratio`, those whose prompt and text
    differ too much in length. None is too long."""
    present = [part for part in parts if part.text or not part.whole]
    # Of a document in parts all are kept: they would be joined to another.
    kept = [part for part in present if not (part.whole and part.prompt) or within_ratio(part.prompt, part.text, data)]
    # Prompt, text, prompt, text, ...
    ragged = tokenizer.encode_ragged([text for part in kept for text in (part.prompt, part.text)])
    lengths = ragged.lengths.reshape(-1, 2)
    # A text can be without tokens, such as one of zero-width spaces.
    filled = (lengths[:, 1] > 0) | np.array([not part.whole for part in kept], bool)
    tokens = ragged.tokens[np.repeat(filled, lengths.sum(axis=1))]
    lengths = lengths[filled]
    first = np.array([not part.continues for part, has_text in zip(kept, filled, strict=True) if has_text], bool)
    # A document ends where the next one begins, and at the end of all.
    last = np.append(first[1:], True)[: len(first)]
    ends = np.cumsum(lengths.sum(axis=1))[last]
    # One that goes on here has no prompt here.
    continues = bool(len(first)) and not first[0]
    prompt_lengths = np.concatenate([np.zeros(int(continues), np.int64), lengths[first, 0]]).astype(np.int32)
    report = FilterReport(
        kept=int(first.sum()),
        empty=len(parts) - len(present) + int((~filled).sum()),
        length_ratio=len(present) - len(kept),
    )
    text_bytes = sum(len(part.text.encode()) for part, has_text in zip(kept, filled, strict=True) if has_text)
    store = DocumentStore(Ragged(tokens, np.concatenate([np.zeros(1, np.int64), ends])), prompt_lengths)
    return TokenisedDocuments(store, report, text_bytes, continues)


class DocumentShards(ShardFolder[Part]):
    """Shards of documents; a long one may lie in several."""

    def chunks(self, items: Iterable[Part]) -> Iterator[list[Part]]:
        return chunks(items)

    def add_unseen(self, chunk: list[Part], seen: SeenPairs) -> list[Part]:
        # Empty ones stay, to be counted as that, and so do those that come in parts.
        new = seen.add([(part.prompt, part.text) for part in chunk])
        return [part for part, is_new in zip(chunk, new, strict=True) if is_new or not part.text or not part.whole]

    def join(self, folder: Path) -> None:
        shards = [
            DocumentShard(offsets, prompt_lengths, bool(continues))
            for offsets, prompt_lengths, continues in zip(
                self._arrays("offsets"), self._arrays("prompt_lengths"), self._arrays("continues"), strict=True
            )
        ]
        write_documents(folder, shards, self._arrays("tokens"))

    @property
    def _ending(self) -> str:
        return f"-of-{SHARD_PAIRS}-documents-{SHARD_CHARACTERS}-characters.npz"

    def _tokenised(
        self, chunk: list[Part], tokenizers: Tokenizers, data: DataConfig
    ) -> tuple[FilterReport, dict[str, np.ndarray]]:
        made = tokenise_documents(chunk, tokenizers.target, data)
        documents = made.store.documents
        return made.report, {
            "tokens": documents.tokens,
            "offsets": documents.offsets,
            "prompt_lengths": made.store.prompt_lengths,
            "continues": np.array(made.continues),
        }


def chunks(parts: Iterable[Part]) -> Iterator[list[Part]]:
    """Parts for a shard each: as many as `SHARD_PAIRS`, or as hold `SHARD_CHARACTERS`."""
    chunk: list[Part] = []
    size = 0
    for part in parts:
        chunk.append(part)
        size += len(part.prompt) + len(part.text)
        if len(chunk) == SHARD_PAIRS or size >= SHARD_CHARACTERS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk

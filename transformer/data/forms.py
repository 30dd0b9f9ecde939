"""The two forms in which text is prepared: pairs for a translator, documents for a language model."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from transformer.config import Config, DataConfig, TokenizerConfig
from transformer.data import tokenizer_training
from transformer.data.corpora import Corpus
from transformer.data.document_shards import DocumentShards, tokenise_documents
from transformer.data.documents import Part
from transformer.data.evaluation_set import EvaluationSet
from transformer.data.shards import PairShards, tokenise
from transformer.data.store import DocumentStore, TokenStore
from transformer.data.tokenizer import Tokenizers

Store = TokenStore | DocumentStore


class PairForm:
    """Aligned sentences. `name` is of what is cached."""

    name: ClassVar[str] = "pairs"
    store: ClassVar[type[TokenStore]] = TokenStore

    def items(self, corpus: Corpus) -> Iterator[tuple[str, str]]:
        """What a corpus holds, in its order."""
        return corpus.pairs()

    def settings(self, data: DataConfig) -> tuple:
        """What decides, beside text and tokenizer, which tokens there are."""
        return self.name, data.max_length, data.max_length_ratio

    def train(self, items: Callable[[], Iterator[tuple[str, str]]], count: int, config: TokenizerConfig) -> Tokenizers:
        """The tokenizers of all training text, which `items` starts to read; there are `count`."""
        return tokenizer_training.train(items, count, config)

    def shards(self, path: Path) -> PairShards:
        """Where a corpus is tokenised."""
        return PairShards(path)

    def open(self, folder: Path) -> TokenStore:
        """What joined shards come to."""
        return TokenStore.open(folder)

    def evaluation_set(
        self, name: str, items: Sequence[tuple[str, str]], tokenizers: Tokenizers, data: DataConfig
    ) -> EvaluationSet:
        """Text and tokens to score on. No pair is left out of the text: scores are of the whole set."""
        made = tokenise(items, tokenizers, data)
        sources, targets = [source for source, _ in items], [target for _, target in items]
        return EvaluationSet(name, sources, targets, made.store, made.report, made.target_bytes)


class DocumentForm:
    """Documents; members as of `PairForm`."""

    name: ClassVar[str] = "documents"
    store: ClassVar[type[DocumentStore]] = DocumentStore

    def items(self, corpus: Corpus) -> Iterator[Part]:
        return corpus.documents()

    def settings(self, data: DataConfig) -> tuple:
        return self.name, data.max_length_ratio

    def train(self, items: Callable[[], Iterator[Part]], count: int, config: TokenizerConfig) -> Tokenizers:
        return tokenizer_training.train_on_documents(items, config)

    def shards(self, path: Path) -> DocumentShards:
        return DocumentShards(path)

    def open(self, folder: Path) -> DocumentStore:
        return DocumentStore.open(folder)

    def evaluation_set(
        self, name: str, items: Sequence[Part], tokenizers: Tokenizers, data: DataConfig
    ) -> EvaluationSet:
        made = tokenise_documents(items, tokenizers.target, data)
        sources, texts = [], []
        for part in items:
            if not part.continues:
                sources.append(part.prompt)
                texts.append([])
            texts[-1].append(part.text)
        targets = ["".join(parts) for parts in texts]
        return EvaluationSet(name, sources, targets, made.store, made.report, made.text_bytes)


def of_config(config: Config) -> PairForm | DocumentForm:
    """The form that the model of a run is trained on."""
    return DocumentForm() if config.model.architecture == "language_model" else PairForm()

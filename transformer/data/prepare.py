"""From a config to tokenizers and tokens: everything that happens to text before batches.

Every fault of the data that can be found is found here, before training starts. Training text is read as a stream,
tokenised once and kept in the cache; a second call with the same text and settings finds everything there.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from transformer.config import Config, ConfigError, DataConfig, TokenizerConfig
from transformer.data import corpora
from transformer.data.cache import Cache, atomic_folder, key_of
from transformer.data.corpora import Corpus
from transformer.data.errors import DataError
from transformer.data.evaluation_set import EvaluationSet
from transformer.data.filters import FilterReport, SeenPairs
from transformer.data.forms import DocumentForm, PairForm, Store, of_config
from transformer.data.progress import Progress, silent
from transformer.data.shards import SHARD_PAIRS, ShardFolder, chunks
from transformer.data.store import TokenStore
from transformer.data.tokenizer import Tokenizers, read_given

# Raise it when the same text and settings begin to give other tokens.
_FORMAT = 1


@dataclasses.dataclass(frozen=True)
class TrainingSet:
    """One training corpus: how often an epoch sees it, its tokens, and what was dropped."""

    name: str
    weight: float
    store: Store
    report: FilterReport


@dataclasses.dataclass(frozen=True)
class Prepared:
    """All data of a run. Several validation corpora are one set; every test corpus is scored on its own."""

    tokenizers: Tokenizers
    train: list[TrainingSet]
    validation: EvaluationSet
    test: list[EvaluationSet]

    def summary(self) -> str:
        """A few lines for people: the vocabulary, and what was kept of each corpus."""
        sizes = [f"{self.tokenizers.source.size:,}"]
        if not self.tokenizers.shared:
            sizes.append(f"{self.tokenizers.target.size:,}")
        kind = "shared" if self.tokenizers.shared else "source, target"
        lines = [f"vocabulary: {' and '.join(sizes)} pieces ({kind})"]
        roles = [("train", corpus) for corpus in self.train]
        roles += [("validation", self.validation), *(("test", corpus) for corpus in self.test)]
        lines += [
            f"{role}: {corpus.name}: {corpus.report.text(corpus.store.examples_are)}{_of_text(corpus)}"
            for role, corpus in roles
        ]
        return "\n".join(lines)


def prepare(config: Config, *, tokenizers: Tokenizers | None = None, progress: Progress = silent) -> Prepared:
    """Makes ready all data of a run, from the cache where it is there.

    Args:
      config: a validated config.
      tokenizers: those of a checkpoint, used instead of the ones the config describes.
      progress: see `progress.Progress`; `progress.ProgressBar()` draws it.

    Raises:
      DataError: for a fault in the data.
      ConfigError: for a tokenizer that does not fit, a cache that cannot be written, or a prefix mask without prompts.
    """
    data = config.data
    form = of_config(config)
    training = [corpora.parse(text, data) for text in data.train]
    validation = [_parse_unweighted(text, data) for text in data.validation]
    test = [_parse_unweighted(text, data) for text in data.test]
    if config.model.mask == "prefix" and not any(corpus.has_prompts for corpus in training):
        raise ConfigError(
            "model.mask",
            config.model.mask,
            f"no text of data.train = {data.train} has a prompt that could be seen whole",
            "Set model.mask=causal, or train on pairs, such as lines:SOURCE_FILES:TARGET_FILES.",
        )
    corpora.check([*training, *validation, *test])
    # Small, and read first: their faults should not show after an hour of work on the training text.
    validation_items = [item for corpus in validation for item in form.items(corpus)]
    test_items = [list(form.items(corpus)) for corpus in test]

    preparation = _Preparation(training, form, data, Cache.open(data.cache_dir), progress)
    if tokenizers is None:
        tokenizers = preparation.tokenizers(config.tokenizer)
    held_out = _evaluation_set(" + ".join(data.validation), validation_items, form, tokenizers, data)
    tests = [
        _evaluation_set(corpus.name, items, form, tokenizers, data)
        for corpus, items in zip(test, test_items, strict=True)
    ]
    training_sets = [preparation.training_set(index, tokenizers) for index in range(len(training))]
    return Prepared(tokenizers, training_sets, held_out, tests)


def _evaluation_set(
    name: str, items: Sequence[Any], form: PairForm | DocumentForm, tokenizers: Tokenizers, data: DataConfig
) -> EvaluationSet:
    # Scores are of the whole set.
    made = form.evaluation_set(name, items, tokenizers, dataclasses.replace(data, max_length_ratio=0.0))
    if not made.report.kept:
        raise _nothing_left(name, made.report, form.store, data)
    return made


def _parse_unweighted(text: str, data: DataConfig) -> Corpus:
    corpus = corpora.parse(text, data)
    if corpus.weight != 1:
        raise DataError(f"corpus {text!r} is scored, so it has no weight. Write {corpus.name!r}.")
    return corpus


class _Preparation:
    """What is made of the training corpora, and kept in the cache."""

    def __init__(
        self,
        training: list[Corpus],
        form: PairForm | DocumentForm,
        data: DataConfig,
        cache: Cache,
        progress: Progress,
    ):
        self._training = training
        self._form = form
        self._data = data
        self._cache = cache
        self._progress = progress
        self._counts: dict[int, int] = {}
        self._contents = [
            key_of(corpus.source.identity, [cache.file_hash(file) for file in corpus.source.files()])
            for corpus in training
        ]

    def tokenizers(self, config: TokenizerConfig) -> Tokenizers:
        """Read from the files given, or trained on all training text; weights do not matter here."""
        if config.model is not None:
            return read_given(config)
        key = key_of("tokenizer", _FORMAT, self._form.name, self._contents, dataclasses.asdict(config))
        folder = self._cache.root / "tokenizers" / key
        with self._cache.lock(key, self._waiting):
            if not folder.exists():
                self._counts = {index: self._count(corpus) for index, corpus in enumerate(self._training)}
                total = sum(self._counts.values())
                self._progress("training the tokenizer", 0, total)
                trained = self._form.train(self._all_items, total, config)
                with atomic_folder(folder) as unfinished:
                    for name, content in trained.to_files().items():
                        (unfinished / name).write_bytes(content)
            return Tokenizers.from_files({file.name: file.read_bytes() for file in folder.iterdir()})

    def training_set(self, index: int, tokenizers: Tokenizers) -> TrainingSet:
        """One corpus as tokens."""
        corpus = self._training[index]
        key = self._tokens_key(index, tokenizers)
        folder = self._cache.root / "tokens" / key
        shards = self._form.shards(folder.with_name(f"{key}.parts"))
        with self._cache.lock(key, self._waiting):
            if not folder.exists():
                self._tokenise(index, tokenizers, shards, folder)
            # Outside of that: a kill may have come between the two.
            shards.remove()
        report = FilterReport(**json.loads((folder / "report.json").read_text()))
        return TrainingSet(corpus.name, corpus.weight, self._form.open(folder), report)

    def _tokens_key(self, index: int, tokenizers: Tokenizers) -> str:
        data = self._data
        models = [hashlib.sha256(side.model_bytes).hexdigest() for side in (tokenizers.source, tokenizers.target)]
        # With deduplication a corpus depends on those before it.
        contents = self._contents[: index + 1] if data.deduplicate else [self._contents[index]]
        return key_of("tokens", _FORMAT, self._form.settings(data), contents, models, data.deduplicate)

    def _tokenise(self, index: int, tokenizers: Tokenizers, shards: ShardFolder[Any], folder: Path) -> None:
        corpus = self._training[index]
        what, total = f"tokenising {corpus.name}", self._counts.get(index)
        shards.make(
            self._form.items(corpus),
            tokenizers,
            self._data,
            self._seen_before(index, shards),
            lambda done: self._progress(what, done, total),
        )
        report = shards.report()
        if not report.kept:
            raise _nothing_left(corpus.name, report, self._form.store, self._data)
        with atomic_folder(folder) as unfinished:
            shards.join(unfinished)
            (unfinished / "report.json").write_text(json.dumps(dataclasses.asdict(report)))

    def _seen_before(self, index: int, shards: ShardFolder[Any]) -> SeenPairs | None:
        """All that the corpora before this one hold, when duplicates are dropped."""
        if not self._data.deduplicate:
            return None
        seen = SeenPairs()
        for corpus in self._training[:index]:
            for chunk in shards.chunks(self._form.items(corpus)):
                shards.add_unseen(chunk, seen)
        return seen

    def _all_items(self) -> Iterator[Any]:
        for corpus in self._training:
            yield from self._form.items(corpus)

    def _count(self, corpus: Corpus) -> int:
        """Items of a corpus. Reading it whole here finds its faults before a model is trained on it."""
        count = 0
        for chunk in chunks(self._form.items(corpus), SHARD_PAIRS):
            count += len(chunk)
            self._progress(f"reading {corpus.name}", count, None)
        return count

    def _waiting(self) -> None:
        self._progress("waiting for another process that prepares the same data", 0, None)


def _of_text(corpus: TrainingSet | EvaluationSet) -> str:
    """What else is to be said of a set of documents."""
    if isinstance(corpus.store, TokenStore):
        return ""
    if isinstance(corpus, TrainingSet):
        return f"; {len(corpus.store.documents.tokens):,} tokens"
    tokens = f"{len(corpus.target_tokens):,} tokens of {corpus.target_bytes:,} bytes"
    return f"; {tokens}, {corpus.unknown_tokens:,} of them unknown"


def _nothing_left(name: str, report: FilterReport, store: type[Store], data: DataConfig) -> DataError:
    of_pairs = store is TokenStore
    remedies = {
        "empty": "Check that both sides were written: one without text has no translation"
        if of_pairs
        else "Check that the files were written",
        "duplicate": f"Leave it out, as corpora before it hold the same {store.examples_are}, or set data.deduplicate "
        "to False",
        "length_ratio": f"Raise data.max_length_ratio (now {data.max_length_ratio}), or check that the two "
        "sides belong together line by line",
        "too_long": f"Raise data.max_length (now {data.max_length}), or split the text into sentences",
    }
    reason = max(remedies, key=dataclasses.asdict(report).__getitem__)
    return DataError(f"nothing is left of corpus {name!r}: {report.text(store.examples_are)}. {remedies[reason]}.")

"""From a config to tokenizers and tokens: everything that happens to text before batches.

Every fault of the data that can be found is found here, before training starts. Training text is read as a stream,
tokenised once and kept in the cache; a second call with the same text and settings finds everything there.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from transformer.config import Config, DataConfig, TokenizerConfig
from transformer.data import corpora
from transformer.data.cache import Cache, atomic_folder, key_of
from transformer.data.corpora import Corpus
from transformer.data.errors import DataError
from transformer.data.filters import FilterReport, SeenPairs
from transformer.data.progress import Progress, silent
from transformer.data.shards import SHARD_PAIRS, ShardFolder, chunks, tokenise
from transformer.data.store import TokenStore
from transformer.data.tokenizer import Tokenizers, read_given
from transformer.data.tokenizer_training import train

# Raise it when the same text and settings begin to give other tokens.
_FORMAT = 1


@dataclasses.dataclass(frozen=True)
class TrainingSet:
    """One training corpus: how often an epoch sees it, its tokens, and what was dropped."""

    name: str
    weight: float
    store: TokenStore
    report: FilterReport


@dataclasses.dataclass(frozen=True)
class EvaluationSet:
    """Text to be scored on: all of it as text, for BLEU; as tokens, for the loss, the pairs that the model takes.

    `store` lacks pairs with an empty side or one beyond `data.max_length`; `report` counts them.
    """

    name: str
    sources: list[str]
    targets: list[str]
    store: TokenStore
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
        lines += [f"{role}: {corpus.name}: {corpus.report.text()}" for role, corpus in roles]
        return "\n".join(lines)


def prepare(config: Config, *, tokenizers: Tokenizers | None = None, progress: Progress = silent) -> Prepared:
    """Makes ready all data of a run, from the cache where it is there.

    Args:
      config: a validated config.
      tokenizers: those of a checkpoint, used instead of the ones the config describes.
      progress: see `progress.Progress`; `progress.ProgressBar()` draws it.

    Raises:
      DataError: for a fault in the data.
      ConfigError: for a tokenizer that does not fit, or a cache that cannot be written.
    """
    data = config.data
    training = [corpora.parse(text, data) for text in data.train]
    validation = [_parse_unweighted(text, data) for text in data.validation]
    test = [_parse_unweighted(text, data) for text in data.test]
    corpora.check([*training, *validation, *test])
    # Small, and read first: their faults should not show after an hour of work on the training text.
    validation_pairs = [pair for corpus in validation for pair in corpus.pairs()]
    test_pairs = [list(corpus.pairs()) for corpus in test]

    preparation = _Preparation(training, data, Cache.open(data.cache_dir), progress)
    if tokenizers is None:
        tokenizers = preparation.tokenizers(config.tokenizer)
    held_out = evaluation_set(" + ".join(data.validation), validation_pairs, tokenizers, data)
    tests = [
        evaluation_set(corpus.name, pairs, tokenizers, data) for corpus, pairs in zip(test, test_pairs, strict=True)
    ]
    training_sets = [preparation.training_set(index, tokenizers) for index in range(len(training))]
    return Prepared(tokenizers, training_sets, held_out, tests)


def evaluation_set(
    name: str, pairs: Sequence[tuple[str, str]], tokenizers: Tokenizers, data: DataConfig
) -> EvaluationSet:
    """Text and tokens to score on. No pair is left out of the text: scores are of the whole set."""
    made = tokenise(pairs, tokenizers, dataclasses.replace(data, max_length_ratio=0.0))
    if not made.report.kept:
        raise _nothing_left(name, made.report, data)
    return EvaluationSet(name, [pair[0] for pair in pairs], [pair[1] for pair in pairs], made.store, made.report)


def _parse_unweighted(text: str, data: DataConfig) -> Corpus:
    corpus = corpora.parse(text, data)
    if corpus.weight != 1:
        raise DataError(f"corpus {text!r} is scored, so it has no weight. Write {corpus.name!r}.")
    return corpus


class _Preparation:
    """What is made of the training corpora, and kept in the cache."""

    def __init__(self, training: list[Corpus], data: DataConfig, cache: Cache, progress: Progress):
        self._training = training
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
        key = key_of("tokenizer", _FORMAT, self._contents, dataclasses.asdict(config))
        folder = self._cache.root / "tokenizers" / key
        with self._cache.lock(key, self._waiting):
            if not folder.exists():
                self._counts = {index: self._count(corpus) for index, corpus in enumerate(self._training)}
                total = sum(self._counts.values())
                self._progress("training the tokenizer", 0, total)
                trained = train(self._all_pairs, total, config)
                with atomic_folder(folder) as unfinished:
                    for name, content in trained.to_files().items():
                        (unfinished / name).write_bytes(content)
            return Tokenizers.from_files({file.name: file.read_bytes() for file in folder.iterdir()})

    def training_set(self, index: int, tokenizers: Tokenizers) -> TrainingSet:
        """One corpus as tokens."""
        corpus = self._training[index]
        key = self._tokens_key(index, tokenizers)
        folder = self._cache.root / "tokens" / key
        shards = ShardFolder(folder.with_name(f"{key}.parts"))
        with self._cache.lock(key, self._waiting):
            if not folder.exists():
                self._tokenise(index, tokenizers, shards, folder)
            # Outside of that: a kill may have come between the two.
            shards.remove()
        report = FilterReport(**json.loads((folder / "report.json").read_text()))
        return TrainingSet(corpus.name, corpus.weight, TokenStore.open(folder), report)

    def _tokens_key(self, index: int, tokenizers: Tokenizers) -> str:
        data = self._data
        models = [hashlib.sha256(side.model_bytes).hexdigest() for side in (tokenizers.source, tokenizers.target)]
        # With deduplication a corpus depends on those before it.
        contents = self._contents[: index + 1] if data.deduplicate else [self._contents[index]]
        return key_of("tokens", _FORMAT, contents, models, data.max_length, data.max_length_ratio, data.deduplicate)

    def _tokenise(self, index: int, tokenizers: Tokenizers, shards: ShardFolder, folder: Path) -> None:
        corpus = self._training[index]
        what, total = f"tokenising {corpus.name}", self._counts.get(index)
        shards.make(
            corpus.pairs(),
            tokenizers,
            self._data,
            self._seen_before(index),
            lambda done: self._progress(what, done, total),
        )
        report = shards.report()
        if not report.kept:
            raise _nothing_left(corpus.name, report, self._data)
        with atomic_folder(folder) as unfinished:
            shards.join(unfinished)
            (unfinished / "report.json").write_text(json.dumps(dataclasses.asdict(report)))

    def _seen_before(self, index: int) -> SeenPairs | None:
        """All pairs of the corpora before this one, when duplicates are dropped."""
        if not self._data.deduplicate:
            return None
        seen = SeenPairs()
        for corpus in self._training[:index]:
            for chunk in chunks(corpus.pairs(), SHARD_PAIRS):
                seen.add(chunk)
        return seen

    def _all_pairs(self) -> Iterator[tuple[str, str]]:
        for corpus in self._training:
            yield from corpus.pairs()

    def _count(self, corpus: Corpus) -> int:
        """Pairs of a corpus. Reading it whole here finds its faults before a model is trained on it."""
        count = 0
        for chunk in chunks(corpus.pairs(), SHARD_PAIRS):
            count += len(chunk)
            self._progress(f"reading {corpus.name}", count, None)
        return count

    def _waiting(self) -> None:
        self._progress("waiting for another process that prepares the same data", 0, None)


def _nothing_left(name: str, report: FilterReport, data: DataConfig) -> DataError:
    remedies = {
        "empty": "Check that both sides were written: one without text has no translation",
        "duplicate": "Leave it out, as corpora before it hold the same pairs, or set data.deduplicate to False",
        "length_ratio": f"Raise data.max_length_ratio (now {data.max_length_ratio}), or check that the two "
        "sides belong together line by line",
        "too_long": f"Raise data.max_length (now {data.max_length}), or split the text into sentences",
    }
    reason = max(remedies, key=dataclasses.asdict(report).__getitem__)
    return DataError(f"nothing is left of corpus {name!r}: {report.text()}. {remedies[reason]}.")

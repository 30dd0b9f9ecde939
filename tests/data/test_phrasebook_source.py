"""The phrasebook as a corpus."""

import itertools

import pytest

from transformer.config import DataConfig
from transformer.data import corpora, phrasebook
from transformer.data.errors import DataError


@pytest.mark.parametrize("split", ["validation", "test"])
def test_both_directions(split):
    forth = list(corpora.parse(f"phrasebook:{split}", DataConfig()).pairs())
    back = corpora.parse(f"phrasebook:{split}", DataConfig(source_language="de", target_language="en")).pairs()
    assert forth == [(pair.source, pair.target) for pair in phrasebook.pairs(split)]
    assert list(back) == [(target, source) for source, target in forth]


def test_count_of_pairs():
    assert list(corpora.parse("phrasebook:test:7", DataConfig()).pairs()) == [
        (pair.source, pair.target) for pair in phrasebook.pairs("test", 7)
    ]
    more = corpora.parse("phrasebook:train:1000000", DataConfig()).pairs()
    assert len(set(itertools.islice(more, 130_000))) == 130_000


def test_more_pairs_than_there_are(monkeypatch):
    monkeypatch.setattr(phrasebook.corpus, "FRAMES", (min(phrasebook.corpus.FRAMES, key=lambda frame: frame.size),))
    with pytest.raises(DataError, match="count = 1000000: the test split has no more than [0-9]+ pairs. Ask for"):
        list(corpora.parse("phrasebook:test:1000000", DataConfig()).pairs())


def test_identity_follows_the_count():
    def identity(name: str) -> str:
        return corpora.parse(name, DataConfig()).source.identity

    assert identity("phrasebook:train:1000") != identity("phrasebook:train:1001") != identity("phrasebook")
    assert identity("phrasebook:train:120000") == identity("phrasebook")


def test_identity_tells_splits_and_directions_apart():
    data = [DataConfig(), DataConfig(source_language="de", target_language="en")]
    sources = [corpora.parse(f"phrasebook:{split}", one).source for split in ("train", "test") for one in data]
    assert len({source.identity for source in sources}) == 4
    # The grammar's own files decide the text, so the cache follows them.
    assert {path.name for path in sources[0].files()} >= {"__init__.py", "corpus.py"}


@pytest.mark.parametrize("languages", [("en", "fr"), ("fr", "de"), ("en", "en")])
def test_other_languages_are_refused(languages):
    data = DataConfig(source_language=languages[0], target_language=languages[1])
    with pytest.raises(DataError, match=f"{languages[0]!r} to {languages[1]!r}.*source_language"):
        corpora.parse("phrasebook", data)

"""The phrasebook as a corpus."""

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

"""Corpora whose files do not depend on the current folder."""

from pathlib import Path

import pytest

from transformer.cli.absolute_paths import absolute
from transformer.config import Config

HERE = str(Path.cwd())


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("lines:a.en,b.en:/c/a.de,b.de", f"lines:{HERE}/a.en,{HERE}/b.en:/c/a.de,{HERE}/b.de"),
        ("2*tsv:a.tsv", f"2*tsv:{HERE}/a.tsv"),
        ("text:a.txt[:90%],b.txt", f"text:{HERE}/a.txt[:90%],{HERE}/b.txt"),
        ("0.5*text:jsonl:data/*.gz[90%:]", f"0.5*text:jsonl:{HERE}/data/*.gz[90%:]"),
        ("phrasebook:test:10", "phrasebook:test:10"),
        ("tfds_text:c4/en:train", "tfds_text:c4/en:train"),
    ],
)
def test_files_of_corpora_are_absolute(written, expected):
    config = Config()
    config.data.train = (written,)
    assert absolute(config).data.train == (expected,)

"""Corpus strings: kinds, weights, and what is said about strings that name nothing."""

from pathlib import Path

import pytest

from transformer.config import DataConfig
from transformer.data import corpora
from transformer.data.errors import DataError
from transformer.data.line_files import LineFiles, TsvFiles
from transformer.data.phrasebook_source import Phrasebook, PhrasebookText
from transformer.data.text_files import FileRange, Splitting, TextFiles
from transformer.data.tfds_source import Records, TfdsSet, TfdsText

DATA = DataConfig(data_dir="/prepared")


@pytest.mark.parametrize(
    ("text", "weight", "source"),
    [
        ("lines:a.en:a.de", 1, LineFiles((Path("a.en"),), (Path("a.de"),))),
        ("2*lines:a,b:c,d", 2, LineFiles((Path("a"), Path("b")), (Path("c"), Path("d")))),
        ("0.5*tsv:a*b.tsv", 0.5, TsvFiles((Path("a*b.tsv"),))),
        ("tsv:2*a.tsv", 1, TsvFiles((Path("2*a.tsv"),))),
        ("tfds:wmt14_translate/de-en", 1, TfdsSet(Records("wmt14_translate/de-en", "train", "/prepared"), "en", "de")),
        (
            "3*tfds:opus/medical:train[:10%]",
            3,
            TfdsSet(Records("opus/medical", "train[:10%]", "/prepared"), "en", "de"),
        ),
        ("tfds_text:c4/en:train[:10%]:txt", 1, TfdsText(Records("c4/en", "train[:10%]", "/prepared"), "txt")),
        ("tfds_text:c4/en", 1, TfdsText(Records("c4/en", "train", "/prepared"), "text")),
        ("2*text:a.txt", 2, TextFiles(Splitting.FILE, (FileRange(Path("a.txt")),))),
        ("text:lines:*.gz,b", 1, TextFiles(Splitting.LINES, (FileRange(Path("*.gz")), FileRange(Path("b"))))),
        ("text:a[:90%]", 1, TextFiles(Splitting.FILE, (FileRange(Path("a"), 0, 90),))),
        (
            "text:jsonl:a[2.5%:],b",
            1,
            TextFiles(Splitting.JSONL, (FileRange(Path("a"), 2.5, 100), FileRange(Path("b")))),
        ),
        ("phrasebook_text:test:9", 1, PhrasebookText(Phrasebook("test", 9, "en"))),
        ("phrasebook", 1, Phrasebook("train", None, "en")),
        ("1e-1*phrasebook:test", 0.1, Phrasebook("test", None, "en")),
        ("2*phrasebook:train:1000000", 2, Phrasebook("train", 1_000_000, "en")),
    ],
)
def test_strings_are_understood(text, weight, source):
    corpus = corpora.parse(text, DATA)
    assert (corpus.weight, corpus.source) == (weight, source)
    assert text.endswith(corpus.name) and "*" not in corpus.name.split(":")[0]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("line:a:b", ["'line:a:b'", "unknown kind 'line'", "lines:SOURCE_FILES:TARGET_FILES"]),
        ("a.en", ["unknown kind 'a.en'", "tsv:FILES"]),
        ("", ["unknown kind ''"]),
        ("two*phrasebook", ["weight 'two'", "positive number"]),
        ("0*phrasebook", ["weight '0'"]),
        ("-1*phrasebook", ["weight '-1'"]),
        ("nan*phrasebook", ["weight 'nan'"]),
        ("inf*phrasebook", ["weight 'inf'"]),
        ("*phrasebook", ["weight ''"]),
        ("lines:a", ["'lines:a'", "1 sides, not 2"]),
        ("lines:a:b:c", ["3 sides, not 2"]),
        ("lines:a,b:c", ["2 source files and 1 target files"]),
        ("lines:a,:b,c", ["empty file name"]),
        ("tsv:", ["empty file name"]),
        ("lines:gs://bucket/a.en:gs://bucket/a.de", ["gs://bucket/a.en", "only local files"]),
        ("tfds:", ["names no data set", "tfds:NAME/CONFIG"]),
        ("tfds:a/b/c", ["names no data set"]),
        ("text:", ["empty file name"]),
        ("text:line:a", ["splitting 'line'", "file, lines, paragraphs, jsonl"]),
        ("text:lines:a:b", ["too many colons"]),
        ("text:a[90%:10%]", ["90% to 10% is no part of a file"]),
        ("text:a[:101%]", ["0% to 101%"]),
        ("text:s3://bucket/a", ["only local files"]),
        ("phrasebook_text:trian", ["no split 'trian'"]),
        ("phrasebook:trian", ["no split 'trian'", "train, validation, test"]),
        ("phrasebook:1000", ["no split '1000'"]),
        ("phrasebook:train:", ["has the count ''"]),
        ("phrasebook:train:0", ["has the count '0'", "phrasebook:train:1000000"]),
        ("phrasebook:train:-5", ["has the count '-5'"]),
        ("phrasebook:train:1e6", ["has the count '1e6'"]),
    ],
)
def test_strings_that_name_nothing(text, parts):
    with pytest.raises(DataError) as caught:
        corpora.parse(text, DATA)
    for part in parts:
        assert part in str(caught.value)


def test_missing_files_of_all_corpora_come_in_one_message(tmp_path):
    names = [f"tsv:{tmp_path}/a.tsv", f"tsv:{tmp_path}/b.tsv"]
    with pytest.raises(DataError, match="(?s)a.tsv: no such file.*b.tsv: no such file"):
        corpora.check([corpora.parse(name, DATA) for name in names])


def test_pairs_are_documents_whose_sources_are_prompts(tmp_path):
    (tmp_path / "a.tsv").write_text("one\teins\n\tzwei\nthree\t\n")
    corpus = corpora.parse(f"tsv:{tmp_path}/a.tsv", DATA)
    assert [(part.prompt, part.text) for part in corpus.documents()] == [
        ("one\n", "eins"),
        ("", "zwei"),
        ("three\n", ""),
    ]


def test_text_alone_is_no_corpus_of_pairs(tmp_path):
    with pytest.raises(DataError, match="is text alone.*lines:.*set model.architecture to language_model"):
        list(corpora.parse(f"text:{tmp_path}/a.txt", DATA).pairs())


def test_sentences_of_the_phrasebook_are_documents():
    pairs = list(corpora.parse("phrasebook:test:5", DATA).pairs())
    texts = list(corpora.parse("phrasebook_text:test:5", DATA).documents())
    assert [(part.prompt, part.text) for part in texts] == [("", target) for _, target in pairs]

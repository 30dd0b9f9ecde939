"""TFDS sets, written in array_record and read back by the real code, all without TensorFlow."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_tfds import write_nested, write_text, write_wmt14

from transformer.config import DataConfig
from transformer.data import corpora
from transformer.data.errors import DataError

TEXTS = ["  one\n\ntwo \n", "\r\n\u2028é", "", *(f"text {number}" for number in range(7))]
PAIRS = [(f"sentence {number}", f"Satz „{number}“") for number in range(20)]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """A folder where both sets are prepared."""
    folder = tmp_path_factory.mktemp("tfds")
    write_wmt14(folder, "de", {"train": PAIRS, "test": PAIRS})
    write_nested(folder, {"train": PAIRS})
    write_text(folder, {"train": TEXTS, "test": TEXTS[:1]})
    return str(folder)


def read(corpus: str, **changes) -> list[tuple[str, str]]:
    parsed = corpora.parse(corpus, DataConfig(**changes))
    corpora.check([parsed])
    return list(parsed.pairs())


def test_either_direction(data_dir):
    forth = read("tfds:wmt14_translate/de-en", data_dir=data_dir)
    back = read("tfds:wmt14_translate/de-en", data_dir=data_dir, source_language="de", target_language="en")
    assert sorted(forth) == sorted(PAIRS)
    assert back == [(target, source) for source, target in forth]


def test_splits_and_slices(data_dir):
    whole = read("tfds:wmt14_translate/de-en:test", data_dir=data_dir)
    assert read("tfds:wmt14_translate/de-en:test[25%:75%]", data_dir=data_dir) == whole[5:15]


def test_nested_features_of_a_set_whose_code_is_unknown(data_dir):
    assert sorted(read("tfds:nested_translate", data_dir=data_dir)) == sorted(PAIRS)


def test_more_records_than_are_read_at_once(data_dir, monkeypatch):
    whole = read("tfds:wmt14_translate/de-en", data_dir=data_dir)
    monkeypatch.setattr("transformer.data.tfds_source._RECORDS_AT_ONCE", 7)
    assert read("tfds:wmt14_translate/de-en", data_dir=data_dir) == whole


def read_text(corpus: str, data_dir: str) -> list[str]:
    parsed = corpora.parse(corpus, DataConfig(data_dir=data_dir))
    corpora.check([parsed])
    parts = list(parsed.documents())
    assert all(part.whole and not part.prompt for part in parts)
    return [part.text for part in parts]


def test_texts_are_kept_as_they_are(data_dir):
    whole = read_text("tfds_text:tiny_text", data_dir)
    assert sorted(whole) == sorted(TEXTS)
    assert read_text("tfds_text:tiny_text:train[:50%]", data_dir) == whole[:5]
    assert read_text("tfds_text:tiny_text:train[:50%]:backwards", data_dir) == [text[::-1] for text in whole[:5]]
    assert read_text("tfds_text:tiny_text:test", data_dir) == TEXTS[:1]


def test_pairs_are_documents_too(data_dir):
    corpus = corpora.parse("tfds:wmt14_translate/de-en", DataConfig(data_dir=data_dir))
    assert [(part.prompt, part.text) for part in corpus.documents()] == [
        (f"{source}\n", target) for source, target in corpus.pairs()
    ]


@pytest.mark.parametrize(
    ("corpus", "message"),
    [
        ("tfds_text:tiny_text:train:txet", "no feature 'txet', only: backwards, number, text. Name the one"),
        ("tfds_text:wmt14_translate/de-en", "no feature 'text', only: de, en"),
        ("tfds_text:tiny_text:train:number", "feature 'number' holds no text"),
        ("tfds_text:tiny_text:trian", "no split 'trian'"),
        ("tfds_text:", "names no data set"),
        ("tfds:tiny_text", "only: backwards, number, text. .* write tfds_text:tiny_text"),
    ],
)
def test_text_that_is_not_there(data_dir, corpus, message):
    with pytest.raises(DataError, match=message):
        read_text(corpus, data_dir)


def test_tensorflow_is_not_imported(data_dir, tmp_path):
    """Where it is installed (here: a stand-in), reading does not load it."""
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow" / "__init__.py").write_text('__version__ = "99.0"\n')
    program = f"""
import sys
from transformer.config import DataConfig
from transformer.data import corpora
corpus = corpora.parse("tfds:wmt14_translate/de-en", DataConfig(data_dir={data_dir!r}))
corpora.check([corpus])
assert len(list(corpus.pairs())) == {len(PAIRS)}
sys.exit("tensorflow was loaded" if "tensorflow" in sys.modules else 0)
"""
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{Path(corpora.__file__).parents[2]}"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# --- bad input, each with its message ---


def refusal(corpus: str, **changes) -> str:
    with pytest.raises(DataError) as caught:
        read(corpus, **changes)
    return str(caught.value)


def test_not_prepared_gives_the_command(tmp_path):
    message = refusal("tfds:wmt14_translate/fr-en", data_dir=str(tmp_path))
    assert "is not prepared in" in message
    assert f"\n  tfds build wmt14_translate/fr-en --file_format=array_record --data_dir={tmp_path}\n" in message


def test_remote_folders_are_refused(monkeypatch):
    message = refusal("tfds:wmt14_translate/de-en", data_dir="gs://bucket/sets")
    assert "only local folders are read, not gs://bucket/sets" in message and "data.data_dir" in message
    monkeypatch.setenv("TFDS_DATA_DIR", "gs://bucket/others")
    assert "not gs://bucket/others" in refusal("tfds:wmt14_translate/de-en")


def test_prepared_as_tfrecord_gives_the_commands(data_dir, tmp_path):
    folder = tmp_path / "wmt14_translate/de-en/1.0.0"
    folder.mkdir(parents=True)
    # Only TensorFlow writes tfrecord: what is read of such a set before it is refused is its description.
    for path in Path(data_dir, "wmt14_translate/de-en/1.0.0").iterdir():
        content = (
            path.read_bytes() if path.suffix != ".json" else path.read_bytes().replace(b"array_record", b"tfrecord")
        )
        (folder / path.name.replace("array_record", "tfrecord")).write_bytes(content)
    message = refusal("tfds:wmt14_translate/de-en", data_dir=str(tmp_path))
    assert "is prepared as tfrecord" in message
    assert f"\n  tfds convert_format --dataset_version_dir={folder} --out_file_format=array_record\n" in message
    assert "\n  tfds build wmt14_translate/de-en --file_format=array_record --data_dir=FOLDER\n" in message


@pytest.mark.parametrize("name", ["no_such_translate/de-en", "wmt14_translate/xx-en"])
def test_unknown_set_or_config(data_dir, name):
    message = refusal(f"tfds:{name}", data_dir=data_dir)
    assert f"tfds:{name}: TFDS knows no data set or config of that name" in message and data_dir in message
    assert len(message) < 600  # TFDS alone writes three thousand


@pytest.mark.parametrize("split", ["validatoin", "train[:x]"])
def test_unknown_split(data_dir, split):
    message = refusal(f"tfds:wmt14_translate/de-en:{split}", data_dir=data_dir)
    assert f"no split {split!r}. Choose from train, test" in message


@pytest.mark.parametrize("name", ["wmt14_translate/de-en", "nested_translate"])
def test_language_that_is_not_there(data_dir, name):
    message = refusal(f"tfds:{name}", data_dir=data_dir, target_language="fr")
    assert "no text in data.target_language = 'fr', only: de, en" in message


def test_missing_package(data_dir, monkeypatch):
    monkeypatch.setitem(sys.modules, "array_record", None)
    assert "pip install tensorflow-datasets array_record" in refusal("tfds:wmt14_translate/de-en", data_dir=data_dir)

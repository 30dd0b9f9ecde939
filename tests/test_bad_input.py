"""Bad input, tried through the command line: each ends with one message that names what is wrong and the way out.

Nothing is written: no work directory is there afterwards.
"""

import gzip

import pytest

from transformer.cli.main import main

GOOD = "Good morning .\nHow are you ?\nThank you .\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with line files, good and bad."""
    monkeypatch.chdir(tmp_path)
    files = {
        "a.en": GOOD.encode(),
        "a.de": GOOD.encode(),
        "short.de": b"Guten Morgen .\n",
        "latin.de": "Grüß Gott .\nWie geht es ?\nDanke .\n".encode("latin-1"),
        "empty.en": b"",
        "empty.de": b"",
        "blank.en": b"\n\n\n",
        "columns.tsv": b"one\ttwo\nonly one\n",
        "broken.gz": gzip.compress(GOOD.encode())[:-9],
        "tokenizer.model": b"not a model",
        "wrong.py": b"from transformer.config import Config\n\ndef get_config():\n    c = Config()\n    c.model.d_modle = 3\n    return c\n",
        "syntax.py": b"def get_config(:\n",
        "nothing.py": b"x = 1\n",
        "a_file": b"",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def lines(pair: str) -> str:
    return f"--config.data.train=lines:{pair}"


TRAIN = ["train", "--config=phrasebook", "--workdir=out"]
BAD = {
    # words, and what the message must say
    "no verb": ([], ["transformer VERB"]),
    "unknown verb": (["trian"], ["trian", "Did you mean train?"]),
    "unknown flag": ([*TRAIN, "--wrokdir=x"], ["wrokdir", "--help"]),
    "a stray word": ([*TRAIN, "extra"], ["extra", "flags only"]),
    "no workdir": (["train", "--config=phrasebook"], ["--workdir is missing", "--workdir=runs/"]),
    "no config": (["train", "--workdir=out"], ["--config is missing", "phrasebook"]),
    "unknown config": (["train", "--config=phrasebok", "--workdir=out"], ["phrasebok", "phrasebook"]),
    "config with a syntax error": (["train", "--config=syntax.py", "--workdir=out"], ["syntax.py", "line 1"]),
    "config without get_config": (["train", "--config=nothing.py", "--workdir=out"], ["nothing.py", "get_config"]),
    "config sets an unknown field": (["train", "--config=wrong.py", "--workdir=out"], ["d_modle", "d_model"]),
    "unknown field": ([*TRAIN, "--config.optimizer.learning_rat=1"], ["learning_rat", "optimizer.learning_rate"]),
    "wrong type": ([*TRAIN, "--config.model.d_model=wide"], ["model.d_model", "wide", "int"]),
    "not one of the choices": ([*TRAIN, "--config.model.norm=middle"], ["model.norm", "middle", "post, pre"]),
    "out of range": ([*TRAIN, "--config.model.dropout=1.5"], ["model.dropout", "1.5", "below 1"]),
    "not a number": ([*TRAIN, "--config.optimizer.learning_rate=nan"], ["optimizer.learning_rate", "nan", "above 0"]),
    "heads do not divide": ([*TRAIN, "--config.model.num_heads=7"], ["model.num_heads", "7", "divisor"]),
    "mesh does not fit": ([*TRAIN, "--config.mesh.data=3"], ["mesh", "3", "-1"]),
    "rows do not divide": (
        [*TRAIN, "--config.training.accumulate=3"],
        ["training.accumulate", "3", "data.rows_multiple_of"],
    ),
    "batch too small": ([*TRAIN, "--config.data.batch_tokens=100"], ["data.batch_tokens", "100", "Raise it to"]),
    "tied but separate": (
        [*TRAIN, "--config.tokenizer.shared=false"],
        ["model.tied_embeddings", "tied_embeddings=output"],
    ),
    "attention without a class": ([*TRAIN, "--config.model.attention=mine"], ["model.attention", "package.module:Class"]),
    "attention that is not there": (
        [*TRAIN, "--config.model.attention=no_such_module:Mine", lines("a.en:a.de"), "--config.tokenizer.vocab_size=24"],
        ["model.attention", "no_such_module", "PYTHONPATH"],
    ),
    "unknown corpus": ([*TRAIN, "--config.data.train=file:a"], ["file:a", "lines:"]),
    "corpus with a bad weight": ([*TRAIN, "--config.data.train=0*phrasebook"], ["0*phrasebook", "weight"]),
    "missing file": ([*TRAIN, lines("b.en:a.de")], ["b.en"]),
    "sides of unequal length": ([*TRAIN, lines("a.en:short.de")], ["a.en", "short.de", "3", "1"]),
    "undecodable bytes": ([*TRAIN, lines("a.en:latin.de")], ["latin.de", "line 1", "UTF-8"]),
    "empty corpus": ([*TRAIN, lines("empty.en:empty.de")], ["empty.en"]),
    "nothing left by the filter": ([*TRAIN, lines("blank.en:a.de")], ["blank.en"]),
    "a truncated archive": ([*TRAIN, lines("broken.gz:a.de")], ["broken.gz"]),
    "TSV without two columns": ([*TRAIN, "--config.data.train=tsv:columns.tsv"], ["columns.tsv", "line 2"]),
    "unknown TFDS set": ([*TRAIN, "--config.data.train=tfds:no_such_set/de-en"], ["no_such_set"]),
    "phrasebook in another language": (
        [*TRAIN, "--config.data.target_language=fr"],
        ["phrasebook", "fr", "data.target_language"],
    ),
    "a tokenizer that is none": (
        [*TRAIN, "--config.tokenizer.model=tokenizer.model"],
        ["tokenizer.model", "SentencePiece"],
    ),
    "a vocabulary too large": (
        [*TRAIN, lines("a.en:a.de"), "--config.tokenizer.vocab_size=5000"],
        ["tokenizer.vocab_size", "5000"],
    ),
    "translate without a run": (["translate", "--workdir=nowhere"], ["nowhere", "no such folder"]),
    "translate an empty folder": (["translate", "--workdir=."], ["holds no checkpoint", "Train first"]),
    "an override that translate cannot take": (
        ["translate", "--workdir=.", "--config.model.d_model=4"],
        ["model.d_model", "decoding."],
    ),
    "two test sets": (["evaluate", "--workdir=.", "--test=a", "--sacrebleu=wmt14"], ["--sacrebleu", "--test"]),
    "average of nothing": (["average", "--workdir=.", "--last=2"], ["0 checkpoints", "keep_last"]),
    "a workdir that is a file": (["train", "--config=phrasebook", "--workdir=a_file"], ["a_file"]),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_explained(name, folder, capsys):
    before = sorted(path.name for path in folder.iterdir())
    words, expected = BAD[name]
    with pytest.raises(SystemExit) as end:
        main(words)
    message = capsys.readouterr().err
    assert end.value.code == 2, message
    for text in expected:
        assert text in message
    assert "Traceback" not in message
    assert sorted(path.name for path in folder.iterdir()) == before

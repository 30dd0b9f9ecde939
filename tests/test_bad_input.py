"""Bad input, tried through the command line: each ends with one message that names what is wrong and the way out.

Nothing is written: no work directory is there afterwards.
"""

import gzip

import pytest

from transformer.cli.main import main

CONFIG = (
    "from transformer.config import Config\n\ndef get_config():\n    config = Config()\n    {}\n    return config\n"
)
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
        "wrong.py": CONFIG.format("config.model.d_modle = 3").encode(),
        "syntax.py": b"def get_config(:\n",
        "nothing.py": b"x = 1\n",
        "a_file": b"",
        "notes.txt": b"",
        "not_a_class.py": b"Mine = 3\n",
        "broken/config.json": b'{"seed": ',
        "list/config.json": b"[]",
        "latin/config.json": b'"\xe4"',
        "section/config.json": b'{"model": 3}',
        "newer/config.json": b'{"model": {"d_modle": 3}}',
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def lines(pair: str) -> str:
    return f"--config.data.train=lines:{pair}"


# A corpus that is not there: what is told instead was found before the data is touched.
UNPREPARED = [lines("nowhere.en:nowhere.de")]
TRAIN = ["train", "--config=phrasebook", "--workdir=out"]
DAMAGED = ["is damaged, or of another version", "checkpoints"]
BAD = {
    # words, and what the message must say
    "no verb": ([], ["transformer VERB"]),
    "unknown verb": (["trian"], ["trian", "Did you mean train?"]),
    "unknown flag": ([*TRAIN, "--wrokdir=x"], ["wrokdir", "--help"]),
    "a stray word": ([*TRAIN, "extra"], ["extra", "flags only"]),
    "no workdir": (["train", "--config=phrasebook"], ["--workdir is missing", "--workdir=runs/"]),
    "no config": (["train", "--workdir=out"], ["--config is missing", "phrasebook"]),
    "unknown config": (["train", "--config=phrasebok", "--workdir=out"], ["phrasebok", "Did you mean phrasebook?"]),
    "a config that is no .py": (["train", "--config=notes.txt", "--workdir=out"], ["notes.txt", "must end in .py"]),
    "a config without its .py": (["train", "--config=wrong", "--workdir=out"], ["wrong", "Did you mean wrong.py?"]),
    "a config that is a folder": (["train", "--config=newer", "--workdir=out"], ["newer", "is a folder"]),
    "config with a syntax error": (["train", "--config=syntax.py", "--workdir=out"], ["syntax.py", "line 1"]),
    "config without get_config": (["train", "--config=nothing.py", "--workdir=out"], ["nothing.py", "get_config"]),
    "config sets an unknown field": (["train", "--config=wrong.py", "--workdir=out"], ["d_modle", "d_model"]),
    "unknown field": ([*TRAIN, "--config.optimizer.learning_rat=1"], ["learning_rat", "optimizer.learning_rate"]),
    "wrong type": ([*TRAIN, "--config.model.d_model=wide"], ["model.d_model", "wide", "int"]),
    "a corpus that is no text": (
        [*TRAIN, "--config.data.train=(1, 2)"],
        ["data.train", "(1, 2)", "tuple[str", "('lines:a.en:a.de',)"],
    ),
    "a path without a value": ([*TRAIN, "--config.data.cache_dir"], ["data.cache_dir", "has no value", "some/PATH"]),
    "a switch set off twice": (
        [*TRAIN, "--noconfig.data.deduplicate=true"],
        ["--noconfig.data.deduplicate takes no value", "--config.data.deduplicate=true"],
    ),
    "not one of the choices": ([*TRAIN, "--config.model.norm=middle"], ["model.norm", "middle", "post, pre"]),
    "out of range": ([*TRAIN, "--config.model.dropout=1.5"], ["model.dropout", "1.5", "below 1"]),
    "not a number": ([*TRAIN, "--config.optimizer.learning_rate=nan"], ["optimizer.learning_rate", "nan", "above 0"]),
    "infinite": ([*TRAIN, "--config.optimizer.learning_rate=inf"], ["optimizer.learning_rate", "inf", "above 0"]),
    "too many characters covered": (
        [*TRAIN, "--config.tokenizer.character_coverage=1.5"],
        ["tokenizer.character_coverage", "1.5", "at most 1"],
    ),
    "a vocabulary of nothing": ([*TRAIN, "--config.tokenizer.vocab_size=4"], ["tokenizer.vocab_size", "4", "above 4"]),
    "a vocabulary of bytes alone": (
        [*TRAIN, "--config.tokenizer.vocab_size=260", "--config.tokenizer.byte_fallback"],
        ["tokenizer.vocab_size", "bytes", "above 260"],
    ),
    "a ratio below 1": ([*TRAIN, "--config.data.max_length_ratio=0.5"], ["data.max_length_ratio", "0.5", "1 or more"]),
    "no validation": ([*TRAIN, "--config.data.validation=()"], ["data.validation", "is empty"]),
    "an average of more than is kept": (
        [*TRAIN, "--config.checkpoint.average=9"],
        ["checkpoint.average", "9", "keep_last", "Raise keep_last"],
    ),
    "fsdp does not divide the width": (
        [*TRAIN, *UNPREPARED, "--config.mesh.fsdp=8", "--config.model.d_model=36"],
        ["mesh.fsdp", "d_model = 36", "Change one"],
    ),
    "tensor does not divide the vocabulary": (
        [*TRAIN, *UNPREPARED, "--config.mesh.tensor=4", "--config.tokenizer.vocab_size=1001"],
        ["mesh.tensor", "vocabulary of 1001", "Change one"],
    ),
    "heads do not divide": ([*TRAIN, "--config.model.num_heads=7"], ["model.num_heads", "7", "divisor"]),
    "rotary scaling of other positions": (
        [*TRAIN, "--config.model.rotary_scaling=linear", "--config.model.rotary_factor=4"],
        ["model.rotary_scaling", "linear", "Set model.positions=rotary"],
    ),
    "rotary scaling by nothing": (
        [*TRAIN, "--config.model.positions=rotary", "--config.model.rotary_scaling=ntk"],
        ["model.rotary_scaling", "ntk", "rotary_factor above 1"],
    ),
    "a table of no learned positions": (
        [*TRAIN, "--config.model.max_length=64"],
        ["model.max_length = 64", "model.positions = sinusoidal", "Set model.positions=learned", "at 1024"],
    ),
    "a base of no rotary positions": (
        [*TRAIN, "--config.model.rotary_base=500000"],
        ["model.rotary_base = 500000.0", "model.positions = sinusoidal", "Set model.positions=rotary", "at 10000.0"],
    ),
    "buckets of no T5 positions": (
        [*TRAIN, "--config.model.positions=shaw", "--config.model.t5_buckets=16"],
        ["model.t5_buckets = 16", "model.positions = shaw", "Set model.positions=t5, or leave t5_buckets at 32"],
    ),
    "a distance of no T5 positions": (
        [*TRAIN, "--config.model.t5_max_distance=64"],
        ["model.t5_max_distance = 64", "Set model.positions=t5, or leave t5_max_distance at 128"],
    ),
    "a distance of no Shaw positions": (
        [*TRAIN, "--config.model.positions=t5", "--config.model.shaw_distance=8"],
        ["model.shaw_distance = 8", "model.positions = t5", "Set model.positions=shaw"],
    ),
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
    "attention without a class": (
        [*TRAIN, "--config.model.attention=mine:"],
        ["model.attention", "names no class", "package.module:Class"],
    ),
    "attention that is not there": (
        [*TRAIN, *UNPREPARED, "--config.model.attention=no_such_module:Mine"],
        ["model.attention", "No module named 'no_such_module'", "PYTHONPATH"],
    ),
    "attention that the module lacks": (
        [*TRAIN, *UNPREPARED, "--config.model.attention=not_a_class:Yours"],
        ["model.attention", "no attribute 'Yours'", "Name a class that the module defines"],
    ),
    "attention that is no class": (
        [*TRAIN, *UNPREPARED, "--config.model.attention=not_a_class:Mine"],
        ["model.attention", "is int, not a class"],
    ),
    "a pattern of no parameter": (
        [*TRAIN, *UNPREPARED, "--config.transfer.freeze=encodr:0-2"],
        ["transfer.freeze", "'encodr:0-2'", "Did you mean encoder"],
    ),
    "layers that are not there": (
        [*TRAIN, *UNPREPARED, "--config.transfer.train_only=encoder:0-6"],
        ["transfer.train_only", "has no layer 6", "0 to 2"],
    ),
    "everything frozen": (
        [*TRAIN, *UNPREPARED, "--config.transfer.freeze=*"],
        ["transfer.freeze", "nothing to train", "Freeze fewer"],
    ),
    "adapters of no matrix": (
        [*TRAIN, *UNPREPARED, "--config.transfer.lora_rank=4", "--config.transfer.lora_targets=*norm"],
        ["transfer.lora_targets", "no matrix of a layer", "query, value"],
    ),
    "adapters of nothing": (
        [*TRAIN, "--config.transfer.lora_rank=4", "--config.transfer.lora_targets=()"],
        ["transfer.lora_targets", "is empty", "query and value"],
    ),
    "what adapters are like, of none": (
        [*TRAIN, "--config.transfer.lora_targets=query"],
        ["transfer.lora_targets", "there are no adapters", "Set transfer.lora_rank"],
    ),
    "frozen beside adapters": (
        [*TRAIN, "--config.transfer.lora_rank=4", "--config.transfer.freeze=encoder"],
        ["transfer.freeze", "nothing trains anyway", "lora_targets"],
    ),
    "a start from nowhere": (
        [*TRAIN, *UNPREPARED, "--config.transfer.init_from=nowhere"],
        ["transfer.init_from", "nowhere", "holds no checkpoint", "Name a trained run's"],
    ),
    "what to start with, from nothing": (
        [*TRAIN, "--config.transfer.init_only=encoder"],
        ["transfer.init_only", "no run to start from", "Set transfer.init_from"],
    ),
    "a vocabulary beside that of the other run": (
        [*TRAIN, "--config.transfer.init_from=nowhere", "--config.tokenizer.model=tokenizer.model"],
        ["tokenizer.model", "keeps the vocabulary of transfer.init_from", "vocabulary=new"],
    ),
    "new pieces of the same vocabulary": (
        [*TRAIN, "--config.transfer.init_from=nowhere", "--config.transfer.new_pieces=fresh"],
        ["transfer.new_pieces", "the vocabulary is the same", "vocabulary=new"],
    ),
    "merging to nowhere": (["merge", "--workdir=out"], ["--output is missing", "--output=runs/merged"]),
    "merging nothing": (["merge", "--workdir=nothing", "--output=out"], ["--workdir=", "holds no checkpoint"]),
    "unknown corpus": ([*TRAIN, "--config.data.train=file:a"], ["file:a", "lines:"]),
    "text alone for a translator": (
        [*TRAIN, "--config.data.train=text:a.en"],
        ["a.en", "text alone", "model.architecture to language_model"],
    ),
    "text split in an unknown way": (
        [*TRAIN, "--config.data.train=text:sentences:a.en"],
        ["sentences", "splitting 'sentences'", "paragraphs"],
    ),
    "a language model of two vocabularies": (
        [*TRAIN, "--config.model.architecture=language_model", "--config.tokenizer.shared=false"],
        ["tokenizer.shared", "one", "Set it to true"],
    ),
    "corpus with a bad weight": ([*TRAIN, "--config.data.train=0*phrasebook"], ["0*phrasebook", "weight"]),
    "missing file": ([*TRAIN, lines("b.en:a.de")], ["b.en: ", "Correct the names"]),
    "sides of unequal length": ([*TRAIN, lines("a.en:short.de")], ["a.en", "short.de", "3 lines", "1"]),
    "undecodable bytes": ([*TRAIN, lines("a.en:latin.de")], ["latin.de", "line 1", "UTF-8"]),
    "empty corpus": ([*TRAIN, lines("empty.en:empty.de")], ["empty.en", "is empty"]),
    "nothing left by the filter": (
        [*TRAIN, lines("blank.en:a.de"), "--config.tokenizer.vocab_size=24"],
        ["blank.en", "nothing is left"],
    ),
    "a truncated archive": ([*TRAIN, lines("broken.gz:a.de")], ["broken.gz", "damaged"]),
    "TSV without two columns": (
        [*TRAIN, "--config.data.train=tsv:columns.tsv"],
        ["columns.tsv", "line 2", "1 column instead of 2"],
    ),
    "unknown TFDS set": (
        [*TRAIN, "--config.data.train=tfds:no_such_set/de-en"],
        ["no_such_set", "TFDS knows no data set"],
    ),
    "phrasebook in another language": (
        [*TRAIN, "--config.data.target_language=fr"],
        ["phrasebook", "fr", "data.target_language"],
    ),
    "a tokenizer that is none": (
        [*TRAIN, "--config.tokenizer.model=tokenizer.model"],
        ["tokenizer.model", "is not a SentencePiece model"],
    ),
    "a vocabulary too large": (
        [*TRAIN, lines("a.en:a.de"), "--config.tokenizer.vocab_size=5000"],
        ["tokenizer.vocab_size", "5000", "different pieces", "or less"],
    ),
    "translate without a run": (["translate", "--workdir=nowhere"], ["nowhere", "no such folder"]),
    "translate an empty folder": (["translate", "--workdir=."], ["holds no checkpoint", "Train first"]),
    "an override that translate cannot take": (
        ["translate", "--workdir=.", "--config.model.d_model=4"],
        ["model.d_model", "decoding."],
    ),
    "a checkpoint of another name": (
        ["translate", "--workdir=.", "--checkpoint=newest"],
        ["--checkpoint=newest", "auto, best, last, average or a step"],
    ),
    "output into a folder that is not there": (
        ["evaluate", "--workdir=.", "--output=out/test.de"],
        ["--output", "there is no folder", "Make it first"],
    ),
    "scores into a folder": (["evaluate", "--workdir=.", "--json_output=newer"], ["--json_output", "is a folder"]),
    "a config.json cut short": (["train", "--workdir=broken"], [*DAMAGED, "broken/config.json"]),
    "a config.json that is a list": (["config", "--workdir=list"], [*DAMAGED, "list/config.json", "is no section"]),
    "a config.json in latin-1": (["config", "--workdir=latin"], [*DAMAGED, "latin/config.json", "utf-8"]),
    "a section that is a number": (["train", "--workdir=section"], [*DAMAGED, "config.model = 3"]),
    "a config.json of a newer version": (["train", "--workdir=newer"], [*DAMAGED, "d_modle", "model.d_model"]),
    "two test sets": (["evaluate", "--workdir=.", "--test=a", "--sacrebleu=wmt14"], ["--sacrebleu", "--test"]),
    "average of nothing": (["average", "--workdir=.", "--last=2"], ["no sound checkpoint", "Train first"]),
    "a workdir that is a file": (
        ["train", "--config=phrasebook", "--workdir=a_file"],
        ["a_file", "is a file", "Choose another folder"],
    ),
    "a workdir in a store of another kind": (
        ["train", "--config=phrasebook", "--workdir=ftp://host/run"],
        ["ftp://host/run", "is a folder, or lies in a store", "gs://BUCKET"],
    ),
    "a cache in an object store": (
        ["train", "--config=phrasebook", "--workdir=new", "--config.data.cache_dir=gs://bucket/cache"],
        ["data.cache_dir", "gs://bucket/cache", "Name a folder"],
    ),
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

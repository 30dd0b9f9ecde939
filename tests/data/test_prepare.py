"""Preparation as a whole: what it gives, what the cache saves, and that no interruption shows in the result."""

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from sentences import make_pairs, write_sides

from transformer.config import Config, ConfigError
from transformer.data import prepare as prepare_module
from transformer.data import shards, tokenizer_training
from transformer.data.cache import Cache
from transformer.data.errors import DataError
from transformer.data.prepare import prepare
from transformer.data.tokenizer_training import train

TRAIN, VALIDATION = make_pairs(300), make_pairs(20, seed=1)
SHARD = 40


@pytest.fixture
def config(tmp_path, monkeypatch) -> Config:
    """A run on small line files, in shards of 40 pairs."""
    monkeypatch.setattr(shards, "SHARD_PAIRS", SHARD)
    config = Config()
    config.data.train = (write_sides(tmp_path, "train", TRAIN),)
    config.data.validation = (write_sides(tmp_path, "validation", VALIDATION),)
    config.data.test = ()
    config.data.cache_dir = str(tmp_path / "cache")
    config.tokenizer.vocab_size = 80
    config.tokenizer.character_coverage = 1.0
    return config


def content(folder: Path) -> dict[str, bytes]:
    """All tokens and tokenizers of a cache."""
    files = [path for room in ("tokens", "tokenizers") for path in (folder / room).rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def prepared_afresh(config: Config, folder: Path) -> dict[str, bytes]:
    """The cache of an uninterrupted run."""
    again = dataclasses.replace(config, data=dataclasses.replace(config.data, cache_dir=str(folder)))
    prepare(again)
    return content(folder)


# --- what it gives ---


def test_everything_a_run_needs(config, tmp_path):
    config.data.train = (f"2*{config.data.train[0]}", write_sides(tmp_path, "more", make_pairs(60, seed=2)))
    config.data.validation *= 2
    config.data.test = (config.data.validation[0], write_sides(tmp_path, "test", [*VALIDATION, ("", "leer")]))
    made = prepare(config)

    assert [(corpus.weight, len(corpus.store)) for corpus in made.train] == [(2, 300), (1, 60)]
    first = made.train[0].store
    assert made.tokenizers.shared and made.tokenizers.source.size == 80
    assert made.tokenizers.source.decode([first.source[7]]) == [TRAIN[7][0]]
    assert made.tokenizers.target.decode([first.target[7]]) == [TRAIN[7][1]]
    assert len(made.validation.store) == len(made.validation.sources) == 40
    # A test set is scored whole, as published; its loss is of what the model can take.
    assert [len(one.store) for one in made.test] == [20, 20]
    assert made.test[1].sources == [*(source for source, _ in VALIDATION), ""]
    assert made.test[1].targets[-1] == "leer"
    assert made.summary().splitlines()[0] == "vocabulary: 80 pieces (shared)"
    assert made.summary().splitlines()[-1].endswith("test.de: kept 20 of 21 pairs; dropped: 1 empty")


def test_separate_vocabularies(config):
    config.tokenizer.shared = False
    config.tokenizer.vocab_size = 60
    made = prepare(config)
    store = made.train[0].store
    assert not made.tokenizers.shared
    assert made.tokenizers.source.decode([store.source[3]]) == [TRAIN[3][0]]
    assert made.tokenizers.target.decode([store.target[3]]) == [TRAIN[3][1]]
    assert "vocabulary: 60 and 60 pieces (source, target)" in made.summary()


def test_tokenizers_of_a_checkpoint_are_used(config, tmp_path):
    trained = prepare(config).tokenizers
    config.tokenizer.vocab_size = 70
    config.data.cache_dir = str(tmp_path / "other")
    assert prepare(config, tokenizers=trained).tokenizers is trained
    assert not list((tmp_path / "other" / "tokenizers").iterdir())


def test_given_model_is_used(config, tmp_path):
    trained = prepare(config).tokenizers
    (tmp_path / "given.model").write_bytes(trained.source.model_bytes)
    config.tokenizer.model = str(tmp_path / "given.model")
    assert prepare(config).tokenizers.to_files() == trained.to_files()


def test_duplicates_are_dropped_across_training_corpora_and_stay_in_what_is_scored(config):
    config.data.train = (config.data.train[0], config.data.validation[0], config.data.train[0])
    config.data.validation *= 2
    config.data.deduplicate = True
    with pytest.raises(DataError, match="nothing is left of corpus .*dropped: 300 duplicate"):
        prepare(config)
    config.data.train = config.data.train[:2]
    made = prepare(config)
    assert [corpus.report.duplicate for corpus in made.train] == [0, len(set(TRAIN) & set(VALIDATION))]
    assert len(made.validation.store) == 40


def test_the_phrasebook_in_both_directions(config):
    config.data.train = ("phrasebook:validation",)
    config.data.validation = ("phrasebook:test",)
    config.tokenizer.vocab_size = 300
    forth = prepare(config)
    config.data.source_language, config.data.target_language = "de", "en"
    back = prepare(config)
    assert forth.validation.sources == back.validation.targets
    side = forth.train[0].store.source
    assert forth.tokenizers.source.decode([side[0]]) == back.tokenizers.target.decode([back.train[0].store.target[0]])


# --- what the cache saves ---


def test_second_call_does_nothing_again(config, monkeypatch):
    first = prepare(config)
    for module, name in [(shards, "tokenise"), (tokenizer_training, "train"), (prepare_module._Preparation, "_count")]:
        monkeypatch.setattr(module, name, lambda *_, name=name: pytest.fail(f"{name} was called again"))
    second = prepare(config)
    np.testing.assert_array_equal(first.train[0].store.target.tokens, second.train[0].store.target.tokens)
    assert first.train[0].report == second.train[0].report


def test_same_text_under_another_name_is_the_same(config, tmp_path, monkeypatch):
    prepare(config)
    monkeypatch.setattr(shards, "tokenise", lambda *_: pytest.fail("tokenised again"))
    config.data.train = (write_sides(tmp_path, "copy", TRAIN),)
    prepare(config)


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [
        ("data", "max_length", 20),
        ("data", "max_length_ratio", 1.5),
        ("data", "deduplicate", True),
        ("tokenizer", "vocab_size", 70),
        ("tokenizer", "algorithm", "unigram"),
        ("tokenizer", "sample_lines", 100),
    ],
)
def test_settings_that_matter_make_another_entry(config, section, field, value):
    prepare(config)
    before = content(Path(config.data.cache_dir))
    setattr(getattr(config, section), field, value)
    prepare(config)
    assert len(content(Path(config.data.cache_dir))) > len(before)


def test_changed_text_makes_another_entry(config, tmp_path):
    first = prepare(config)
    write_sides(tmp_path, "train", [*TRAIN[:-1], ("old house", "altes Haus")])
    second = prepare(config)
    assert first.train[0].store.source.tokens.shape != second.train[0].store.source.tokens.shape


@pytest.mark.parametrize("field", ["workers", "batch_tokens"])
def test_settings_that_do_not_matter_make_none(config, field):
    prepare(config)
    before = content(Path(config.data.cache_dir))
    setattr(config.data, field, 3000)
    prepare(config)
    assert content(Path(config.data.cache_dir)) == before


def test_number_of_workers_does_not_show(config, tmp_path):
    made = []
    for workers in (1, 4):
        config.data.workers = workers
        made.append(prepared_afresh(config, tmp_path / f"cache{workers}"))
    assert made[0] == made[1]


# --- interruptions ---

CHILD = """
import os, pathlib, signal, sys
import numpy as np
from transformer.config import from_json
from transformer.data import cache, shards, store, tokenizer_training, prepare as prepare_module

shards.SHARD_PAIRS = int(sys.argv[2])
owner, name, fatal_call = {
    "shard": (np, "savez", 4),
    "join": (shards, "write_side", 2),
    "finish": (pathlib.Path, "rename", 2),
    "tokenizer": (tokenizer_training, "train", 1),
    "cleaning": (shards.shutil, "rmtree", 5),
    "nowhere": (np, "savez", 0),
}[sys.argv[3]]
original = getattr(owner, name)
calls = 0

def dying(*arguments, **named):
    global calls
    calls += 1
    if calls == fatal_call:
        if name == "savez":
            arguments[0].write(b"half a shard")
            arguments[0].flush()
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments, **named)

setattr(owner, name, dying)
prepare_module.prepare(from_json(pathlib.Path(sys.argv[1]).read_text()))
"""


def start(config: Config, folder: Path, where: str) -> subprocess.Popen:
    """A process that prepares `config` and kills itself at a certain point."""
    import transformer.config

    path = folder / "config.json"
    path.write_text(transformer.config.to_json(config))
    root = str(Path(transformer.config.__file__).parents[2])
    command = [sys.executable, "-c", CHILD, str(path), str(SHARD), where]
    return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": root}, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("where", ["shard", "join", "finish", "tokenizer", "cleaning"])
def test_killed_and_continued_is_the_same_as_uninterrupted(config, tmp_path, monkeypatch, where):
    config.data.workers = 1
    killed = start(config, tmp_path, where)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL

    cache = Path(config.data.cache_dir)
    finished = list(cache.glob("tokens/*.parts/*.npz"))
    assert len(finished) == {"shard": 3, "join": 8, "finish": 8, "tokenizer": 0, "cleaning": 8}[where]
    assert len(list(cache.glob("tokens/*.parts/*.tmp"))) == (where == "shard")
    calls = []
    original = shards.tokenise
    monkeypatch.setattr(shards, "tokenise", lambda *arguments: calls.append(1) or original(*arguments))
    prepare(config)
    assert len(calls) == (0 if where == "cleaning" else 8 - len(finished))
    monkeypatch.undo()
    # Also no shard is left over.
    assert content(cache) == prepared_afresh(config, tmp_path / "fresh")


def test_two_processes_at_once_make_one_entry(config, tmp_path):
    both = [start(config, tmp_path, "nowhere") for _ in range(2)]
    for process in both:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    assert content(Path(config.data.cache_dir)) == prepared_afresh(config, tmp_path / "fresh")


@pytest.mark.parametrize("after", [1, 4, 9])
def test_ctrl_c_leaves_no_half_written_file_and_no_thread(config, tmp_path, monkeypatch, after):
    calls = []

    def interrupt(what, done, total):
        calls.append(what)
        if len(calls) == after:
            raise KeyboardInterrupt

    threads = threading.active_count()
    original = shards.tokenise
    monkeypatch.setattr(shards, "tokenise", lambda *arguments: time.sleep(0.02) or original(*arguments))
    with pytest.raises(KeyboardInterrupt):
        prepare(config, progress=interrupt)
    cache = Path(config.data.cache_dir)
    assert threading.active_count() == threads
    assert not list(cache.rglob("*.tmp"))
    prepare(config)
    assert content(cache) == prepared_afresh(config, tmp_path / "fresh")


# --- bad input, each with its message ---


def refusal(config: Config, error: type = DataError) -> str:
    with pytest.raises(error) as caught:
        prepare(config)
    return str(caught.value)


def test_faults_of_scored_text_show_before_any_work(config, tmp_path):
    config.data.test = (f"tsv:{tmp_path}/missing.tsv",)
    assert "missing.tsv: no such file" in refusal(config)
    (tmp_path / "bad.tsv").write_bytes(b"one\teins\nno tab\n")
    config.data.test = (f"tsv:{tmp_path}/bad.tsv",)
    assert "bad.tsv, line 2" in refusal(config)
    assert not Path(config.data.cache_dir).exists()


def test_faults_of_training_text_show_before_a_model_is_trained(config, tmp_path, monkeypatch):
    (tmp_path / "train.de").write_bytes((tmp_path / "train.de").read_bytes() + b"\xff\n")
    monkeypatch.setattr(tokenizer_training, "train", lambda *_: pytest.fail("trained"))
    assert f"{tmp_path}/train.de, line 301" in refusal(config)


@pytest.mark.parametrize("field", ["validation", "test"])
def test_weight_of_scored_text(config, field):
    setattr(config.data, field, (f"2*{config.data.validation[0]}",))
    assert "is scored, so it has no weight" in refusal(config)


@pytest.mark.parametrize("field", ["train", "validation"])
@pytest.mark.parametrize(
    ("pairs", "dropped", "remedy"),
    [
        ([("old " * 200, "alt " * 200)] * 2 + [("", "x")], "1 empty, 2 too long", "Raise data.max_length (now 128)"),
        # Text, but not a token of it: no array of tokens may be empty.
        ([("old house", "\u200b")] * 3, "3 empty", "Check that both sides were written"),
    ],
)
def test_nothing_left(config, tmp_path, field, pairs, dropped, remedy):
    trained = train(lambda: iter(TRAIN), len(TRAIN), config.tokenizer)
    (tmp_path / "given.model").write_bytes(trained.source.model_bytes)
    config.tokenizer.model = str(tmp_path / "given.model")
    corpus = write_sides(tmp_path, "bad", pairs)
    setattr(config.data, field, (corpus,))
    message = refusal(config)
    assert f"nothing is left of corpus '{corpus}': kept 0 of 3 pairs; dropped: {dropped}. {remedy}" in message


def test_nothing_left_of_uneven_or_repeated_pairs(config, tmp_path):
    config.data.max_length_ratio = 2.0
    config.data.train = (config.data.train[0], write_sides(tmp_path, "uneven", [("old old old", "alt")]))
    assert "Raise data.max_length_ratio (now 2.0)" in refusal(config)
    config.data.deduplicate = True
    config.data.train = (config.data.train[0], config.data.train[0])
    assert "set data.deduplicate to False" in refusal(config)


def test_cache_that_cannot_be_written(config, tmp_path):
    config.data.cache_dir = str(tmp_path / "train.en" / "cache")
    assert "config.data.cache_dir" in refusal(config, ConfigError)
    assert isinstance(Cache.open(str(tmp_path / "cache")), Cache)

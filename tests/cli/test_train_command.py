"""Which config `transformer train` hands to the loop. The loop itself is stood in for."""

import sys
import types

import pytest

from transformer import config as config_module
from transformer.cli import config_files, process
from transformer.cli.main import main
from transformer.config import Config

OUTSIDE = "mine.attention:Local"


@pytest.fixture
def trained(monkeypatch):
    calls = []
    loop = types.ModuleType("loop")
    loop.train = lambda config, workdir: calls.append((config, workdir))
    monkeypatch.setitem(sys.modules, "transformer.training.loop", loop)
    monkeypatch.setattr("transformer.training.loop", loop, raising=False)
    monkeypatch.setattr(process, "start", lambda given: None)
    return calls


def fails(capsys, *words):
    with pytest.raises(SystemExit) as end:
        main(["train", *words])
    assert end.value.code == 2
    return capsys.readouterr().err


def save(folder, config):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(config_module.to_json(config))


def test_config_and_overrides(trained):
    main(
        [
            "train",
            "--config=phrasebook",
            "--workdir=w",
            "--config.training.steps=9",
            "--config.optimizer.schedule=paper",
        ]
    )
    [(config, workdir)] = trained
    assert workdir == "w"
    assert config.training.steps == 9
    assert config.model == config_files.load("phrasebook").model


def test_goes_on_with_the_saved_config(trained, tmp_path):
    save(tmp_path, Config(seed=8))
    main(["train", f"--workdir={tmp_path}", "--config.training.steps=9"])
    assert trained[0][0].seed == 8
    assert trained[0][0].training.steps == 9


def test_a_given_config_goes_before_the_saved_one(trained, tmp_path):
    save(tmp_path, Config(seed=8))
    main(["train", f"--workdir={tmp_path}", "--config=phrasebook"])
    assert trained[0][0].seed == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--workdir is missing"),
        (["--config=phrasebook"], "--workdir is missing"),
        (["--workdir={}/new"], "--config is missing, and --workdir="),
        (["--workdir={}/new", "--config=phrasebook", "--config.model.d_model=63"], "does not divide"),
        (["--workdir={}/new", "--config=phrasebook", "--cpu_devices=x"], "--cpu_devices=x"),
    ],
)
def test_faults_are_found_before_anything_is_written(trained, tmp_path, capsys, words, message):
    assert message in fails(capsys, *(word.format(tmp_path) for word in words))
    assert trained == []
    assert list(tmp_path.iterdir()) == []


def test_paths_are_saved_whole(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    config = Config()
    config.data.train = ("2*lines:a.en,/d/b.en:a.de,~/b.de", "phrasebook", "tfds:set/de-en:train[:10%]")
    config.data.validation, config.data.test = ("tsv:v.tsv",), ("lines:gs://bucket/a.en:a.de",)
    config.data.data_dir, config.data.cache_dir = "sets", "~/cache"
    config.tokenizer.model = "spm.model"
    save(tmp_path / "w", config)
    main(["train", "--workdir=w"])
    saved = trained[0][0]
    assert saved.data.train == (
        f"2*lines:{tmp_path}/a.en,/d/b.en:{tmp_path}/a.de,/home/me/b.de",
        *config.data.train[1:],
    )
    assert saved.data.validation == (f"tsv:{tmp_path}/v.tsv",)
    assert saved.data.test == (f"lines:gs://bucket/a.en:{tmp_path}/a.de",)
    assert (saved.data.data_dir, saved.data.cache_dir) == (f"{tmp_path}/sets", "/home/me/cache")
    assert (saved.tokenizer.model, saved.tokenizer.target_model) == (f"{tmp_path}/spm.model", None)


def test_code_named_by_a_saved_config_needs_leave(trained, tmp_path, capsys):
    config = Config()
    config.model.attention = OUTSIDE
    save(tmp_path, config)
    assert "--allow_code=mine.attention" in fails(capsys, f"--workdir={tmp_path}")
    main(["train", f"--workdir={tmp_path}", "--allow_code=mine.attention"])
    assert trained[0][0].model.attention == OUTSIDE


def test_code_named_by_the_user_needs_none(trained):
    main(["train", "--config=phrasebook", "--workdir=w", f"--config.model.attention={OUTSIDE}"])
    assert trained[0][0].model.attention == OUTSIDE

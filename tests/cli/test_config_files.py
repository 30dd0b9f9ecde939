from pathlib import Path

import pytest

from transformer.cli import config_files
from transformer.cli.config_files import ConfigFileError
from transformer.config import Config, ConfigError

BODY = "from transformer.config import Config\ndef get_config({}):\n    config = Config()\n    {}\n    return config\n"


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "mine.py"
        path.write_text(text)
        return str(path)

    return write


@pytest.mark.parametrize("name", ["phrasebook", "phrasebook.py", "configs/phrasebook.py"])
def test_own_configs_by_name_from_anywhere(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert config_files.load(name) == config_files.load(str(config_files.folder() / "phrasebook.py"))


def test_a_file_here_goes_before_an_own_config(tmp_path, monkeypatch):
    (tmp_path / "phrasebook.py").write_text(BODY.format("", "config.seed = 99"))
    monkeypatch.chdir(tmp_path)
    assert config_files.load("phrasebook.py").seed == 99
    assert config_files.load("phrasebook").seed == 0


def test_argument(write):
    assert (
        config_files.load(write(BODY.format("name", "config.data.cache_dir = name")) + ":a:b").data.cache_dir == "a:b"
    )
    assert config_files.load(write(BODY.format("name='c'", "config.data.cache_dir = name"))).data.cache_dir == "c"


def test_summaries_are_one_line_each():
    summaries = config_files.summaries()
    assert set(summaries) == {path.stem for path in Path(config_files.folder()).glob("*.py")}
    assert all(summaries.values())


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (
            "phrasbook",
            "no such file or config. Did you mean phrasebook? Own configs: lm_1b, lm_8b, lm_small, multi30k_en_de, ",
        ),
        ("/nowhere/phrasebook.py", "--config=/nowhere/phrasebook.py: no such file"),
        ("phrasebook:x", "--config=phrasebook takes no argument. Leave out ':x'"),
        ("multi30k_en_de", "needs an argument: --config=multi30k_en_de:FOLDER\nFOLDER: where"),
    ],
)
def test_wrong_references(reference, message):
    with pytest.raises(ConfigFileError) as caught:
        config_files.load(reference)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\ny = undefined\n", "mine.py, line 2 failed: NameError: name 'undefined' is not defined"),
        ("def get_config(:\n", "mine.py, line 1 failed: SyntaxError"),
        ("import not_installed_here\n", "line 1 failed: ModuleNotFoundError: No module named 'not_installed_here'"),
        ("x = 1\n", "has no function get_config()"),
        ("def get_config():\n    return {}\n", "get_config() returned dict, not transformer.config.Config"),
        (BODY.format("", "1 / 0"), "mine.py, line 4 failed: ZeroDivisionError"),
    ],
)
def test_files_that_fail(write, text, message):
    with pytest.raises(ConfigFileError) as caught:
        config_files.load(write(text))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "config.model.d_modle = 3",
            "config.model.d_modle = 3: there is no such field. Did you mean config.model.d_model?",
        ),
        ("config.sed = 3", "Did you mean config.seed?"),
        ("config.model = {'d_model': 3}", "config.model = {'d_model': 3}: is dict, not ModelConfig"),
    ],
)
def test_a_misspelt_field_in_a_file_is_told(write, line, message):
    with pytest.raises(ConfigError) as caught:
        config_files.load(write(BODY.format("", line)))
    assert message in str(caught.value)


def test_a_file_may_define_dataclasses(write):
    text = (
        "from __future__ import annotations\nimport dataclasses\n@dataclasses.dataclass\nclass Size:\n    width: int\n"
    )
    assert config_files.load(write(text + BODY.format("", "config.seed = Size(3).width"))).seed == 3


def test_the_home_folder(write, monkeypatch):
    path = Path(write(BODY.format("", "config.seed = 4")))
    monkeypatch.setenv("HOME", str(path.parent))
    assert config_files.load("~/mine.py").seed == 4


def test_loading_twice_gives_two_configs(write):
    path = write(BODY.format("", "config.seed = 5"))
    first, second = config_files.load(path), config_files.load(path)
    first.model.d_model = 1
    assert second.model.d_model == Config().model.d_model

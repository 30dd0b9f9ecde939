import json

import pytest

from transformer import config as config_module
from transformer.cli import config_files
from transformer.cli.main import main
from transformer.config import Config


def test_lists_fields_and_own_configs(capsys):
    main(["config"])
    out = capsys.readouterr().out
    assert "--config.model.d_model=512  (int)" in out
    assert all(name in out and summary.split()[0] in out for name, summary in config_files.summaries().items())


def test_shows_a_config_with_overrides(capsys):
    main(["config", "--config=wmt14_en_de_big", "--config.mesh.fsdp=8"])
    out = capsys.readouterr().out
    assert "--config.model.d_model=1024  (int; default 512)" in out
    assert "--config.mesh.fsdp=8  (int; default 1)" in out


def test_json_is_what_a_run_saves(capsys):
    main(["config", "--config=phrasebook", "--json"])
    assert config_module.from_json(capsys.readouterr().out) == config_files.load("phrasebook")


def test_shows_the_config_of_a_run(tmp_path, capsys):
    (tmp_path / "config.json").write_text(config_module.to_json(Config(seed=11)))
    main(["config", f"--workdir={tmp_path}", "--json"])
    assert json.loads(capsys.readouterr().out)["seed"] == 11


def test_config_and_workdir_exclude_each_other(capsys):
    with pytest.raises(SystemExit):
        main(["config", "--config=phrasebook", "--workdir=x"])
    assert "give one" in capsys.readouterr().err

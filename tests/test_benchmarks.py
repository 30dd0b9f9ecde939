"""The benchmarks still fit the package they measure, and say what is wrong with what was typed."""

import importlib.util
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def load(monkeypatch):
    """Imports one of them by name."""
    monkeypatch.syspath_prepend(str(FOLDER))

    def load(name: str):
        spec = importlib.util.spec_from_file_location(f"benchmark_{name}", FOLDER / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        return module

    return load


def test_generation_is_measured_by_what_there_is(load, monkeypatch):
    generate = load("generate")
    monkeypatch.setattr(generate, "NEW", 3)
    generate.ours(generate.Shape(16, 2, 1, 50), 1)()  # checks how many tokens it made


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--shapes=small,tiny"], "there is no shape 'tiny'; choose from small, gpt2"),
        (["--batches=1,many"], "'many' is no number from 1 on"),
        (["--batches="], "'' is no number from 1 on"),
        (["--turns=0"], "'0' is no number from 1 on"),
    ],
)
def test_what_generation_cannot_measure_is_refused_at_once(load, monkeypatch, capsys, words, told):
    generate = load("generate")
    monkeypatch.setattr(sys, "argv", ["generate.py", *words])
    monkeypatch.setattr(generate, "measure", lambda *_: pytest.fail("measured"))
    with pytest.raises(SystemExit):
        generate.main()
    assert told in capsys.readouterr().err


def test_why_a_training_failed_is_told(load, tmp_path):
    with pytest.raises(SystemExit, match=r"(?s)exit code 2, and said:.*nowhere\.txt"):
        load("shakespeare").ours(tmp_path / "nowhere.txt")

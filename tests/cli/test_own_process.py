import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import transformer.config
from transformer.cli import own_process

CLONE = Path(transformer.config.__file__).parents[2]


@pytest.fixture
def restarts(monkeypatch):
    """The command lines this process would have been replaced by, on a CPU with huge pages."""
    found = []
    monkeypatch.setattr(os, "execv", lambda program, words: found.append(words))
    monkeypatch.setattr(own_process, "has_huge_pages", lambda: True)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.delenv("GLIBC_TUNABLES")
    return found


def test_restarts_once_with_the_same_words(restarts, monkeypatch):
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "transformer", "train", "--workdir=a b", ""])
    own_process.restart_with_huge_pages()
    own_process.restart_with_huge_pages()
    assert restarts == [[sys.executable, "-m", "transformer", "train", "--workdir=a b", ""]]


def test_keeps_other_tunables(restarts, monkeypatch):
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.check=1")
    own_process.restart_with_huge_pages()
    assert os.environ["GLIBC_TUNABLES"] == f"glibc.malloc.check=1:{own_process.MALLOC}"


@pytest.mark.parametrize(
    ("name", "value"),
    [("GLIBC_TUNABLES", "glibc.malloc.hugetlb=0"), ("JAX_PLATFORMS", "tpu"), ("JAX_PLATFORMS", "cuda,cpu")],
)
def test_stays_when_chosen_otherwise(restarts, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    own_process.restart_with_huge_pages()
    assert restarts == []


PROGRAM = """
import json, os, sys
from transformer.cli import own_process
print(os.getpid(), flush=True)
own_process.restart_with_huge_pages()
print(json.dumps([os.environ.get("GLIBC_TUNABLES"), sys.argv[1:], sys.stdin.read()]))
"""


@pytest.mark.parametrize("form", ["file", "module"])
def test_a_real_process_restarts_in_place(tmp_path, form):
    (tmp_path / "program.py").write_text(PROGRAM)
    words = ["program.py"] if form == "file" else ["-m", "program"]
    environment = os.environ | {"PYTHONPATH": str(CLONE), "JAX_PLATFORMS": "cpu"}
    del environment["GLIBC_TUNABLES"]
    done = subprocess.run(
        [sys.executable, *words, "--x=a b", "", "'"],
        cwd=tmp_path,
        env=environment,
        input="text",
        capture_output=True,
        text=True,
        check=True,
    )
    *identities, result = done.stdout.splitlines()
    if own_process.has_huge_pages():
        assert len(identities) == 2
        assert json.loads(result) == [own_process.MALLOC, ["--x=a b", "", "'"], "text"]
    else:
        assert len(identities) == 1
        assert json.loads(result) == [None, ["--x=a b", "", "'"], "text"]
    assert len(set(identities)) == 1  # so that signals and job control still reach it

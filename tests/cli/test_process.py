import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from absl import flags

import transformer.config
from transformer.cli import arguments, process
from transformer.cli.verb import Verb

CLONE = Path(transformer.config.__file__).parents[2]


@pytest.fixture
def restarts(monkeypatch):
    """The command lines this process would have been replaced by, on a CPU with huge pages."""
    found = []
    monkeypatch.setattr(os, "execv", lambda program, words: found.append(words))
    monkeypatch.setattr(process, "has_huge_pages", lambda: True)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.delenv("GLIBC_TUNABLES")
    return found


def test_restarts_once_with_the_same_words(restarts, monkeypatch, capsys):
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "transformer", "train", "--workdir=a b", ""])
    process.restart_with_huge_pages()
    process.restart_with_huge_pages()
    assert restarts == [[sys.executable, "-m", "transformer", "train", "--workdir=a b", ""]]
    assert capsys.readouterr().err.count("\n") == 1


def test_keeps_other_tunables(restarts, monkeypatch):
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.check=1")
    process.restart_with_huge_pages()
    assert os.environ["GLIBC_TUNABLES"] == f"glibc.malloc.check=1:{process.MALLOC}"


@pytest.mark.parametrize(
    ("name", "value"),
    [("GLIBC_TUNABLES", "glibc.malloc.hugetlb=0"), ("JAX_PLATFORMS", "tpu"), ("JAX_PLATFORMS", "cuda,cpu")],
)
def test_stays_when_chosen_otherwise(restarts, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    process.restart_with_huge_pages()
    assert restarts == []


PROGRAM = """
import json, os, sys
from transformer.cli import process
print(os.getpid(), flush=True)
process.restart_with_huge_pages()
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
    if process.has_huge_pages():
        assert len(identities) == 2
        assert json.loads(result) == [process.MALLOC, ["--x=a b", "", "'"], "text"]
    else:
        assert len(identities) == 1
        assert json.loads(result) == [None, ["--x=a b", "", "'"], "text"]
    assert len(set(identities)) == 1  # so that signals and job control still reach it


STARTED = """
import logging
from transformer.cli import arguments, process
from transformer.cli.verb import Verb
probe = Verb("probe", "", "", process.define_flags, print)
process.start(arguments.parse(probe, ["--cpu_devices=3"]))
import jax
print(jax.device_count(), jax.config.jax_compilation_cache_dir)
"""


def started(home: Path, **variables: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(CLONE), "HOME": str(home)} | variables
    if "JAX_COMPILATION_CACHE_DIR" not in variables:
        del environment["JAX_COMPILATION_CACHE_DIR"]
    return subprocess.run([sys.executable, "-c", STARTED], env=environment, capture_output=True, text=True, check=True)


def test_start_sets_devices_and_compilation_cache(tmp_path):
    devices, folder = started(tmp_path).stdout.split()
    assert devices == "3"
    assert Path(folder).parent == tmp_path / ".cache/transformer/xla"


THREADS_OFF = "--xla_cpu_multi_thread_eigen=false"


@pytest.mark.parametrize(
    ("devices", "cores", "before", "after"),
    [
        (4, 4, "", THREADS_OFF),
        (4, 2, "--xla_kept=1", f"--xla_kept=1 {THREADS_OFF}"),
        (4, 5, "--xla_kept=1", "--xla_kept=1"),
        (0, 1, "", ""),
        (4, 4, "--xla_cpu_multi_thread_eigen=true", "--xla_cpu_multi_thread_eigen=true"),
    ],
)
def test_devices_that_take_every_core_keep_to_a_thread_each(devices, cores, before, after, monkeypatch):
    monkeypatch.setattr(process, "cores", lambda: cores)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setattr(jax.config, "update", lambda name, value: None)
    monkeypatch.setenv("XLA_FLAGS", before)
    probe = Verb("probe", "", "", process.define_flags, print)
    process.choose_devices(arguments.parse(probe, [f"--cpu_devices={devices}"]))
    assert os.environ["XLA_FLAGS"] == after


def test_results_come_from_the_first_process_alone(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    monkeypatch.setattr(process.logging, "set_verbosity", lambda level: None)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    process.speak_of_trouble_only(1)
    print("a translation")
    print("trouble", file=sys.stderr)
    assert capsys.readouterr() == ("", "trouble\n")


def test_a_negative_number_of_devices_is_refused():
    values = flags.FlagValues()
    process.define_flags(values)
    with pytest.raises(flags.IllegalFlagValueError):
        values(["", "--cpu_devices=-1"])


@pytest.mark.parametrize(
    ("path", "level", "shown"),
    [
        (process.__file__, logging.INFO, True),
        (process.__file__, logging.DEBUG, False),
        (logging.__file__, logging.INFO, False),
        (logging.__file__, logging.WARNING, True),
    ],
)
def test_our_lines_from_info_others_from_warning(path, level, shown, capsys):
    before = logging.getLogger().handlers[:], logging.getLogger().level
    try:
        process.set_up_logging()
        root = logging.getLogger()
        if root.isEnabledFor(level):
            root.handle(logging.LogRecord("any", level, path, 1, "the %s", ("line",), None))
        assert capsys.readouterr().err == ("the line\n" if shown else "")
    finally:
        logging.getLogger().handlers, logging.getLogger().level = before

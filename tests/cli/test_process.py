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

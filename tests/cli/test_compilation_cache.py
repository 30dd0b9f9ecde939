"""Programs are found again by a second command, and what cannot be kept is no obstacle."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_run

import transformer.config
from transformer.cli import compilation_cache

CLONE = Path(transformer.config.__file__).parents[2]
# What is run, then: its output, which of its programs were read from JAX's cache and which not, and what was imported.
PROGRAM = """
import json, sys
from jax import monitoring
events = []
monitoring.register_event_listener(lambda event, **details: events.append(event))
WHAT
modules = sorted({name.split(".")[0] for name in sys.modules} | {name for name in sys.modules if "transformer" in name})
hits, misses = (events.count(f"/jax/compilation_cache/cache_{what}") for what in ("hits", "misses"))
print(json.dumps({"hits": hits, "misses": misses, "modules": modules}))
"""


TRANSLATE = """
from transformer.cli.main import main
main(sys.argv[1:])
"""
OTHER = """
import jax
from transformer.cli import compilation_cache
compilation_cache.set_up()
print(jax.jit(lambda x: jax.numpy.sin(x).sum())(jax.numpy.arange(5.0)))
"""


def run(home: Path, what: str, *words: str, **variables: str) -> tuple[list[str], dict, str]:
    """The lines that are printed, what is known of the programs, and stderr."""
    environment = os.environ | {"PYTHONPATH": str(CLONE), "HOME": str(home)} | variables
    settings = {"JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "XDG_CACHE_HOME"}
    for name in settings - set(variables):
        environment.pop(name, None)
    command = [sys.executable, "-c", PROGRAM.replace("WHAT", what), *words]
    given = "anna is very tall\n"
    done = subprocess.run(command, env=environment, input=given, capture_output=True, text=True, check=True)
    *lines, programs = done.stdout.splitlines()
    return lines, json.loads(programs), done.stderr


def translate(home: Path, **variables: str) -> tuple[list[str], dict, str]:
    return run(home, TRANSLATE, "translate", f"--workdir={tiny_run.trained()}", "--cpu_devices=1", **variables)


def test_what_is_compiled_once_is_found_again(tmp_path):
    first, cold, _ = run(tmp_path, OTHER)
    second, warm, _ = run(tmp_path, OTHER)
    assert first == second
    assert cold["misses"] > 0
    assert (warm["hits"], warm["misses"]) == (cold["misses"] + cold["hits"], 0)


def test_of_what_translates_nothing_is_kept_twice(tmp_path):
    """Kept whole, it need not be in JAX's cache too."""
    first, cold, _ = translate(tmp_path)
    second, warm, _ = translate(tmp_path)
    assert first == second
    assert [programs[what] for programs in (cold, warm) for what in ("hits", "misses")] == [0, 0, 0, 0]
    (processor,) = (tmp_path / ".cache/transformer/xla").iterdir()
    assert [path.name for path in processor.iterdir()] == ["whole"]


def test_translating_imports_nothing_that_it_does_not_need(tmp_path):
    _, programs, _ = translate(tmp_path)
    needless = {"matplotlib", "tensorflow_datasets", "tensorboardX", "grain", "sacrebleu", "sacremoses", "tensorflow"}
    needless |= {
        "ml_collections",
        "transformer.training.loop",
        "transformer.training.step",
        "transformer.planning.plan",
    }
    assert needless & set(programs["modules"]) == set()


def test_where_programs_are_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert compilation_cache.default_folder().parent == tmp_path / "transformer/xla"
    for unset in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", unset)
        assert compilation_cache.default_folder().parent == Path.home() / ".cache/transformer/xla"


def test_a_folder_chosen_is_used_as_it_is(tmp_path):
    chosen = tmp_path / "chosen"
    translate(tmp_path, JAX_COMPILATION_CACHE_DIR=str(chosen))
    run(tmp_path, OTHER, JAX_COMPILATION_CACHE_DIR=str(chosen))
    assert list(chosen.glob("whole/*/*"))
    assert list(chosen.glob("*-cache"))
    assert not (tmp_path / ".cache").exists()


def test_another_processor_has_a_folder_of_its_own(tmp_path, monkeypatch):
    cpuinfo = tmp_path / "cpuinfo"
    monkeypatch.setattr(compilation_cache, "_CPUINFO", cpuinfo)
    folders = []
    for flags, rate in (("sse avx512f", 1000), ("sse avx512f", 2000), ("sse", 1000)):
        text = f"processor\t: 0\nmodel\t\t: 85\ncpu MHz\t\t: {rate}\nflags\t\t: {flags}\n"
        cpuinfo.write_text(f"{text}\nprocessor\t: 1\n")
        folders.append(compilation_cache.default_folder())
    assert folders[0] == folders[1] != folders[2]


@pytest.mark.parametrize("by", ["default", "choice"])
def test_a_folder_that_cannot_be_made_is_only_warned_of(tmp_path, by):
    (tmp_path / "file").write_text("")
    name = "XDG_CACHE_HOME" if by == "default" else "JAX_COMPILATION_CACHE_DIR"
    lines, programs, errors = translate(tmp_path, **{name: str(tmp_path / "file/folder")})
    assert lines == translate(tmp_path)[0]
    assert programs["hits"] == 0
    assert [line for line in errors.splitlines() if "cannot be written" in line and str(tmp_path / "file") in line]
    assert "JAX_COMPILATION_CACHE_DIR" in errors


def test_a_folder_that_is_only_read_is_still_read(tmp_path, monkeypatch, caplog):
    """Root may write anywhere, so the answer of the operating system is played."""
    import jax

    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    try:
        compilation_cache.set_up()
        assert jax.config.jax_compilation_cache_dir == str(tmp_path)
        assert jax.config.jax_persistent_cache_min_compile_time_secs == float("inf")
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
    assert str(tmp_path) in caplog.text


def test_a_user_without_a_home_is_only_warned(monkeypatch, caplog):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(compilation_cache, "default_folder", no_home)
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    compilation_cache.set_up()
    assert "home" in caplog.text
    assert "JAX_COMPILATION_CACHE_DIR" in caplog.text

"""A program that is kept gives what a traced one gives, and is found for what it was made from alone."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny_run
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import transformer.config
from transformer.evaluation import kept_programs
from transformer.evaluation.kept_programs import KeptProgram

CLONE = Path(transformer.config.__file__).parents[2]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where programs are kept in this test."""
    monkeypatch.setattr(kept_programs, "_folder", tmp_path / "version")
    return tmp_path / "version"


class Traced:
    """Adds, and counts how often it is traced."""

    def __init__(self):
        self.times = 0

    def add(self, arrays, number, *, times: int = 1):
        self.times += 1
        return {"sum": arrays["x"] + times * number}, number


def program(traced: Traced, made_from=("a model",), **settings) -> KeptProgram:
    return KeptProgram(traced.add, list(made_from), static=("times",), **settings)


MESH = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Explicit,))


def placed(array, *spec):
    """On all devices."""
    return jax.device_put(array, NamedSharding(MESH, PartitionSpec(*spec)))


X = {"x": placed(np.arange(6, dtype=np.float32))}


def test_another_process_need_not_trace(folder):
    first, second = Traced(), Traced()
    expected = program(first)(X, np.int32(3), times=2)
    kept = program(second)
    for _ in range(2):
        found = kept(X, np.int32(3), times=2)
    assert (first.times, second.times, kept.count()) == (1, 0, 1)
    np.testing.assert_array_equal(found[0]["sum"], np.arange(6) + 6)
    assert jax.tree.structure(found) == jax.tree.structure(expected)


@pytest.mark.parametrize(
    ("arrays", "number", "times", "made_from", "variable"),
    [
        ({"x": placed(np.zeros(7, np.float32))}, np.int32(3), 2, ("a model",), ""),
        ({"x": placed(np.zeros(6, np.int32))}, np.int32(3), 2, ("a model",), ""),
        (X | {"y": X["x"]}, np.int32(3), 2, ("a model",), ""),
        (X, 3, 2, ("a model",), ""),  # a number of Python's, which promotes otherwise
        (X, np.int32(3), 1, ("a model",), ""),
        (X, np.int32(3), 2, ("another model",), ""),
        (X, np.int32(3), 2, ("a model", "float32"), ""),
        (X, np.int32(3), 2, ("a model",), "--xla_cpu_enable_fast_math=false"),
    ],
)
def test_made_from_something_else_it_is_another(folder, monkeypatch, arrays, number, times, made_from, variable):
    program(Traced())(X, np.int32(3), times=2)
    monkeypatch.setenv("XLA_FLAGS", f"{os.environ['XLA_FLAGS']} {variable}")
    monkeypatch.setenv("XLA_FLAGS", os.environ["XLA_FLAGS"].rstrip())
    traced = Traced()
    found, _ = program(traced, made_from)(arrays, number, times=times)
    assert traced.times == 1
    np.testing.assert_array_equal(found["sum"], arrays["x"] + times * 3)


def test_arrays_lying_elsewhere_have_another(folder):
    """Devices that each have a part of an array run another program than each with the whole."""
    results = []
    for spec in ((None,), ("data",)):
        for expected in (1, 0):
            traced = Traced()
            with jax.set_mesh(MESH):
                found, _ = program(traced)({"x": placed(np.arange(8.0, dtype=np.float32), *spec)}, np.int32(1))
            results.append(found["sum"])
            assert traced.times == expected
            assert found["sum"].sharding.spec == PartitionSpec(*spec)
    np.testing.assert_array_equal(results, [np.arange(8.0) + 1] * 4)


def test_what_is_read_overwrites_as_it_may(folder):
    for _ in range(2):
        x = placed(np.arange(1024, dtype=np.float32))
        found, _ = program(Traced(), donate=(0,))({"x": x}, np.int32(1))
        assert x.is_deleted()
        np.testing.assert_array_equal(found["sum"], np.arange(1024.0) + 1)


def test_a_damaged_one_is_told_and_replaced(folder, caplog):
    program(Traced())(X, np.int32(3))
    (path,) = folder.iterdir()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with caplog.at_level(logging.WARNING):
        found, _ = program(Traced())(X, np.int32(3))
    np.testing.assert_array_equal(found["sum"], np.arange(6) + 3)
    assert str(path) in caplog.text
    traced = Traced()
    program(traced)(X, np.int32(3))
    assert traced.times == 0


def test_what_jax_has_read_of_its_cache_is_not_kept(folder, tmp_path):
    """Written again, it would lack its functions: after another version of this package, say, made the same program."""
    before = jax.config.jax_compilation_cache_dir, jax.config.jax_persistent_cache_min_compile_time_secs
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    kept_programs.compilation_cache.reset_cache()
    try:
        for _ in range(2):  # the second is read of JAX's cache
            traced = Traced()
            jax.jit(traced.add, static_argnames="times")(X, np.int32(3))
        assert list((tmp_path / "xla").iterdir())
        program(Traced())(X, np.int32(3))
        found, _ = program(Traced())(X, np.int32(3))
        np.testing.assert_array_equal(found["sum"], np.arange(6) + 3)
        assert jax.config.jax_enable_compilation_cache
    finally:
        jax.config.update("jax_compilation_cache_dir", before[0])
        jax.config.update("jax_persistent_cache_min_compile_time_secs", before[1])
        kept_programs.compilation_cache.reset_cache()


def test_for_some_of_the_devices_none_is_kept(folder):
    found, _ = program(Traced())({"x": np.arange(6)}, np.int32(3))
    np.testing.assert_array_equal(found["sum"], np.arange(6) + 3)
    assert not folder.exists()


def test_with_code_of_the_users_none_is_kept(folder):
    kept = program(Traced(), ("a model", None))
    np.testing.assert_array_equal(kept(X, np.int32(3))[0]["sum"], np.arange(6) + 3)
    assert kept.count() == 1
    assert not folder.exists()


def test_a_folder_that_cannot_be_written_is_no_obstacle(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(kept_programs, "_folder", tmp_path / "file" / "version")
    found, _ = program(Traced())(X, np.int32(3))
    np.testing.assert_array_equal(found["sum"], np.arange(6) + 3)


def test_old_versions_are_removed(folder):
    for age in range(6):
        old = folder.parent / f"old{age}"
        old.mkdir()
        os.utime(old, (1e9 - age, 1e9 - age))
    program(Traced())(X, np.int32(3))
    assert sorted(path.name for path in folder.parent.iterdir()) == ["old0", "old1", "old2", "version"]


# Where a model's attention is traced, a word is printed.
COMMAND = """
import sys
from transformer.model import attention
scores = attention.MultiHeadAttention.__call__
def traced(*given, **more):
    print("traced")
    return scores(*given, **more)
attention.MultiHeadAttention.__call__ = traced
from transformer.cli.main import main
main(sys.argv[1:])
"""


def test_a_second_command_traces_nothing_and_finds_the_same(tmp_path):
    outputs = []
    for _ in range(2):
        words = ["translate", f"--workdir={tiny_run.trained()}", "--cpu_devices=1", "--n_best=2"]
        environment = os.environ | {"PYTHONPATH": str(CLONE), "JAX_COMPILATION_CACHE_DIR": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-c", COMMAND, *words],
            env=environment,
            input="anna is very tall\n",
            capture_output=True,
            text=True,
            check=True,
        )
        outputs.append(done.stdout.splitlines())
    assert outputs[0].count("traced") > 0
    assert outputs[1] == [line for line in outputs[0] if line != "traced"]
    assert json.dumps(outputs[1]) != "[]"

"""A program that is kept gives what a traced one gives, and is found for what it was made from alone."""

import logging
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny_run
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from tiny_model import blueprint_of, random_params, tiny

import transformer.config
from transformer import sharding
from transformer.config import DecodingConfig, MeshConfig
from transformer.evaluation import kept_programs
from transformer.evaluation.kept_programs import KeptProgram
from transformer.evaluation.search import Search

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
        (X, np.int32(3), 2, ("a model",), " --xla_cpu_enable_fast_math=false"),
    ],
)
def test_made_from_something_else_it_is_another(folder, monkeypatch, arrays, number, times, made_from, variable):
    program(Traced())(X, np.int32(3), times=2)
    monkeypatch.setenv("XLA_FLAGS", os.environ["XLA_FLAGS"] + variable)
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


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: content[:500] + bytes([content[500] ^ 4]) + content[501:],
        lambda content: b"",
    ],
)
def test_a_damaged_one_is_told_and_replaced(folder, caplog, damage):
    program(Traced())(X, np.int32(3))
    (path,) = folder.iterdir()
    path.write_bytes(damage(path.read_bytes()))
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


@pytest.mark.parametrize(
    ("name", "value"), [("jax_enable_x64", True), ("jax_default_matmul_precision", "highest"), ("jax_debug_nans", True)]
)
def test_settings_of_jax_count(folder, name, value):
    program(Traced())(X, np.int32(3))
    before, traced = getattr(jax.config, name), Traced()
    jax.config.update(name, value)
    try:
        program(traced)(X, np.int32(3))
    finally:
        jax.config.update(name, before)
    assert traced.times == 1


def test_where_nothing_is_compiled_nothing_is_kept(folder):
    with jax.disable_jit():
        found, _ = program(Traced())(X, np.int32(3))
    np.testing.assert_array_equal(found["sum"], np.arange(6) + 3)
    assert not folder.exists()


def test_threads_find_theirs_together(folder):
    def found(number: int) -> np.ndarray:
        return np.asarray(program(Traced(), (f"model {number}",))(X, np.int32(number))[0]["sum"])

    with ThreadPoolExecutor(4) as threads:
        for number, result in enumerate(threads.map(found, range(8))):
            np.testing.assert_array_equal(result, np.arange(6) + number)
    assert jax.config.jax_enable_compilation_cache
    assert len(list(folder.iterdir())) == 8


def test_a_version_is_of_all_that_programs_are_made_of(tmp_path, monkeypatch):
    for name in ("model/layers.py", "sharding.py", "cli/train.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("1")
    versions = [kept_programs.version(tmp_path)]
    (tmp_path / "cli/train.py").write_text("2")
    assert kept_programs.version(tmp_path) == versions[0]
    for name in ("model/layers.py", "sharding.py", "model/new.py"):
        (tmp_path / name).write_text("2")
        versions.append(kept_programs.version(tmp_path))
    monkeypatch.setattr(kept_programs.metadata, "version", lambda package: "0")
    versions.append(kept_programs.version(tmp_path))
    assert len(set(versions)) == 5


def test_programs_are_made_of_no_other_packages():
    """What they import, and so may trace, is in a version's name."""
    text = "import sys, transformer.evaluation.search, transformer.evaluation.rollout, transformer.model.splash\n"
    text += "print(*{name.split('.')[1] for name in sys.modules if name.startswith('transformer.')})"
    done = subprocess.run([sys.executable, "-c", text], cwd=CLONE, capture_output=True, text=True, check=True)
    imported = done.stdout.split()
    assert "model" in imported
    assert not {*imported} & {*kept_programs.NOT_IN_PROGRAMS}


def test_a_model_is_described_by_all_of_its_config():
    changes = ({}, {"logit_soft_cap": 5.0}, {"norm": "pre"}, {"dtype": "bfloat16"}, {"num_heads": 1})
    described = {blueprint_of(tiny(**change)).description() for change in changes}
    assert len(described) == 5
    assert None not in described


@pytest.mark.parametrize(("members", "precisions"), [(1, ("float32", "int8")), (2, ("float32",))])
def test_models_of_one_shape_have_their_own(folder, monkeypatch, members, precisions):
    """Soft caps and precisions change no shape: with one folder for all they find what they find with none."""
    mesh = sharding.make_mesh(MeshConfig())
    settings = DecodingConfig(beam_size=1, extra_length=3, batch_size=8)
    cases = [(cap, precision) for cap in (0.0, 0.2) for precision in precisions]
    found: dict[bool, list] = {}
    for kept in (False, True, True):
        monkeypatch.setattr(kept_programs, "_folder", folder if kept else None)
        found[kept] = []
        for cap, precision in cases:
            blueprint = blueprint_of(tiny(logit_soft_cap=cap))
            search = Search([blueprint] * members, mesh, precision)
            with jax.set_mesh(mesh):
                params = [
                    jax.device_put(random_params(blueprint, seed), blueprint.shardings(mesh)) for seed in range(members)
                ]
            found[kept].append(search(search.prepare(params), [[5, 9, 7], [20, 21]], settings))
        assert found[kept] == found[False]
    assert len({str(outputs) for outputs in found[False]}) == len(cases)


def test_a_folder_that_cannot_be_written_is_no_obstacle(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(kept_programs, "_folder", tmp_path / "file" / "version")
    found, _ = program(Traced())(X, np.int32(3))
    np.testing.assert_array_equal(found["sum"], np.arange(6) + 3)


def test_old_versions_are_removed(folder):
    program(Traced())(X, np.int32(3))
    os.utime(folder, (1, 1))
    program(Traced())(X, np.int32(3))  # used again
    for age in range(6):
        old = folder.parent / f"old{age}"
        old.mkdir()
        os.utime(old, (1e9 - age, 1e9 - age))
    kept_programs._make(folder.parent / "newest")
    assert sorted(path.name for path in folder.parent.iterdir()) == ["newest", "old0", "old1", "version"]


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
    assert outputs[1]

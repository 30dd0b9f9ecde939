"""The house keeps its shape: imports point down, and each library stays in its room."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import transformer.config

PACKAGE = Path(transformer.config.__file__).parents[1]
TESTS = Path(__file__).parent

# A room may import rooms on lower floors, never one beside it.
FLOORS = {
    "config": 0,
    "cores": 0,
    "sharding": 1,
    "data": 2,
    "decoding": 2,
    "model": 2,
    "evaluation": 3,
    "export": 3,
    "training": 4,  # training may import evaluation, never the other way
    "planning": 5,
    "cli": 6,
    "": 7,  # transformer/__init__.py, and __main__.py
    "__main__": 7,
}

MODULES = sorted(PACKAGE.rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path) -> set[str]:
    """Every module, and every name imported from one, anywhere in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = path.relative_to(PACKAGE.parent).parts[: -node.level] if node.level else ()
            source = ".".join([*package, *([node.module] if node.module else [])])
            found |= {f"{source}.{alias.name}" for alias in node.names}
    return found


def libraries(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imported(path)}


def room(module: str) -> str:
    return (module.split(".") + [""])[1]


def files_of(name: str) -> list[Path]:
    return [path for path in MODULES if room(module_name(path)) == name]


def test_every_room_has_a_floor():
    assert {room(module_name(path)) for path in MODULES} <= set(FLOORS)


@pytest.mark.parametrize("own", FLOORS)
def test_imports_point_down(own):
    for path in files_of(own):
        for name in imported(path):
            other = room(name)
            if name.split(".")[0] == "transformer" and other != own:
                assert FLOORS[other] < FLOORS[own], f"{path} imports {name}, which is not on a lower floor"


def test_only_the_files_of_arrays_know_orbax():
    assert {module_name(path) for path in MODULES if "orbax" in libraries(path)} <= {"transformer.training.array_files"}


def test_data_is_without_jax():
    assert not [path for path in files_of("data") if libraries(path) & {"jax", "flax", "optax"}]


def test_model_is_without_files_flags_and_data():
    assert not [path for path in files_of("model") if libraries(path) & {"absl", "grain", "pathlib", "os"}]


def test_nothing_imports_tensorflow_or_torch():
    assert not [path for path in MODULES if libraries(path) & {"tensorflow", "torch"}]


def test_every_room_is_packaged():
    """setup.py finds packages by their __init__.py: a room without one would be missing from the wheel."""
    assert not [path.parent for path in MODULES if not (path.parent / "__init__.py").is_file()]


def test_test_files_have_names_of_their_own():
    names = [path.stem for path in TESTS.rglob("*.py") if path.stem != "conftest"]  # pytest keeps those apart
    assert sorted(names) == sorted(set(names))


def test_tests_mirror_the_package():
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir()} - {"configs", "__pycache__"}
    assert {path.name for path in TESTS.iterdir() if path.is_dir()} - {"__pycache__", "tpu"} <= rooms


def test_tensorflow_is_never_loaded(tmp_path):
    """Where it is installed (here: a stand-in), importing all of the package and running a command does not load it."""
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow" / "__init__.py").write_text('__version__ = "99.0"\n')
    names = [module_name(path) for path in MODULES if path.stem != "__main__"]
    program = f"""
import importlib, sys
for name in {names!r}:
    importlib.import_module(name)
from transformer.cli.main import main
main(["config", "--config=phrasebook"])
sys.exit("tensorflow was loaded" if "tensorflow" in sys.modules else 0)
"""
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{PACKAGE.parent}"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# --- the tests' own rules (conftest.py) ---


@pytest.mark.parametrize(("listed", "code"), [("", 1), ("test_one.py::test_skipped: wanted\n", 0)])
def test_unlisted_skip_fails_the_run(tmp_path, listed, code):
    (tmp_path / "conftest.py").write_text((TESTS / "conftest.py").read_text())
    (tmp_path / "allowed_skips.txt").write_text(listed)
    (tmp_path / "test_one.py").write_text(
        "import pytest\n\ndef test_runs(): pass\n\n@pytest.mark.skip(reason='so')\ndef test_skipped(): pass\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout
    assert ("NOT ALLOWED" in done.stdout) == bool(code)
    assert re.search(r"1 passed, 1 skipped", done.stdout.splitlines()[-1])


def test_tests_run_on_eight_devices_in_a_home_of_their_own():
    import jax

    assert jax.device_count() == 8
    assert "transformer-tests-home-" in str(Path.home())
    with pytest.raises(ValueError, match="rank_promotion"):
        jax.numpy.ones((2, 3)) + jax.numpy.ones(3)

"""Programs that are kept whole, so that a later command runs them without tracing the model again.

JAX's own cache keeps what XLA compiles and finds it by the traced program: of the 2 s of a small model's first
translation 0.4 went into tracing and lowering what had been compiled before. Here a program is found by what it is made
from: the source of this package, the versions of what it stands on, the model's config, the shapes it takes.

Only for a CPU and a single process. There it was measured; on others compiling is most of it, and JAX keeps that.
"""

import contextlib
import functools
import hashlib
import os
import pickle
import platform
import shutil
from collections.abc import Callable, Hashable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
from absl import logging
from jax.experimental import serialize_executable
from jax.experimental.compilation_cache import compilation_cache

from transformer import sharding
from transformer.data.cache import key_of, write_atomically

# Versions of this package and of JAX whose programs are kept, the newest: those of others are of no use to anyone.
VERSIONS = 4
_STANDS_ON = ("jax", "jaxlib", "flax")
# Variables whose names begin so may change what is traced or compiled.
_VARIABLES = ("JAX_", "XLA_")

_folder: Path | None = None


def keep_in(folder: Path | None, processor: str = "") -> None:
    """Where programs are kept from now on; None: nowhere.

    Args:
      processor: a name for its kind. Programs are not run on another.
    """
    global _folder
    _folder = None if folder is None else folder / key_of(_version(), processor)


class KeptProgram:
    """As `jax.jit(function)`, in a folder besides.

    Args:
      function: takes arrays by position, and by keyword what is static: values with a `repr` that tells all of them.
      made_from: descriptions of what the program depends on besides this package's source and what it is called with.
        With a None among them it is not kept.
      donate: positions of arrays it may overwrite.
    """

    def __init__(
        self,
        function: Callable,
        made_from: Sequence[str | None],
        *,
        static: tuple[str, ...] = (),
        donate: tuple[int, ...] = (),
    ):
        self._jitted = jax.jit(function, static_argnames=static, donate_argnums=donate)
        self._made_from = None if None in made_from else [function.__qualname__, *made_from]
        self._programs: dict[Hashable, Callable] = {}

    def __call__(self, *arrays: Any, **static: Hashable) -> Any:
        """What the function returns."""
        if _folder is None or self._made_from is None:
            return self._jitted(*arrays, **static)
        leaves, structure = jax.tree.flatten(arrays)
        shardings = [getattr(leaf, "sharding", None) for leaf in leaves]
        if not _is_run_by_all_of_a_cpu(shardings):
            return self._jitted(*arrays, **static)
        called_with = (structure, *map(jax.typeof, leaves), *shardings, *sorted(static.items()))
        if called_with not in self._programs:
            self._programs[called_with] = self._find(repr(called_with), arrays, static)
        return self._programs[called_with](*arrays)

    def count(self) -> int:
        """How many programs there are by now."""
        return len(self._programs) + self._jitted._cache_size()

    def _find(self, called_with: str, arrays: tuple, static: dict[str, Hashable]) -> Callable:
        """The program for arrays like these: read, else compiled and kept."""
        variables = sorted(item for item in os.environ.items() if item[0].startswith(_VARIABLES))
        path = _folder / key_of(self._made_from, called_with, variables, jax.device_count())
        try:
            return serialize_executable.deserialize_and_load(*pickle.loads(path.read_bytes()))
        except OSError:  # it is not there
            pass
        except Exception as error:  # whatever a damaged file leads to: it is replaced
            logging.warning("%s cannot be read (%s): compiled anew.", path, error)
        traced = self._jitted.lower(*arrays, **static)
        with _without_jax_cache():
            program = traced.compile()
        _keep(path, program)
        return program


def _is_run_by_all_of_a_cpu(shardings: list[jax.sharding.Sharding | None]) -> bool:
    """Whether arrays that lie so make a program for all devices, of a CPU, and of this process alone."""
    devices = next((where.device_set for where in shardings if where is not None), ())
    return len(devices) == jax.device_count() and jax.process_count() == 1 and sharding.platform() == "cpu"


@contextlib.contextmanager
def _without_jax_cache() -> Iterator[None]:
    """What JAX has read from its cache cannot be written again: on a CPU its functions would be missing."""
    before = jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
        compilation_cache.reset_cache()


def _keep(path: Path, program: jax.stages.Compiled) -> None:
    try:
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True)
            versions = sorted(path.parent.parent.iterdir(), key=lambda folder: folder.stat().st_mtime)
            for folder in versions[:-VERSIONS]:
                shutil.rmtree(folder, ignore_errors=True)
        write_atomically(path, pickle.dumps(serialize_executable.serialize(program)))
    except (OSError, ValueError, NotImplementedError) as error:  # the disk, or JAX, cannot
        logging.debug("%s is not kept: %s", path, error)


@functools.cache
def _version() -> list[str]:
    """Of this package, by its source, and of what it stands on."""
    package = Path(__file__).parents[1]
    source = hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        source.update(f"{file.relative_to(package)}\n".encode())
        source.update(file.read_bytes())
    return [source.hexdigest(), platform.python_version(), *map(metadata.version, _STANDS_ON)]

"""Programs that are kept whole, so that a later command runs them without tracing the model again.

JAX's own cache keeps what XLA compiles and finds it by the traced program: of the 2 s of a small model's first
translation 0.4 went into tracing and lowering what had been compiled before. Here a program is found by what it is made
from: the source of the packages it is made of, the versions of what they stand on, the model's config, JAX's settings,
the shapes it takes.

Only for a CPU and a single process. There it was measured; on others compiling is most of it, and JAX keeps that.
"""

import contextlib
import functools
import hashlib
import os
import pickle
import platform
import shutil
import threading
import zlib
from collections.abc import Callable, Hashable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
from absl import logging
from jax.experimental import serialize_executable
from jax.experimental.compilation_cache import compilation_cache

from transformer import sharding
from transformer.cores import cores
from transformer.data.cache import key_of, write_atomically

# Versions whose programs are kept for a kind of processor, those used last.
VERSIONS = 4
_STANDS_ON = ("jax", "jaxlib", "flax")
# Packages that no program of this one is made of: another version of these has the same programs.
NOT_IN_PROGRAMS = ("cli", "export", "planning", "training")
# Of JAX's settings, parts of the names of those that change no program.
_NO_MATTER = ("cache", "log", "traceback", "transfer_guard")

_folder: Path | None = None
_finding = threading.RLock()  # JAX's settings are one for all threads


def keep_in(folder: Path, processor: str) -> None:
    """Where programs are kept from now on.

    Args:
      processor: a name for its kind. Programs are not run on another.
    """
    global _folder
    _folder = folder / processor / version(Path(__file__).parents[1])


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
        name = f"{function.__module__}.{function.__qualname__}"
        self._made_from = None if None in made_from else [name, *made_from]
        self._programs: dict[Hashable, Callable] = {}

    def __call__(self, *arrays: Any, **static: Hashable) -> Any:
        """What the function returns."""
        if _folder is None or self._made_from is None or jax.config.jax_disable_jit:
            return self._jitted(*arrays, **static)
        leaves, structure = jax.tree.flatten(arrays)
        shardings = [getattr(leaf, "sharding", None) for leaf in leaves]
        if not _is_run_by_all_of_a_cpu(shardings):
            return self._jitted(*arrays, **static)
        mesh = jax.sharding.get_abstract_mesh()
        called_with = (mesh, structure, *map(jax.typeof, leaves), *shardings, *sorted(static.items()))
        if called_with not in self._programs:
            with _finding:
                self._programs[called_with] = self._find(repr(called_with), arrays, static)
        return self._programs[called_with](*arrays)

    def count(self) -> int:
        """How many programs there are by now."""
        return len(self._programs) + self._jitted._cache_size()

    def _find(self, called_with: str, arrays: tuple, static: dict[str, Hashable]) -> Callable:
        """The program for arrays like these: read, else compiled and kept."""
        path = _folder / key_of(self._made_from, called_with, _settings(), jax.device_count(), cores())
        try:
            # Compressed for the checksum most of all: of a damaged program all but the first jump may be in order.
            content = zlib.decompress(path.read_bytes())
            with contextlib.suppress(OSError):
                os.utime(path.parent)  # it was used
            return serialize_executable.deserialize_and_load(*pickle.loads(content))
        except OSError:  # it is not there
            pass
        except Exception as error:  # whatever a damaged file leads to: it is replaced
            logging.warning("%s cannot be read (%s): compiled anew.", path, error)
        traced = self._jitted.lower(*arrays, **static)
        if not _make(path.parent):
            return traced.compile()  # or read of JAX's cache
        with _without_jax_cache():
            program = traced.compile()
        _keep(path, program)
        return program


def version(package: Path) -> str:
    """A name for the source that programs are made of, and for the versions of what it stands on."""
    source = hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        name = file.relative_to(package)
        if name.parts[0] not in NOT_IN_PROGRAMS:
            source.update(f"{name} {file.stat().st_size}\n".encode())
            source.update(file.read_bytes())
    return key_of(source.hexdigest(), platform.python_version(), *map(metadata.version, _STANDS_ON))


def _is_run_by_all_of_a_cpu(shardings: list[jax.sharding.Sharding | None]) -> bool:
    """Whether arrays that lie so make a program for all devices, of a CPU, and of this process alone."""
    devices = next((where.device_set for where in shardings if where is not None), ())
    return len(devices) == jax.device_count() and jax.process_count() == 1 and sharding.platform() == "cpu"


def _settings() -> list[tuple[str, str]]:
    """What JAX and XLA are told that may change a program."""
    ours = {name: repr(value) for name, value in jax.config.values.items() if not any(map(name.count, _NO_MATTER))}
    return sorted(ours.items()) + sorted(item for item in os.environ.items() if item[0].startswith("XLA_"))


@functools.cache
def _make(folder: Path) -> bool:
    """Makes it, removes the versions used longest ago, and says whether it can be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        versions = sorted(folder.parent.iterdir(), key=lambda version: version.stat().st_mtime)
    except OSError:
        return False
    for unused in versions[:-VERSIONS]:
        shutil.rmtree(unused, ignore_errors=True)
    return os.access(folder, os.W_OK | os.X_OK)


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
        write_atomically(path, zlib.compress(pickle.dumps(serialize_executable.serialize(program)), 1))
    except (OSError, ValueError, NotImplementedError) as error:  # the disk, or JAX, cannot
        logging.warning("%s cannot be kept, and is compiled by every command: %s", path, error)

"""Compiled programs are kept on disk: a second command reads what the first one had to compile.

They are in JAX_COMPILATION_CACHE_DIR where that is set, which may be in a bucket, else in a folder of the user's cache
(XDG_CACHE_HOME, else ~/.cache) that is named after the processor. In its folder `whole` are those of
`evaluation.kept_programs`, but not in a bucket.
"""

import hashlib
import math
import os
import platform
from pathlib import Path

from absl import logging

_CPUINFO = Path("/proc/cpuinfo")  # Linux
# What LLVM chooses instructions by. Other lines change from moment to moment, such as the clock's rate.
_KIND = ("vendor_id", "cpu family", "model", "flags", "CPU implementer", "CPU part", "CPU architecture", "Features")


def set_up() -> None:
    """Tells JAX and `kept_programs` where to keep programs. Where nothing can be, it says so; all else is the same."""
    import jax  # here, so that `--help` need not wait for it

    from transformer.evaluation import kept_programs

    chosen = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    if chosen == "":
        return  # none is wanted
    try:
        folder = chosen or str(default_folder())
    except RuntimeError as error:  # a user without a home
        logging.warning("%s: every command compiles its programs anew. Set JAX_COMPILATION_CACHE_DIR.", error)
        return
    obstacle = None if "://" in folder else _obstacle(Path(folder))
    readable = os.path.isdir(folder)
    if obstacle is not None:
        kept = "no program is added to those kept there" if readable else "every command compiles its programs anew"
        logging.warning(
            "%s cannot be written (%s): %s. Set JAX_COMPILATION_CACHE_DIR to a folder that can.", folder, obstacle, kept
        )
    jax.config.update("jax_compilation_cache_dir", None if obstacle and not readable else folder)
    if "://" not in folder and (obstacle is None or readable) and jax.config.jax_enable_compilation_cache:
        kept_programs.keep_in(Path(folder, "whole"), _processor())
    # By itself JAX leaves out what compiled within a second; of such programs there are many before a first step.
    if obstacle is not None:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", math.inf)
    elif "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def default_folder() -> Path:
    """Where programs are kept unless JAX_COMPILATION_CACHE_DIR says otherwise."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    # The standard has relative paths ignored.
    cache = Path(home) if os.path.isabs(home) else Path.home() / ".cache"
    return cache / "transformer/xla" / _processor()


def _processor() -> str:
    """A name for what programs are compiled for.

    JAX finds a program again by everything but the CPU. In a home that several machines share, one machine would run
    what was compiled for instructions that only another has, and end by SIGILL.
    """
    kind = [platform.processor()]
    if _CPUINFO.is_file():
        first = _CPUINFO.read_text().split("\n\n")[0]
        kind = [line for line in first.splitlines() if line.split("\t")[0].rstrip(": ") in _KIND]
    return f"{platform.machine()}-{hashlib.sha256(chr(10).join(kind).encode()).hexdigest()[:12]}"


def _obstacle(folder: Path) -> str | None:
    """Why nothing can be written to a folder, which is made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return error.strerror
    return None if os.access(folder, os.W_OK | os.X_OK) else "Permission denied"

"""Start-up of a process that computes, in one place: huge pages, devices, the compilation cache, logging."""

import gc
import logging as standard_logging
import os
import sys
from importlib import metadata
from pathlib import Path

from absl import flags, logging

from transformer.cli import compilation_cache, distributed
from transformer.cli.verb import Arguments
from transformer.cores import cores

# Huge pages; and what one step frees (up to 64 MiB an array) stays with the process, which the next step then need not
# fault in and zero again. Larger arrays still go back: kept, they would fragment a large model's memory.
MALLOC = "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=67108864:glibc.malloc.trim_threshold=1073741824"
_XLA_THREADS = "--xla_cpu_multi_thread_eigen"
_SINCE_GLIBC = (2, 35)
_SYSTEM_SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_PACKAGE = Path(__file__).parents[1]


def define_flags(values: flags.FlagValues) -> None:
    define_cpu_devices(values)
    distributed.define_flags(values)


def define_cpu_devices(values: flags.FlagValues) -> None:
    text = (
        "Split the CPU into this many devices, to try a mesh without accelerators; 0: one device. As many as there are "
        "cores, in one process, train a small model faster, and take more memory."
    )
    flags.DEFINE_integer("cpu_devices", 0, text, lower_bound=0, flag_values=values)


def start(given: Arguments) -> None:
    """Prepares a process of the command line for JAX. A verb calls it before anything touches a device."""
    if given.may_restart:
        restart_with_huge_pages()
    set_up_logging()
    choose_devices(given)
    import jax  # here, so that `--help` need not wait for it

    compilation_cache.set_up()
    distributed.start(given)
    if jax.process_count() > 1:
        leave_stdout_to_results()
    if jax.process_index() > 0:
        speak_of_trouble_only(jax.process_index())


def choose_devices(given: Arguments) -> None:
    """Before JAX is used: the CPU where there is nothing else, and in how many parts."""
    if not _has_accelerator():
        # Where libtpu is installed, for `transformer plan`, JAX would look for its chips and complain.
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
    if given.flags.cpu_devices >= cores():
        _keep_devices_to_a_thread_each()
    if given.flags.cpu_devices:
        import jax

        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", given.flags.cpu_devices)


def _keep_devices_to_a_thread_each() -> None:
    """Has XLA not spread the work of one CPU device over cores that the others are busy on. What the user set is kept.

    To hand a small piece of work to another core and wait for it takes as long as the piece.
    """
    given = os.environ.get("XLA_FLAGS", "")
    if _XLA_THREADS not in given:
        os.environ["XLA_FLAGS"] = f"{given} {_XLA_THREADS}=false".strip()


def collect_garbage_seldom() -> None:
    """Has Python look for unreachable cycles after 50,000 new objects instead of 700.

    Importing JAX and tracing a model make hundreds of thousands of objects that stay, and looking through them again
    and again is work for nothing. With no collection at all a tiny model's first translation came in 1.7 s instead of
    2.0 (medians of three); a base model's did not come measurably sooner.
    """
    gc.set_threshold(50_000)


# --- huge pages ---


def restart_with_huge_pages() -> None:
    """Replaces this process by itself with huge pages for malloc, once, where that is of use.

    On Linux a CPU training step takes 0.57 to 0.69 of the time with them (fresh activations of every step are not
    zeroed in 4 KiB pages), and a tiny model's a tenth less again where malloc keeps what was freed. glibc reads such
    settings only when a process starts.
    """
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    if "glibc.malloc.hugetlb" in tunables or not has_huge_pages() or _has_accelerator():
        return
    os.environ["GLIBC_TUNABLES"] = f"{tunables}:{MALLOC}" if tunables else MALLOC
    setting = f"GLIBC_TUNABLES={os.environ['GLIBC_TUNABLES']}"
    print(f"Restarting with {setting}: huge pages, kept, make a CPU faster.", file=sys.stderr, flush=True)
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def has_huge_pages() -> bool:
    if sys.platform != "linux" or not _SYSTEM_SETTING.is_file():
        return False
    library, _, version = os.confstr("CS_GNU_LIBC_VERSION").partition(" ")
    recent = library == "glibc" and tuple(int(part) for part in version.split(".")[:2]) >= _SINCE_GLIBC
    return recent and "[never]" not in _SYSTEM_SETTING.read_text()


def _has_accelerator() -> bool:
    """Whether JAX will compute on something else than the CPU, as far as can be known without starting it."""
    chosen = os.environ.get("JAX_PLATFORMS", "")
    if chosen:
        return chosen.split(",")[0] != "cpu"
    plugins = metadata.entry_points(group="jax_plugins")  # GPUs
    chips = [*Path("/dev").glob("accel[0-9]*"), *Path("/dev").glob("vfio/[0-9]*")]  # TPUs
    return bool(plugins or chips)


# --- logging ---


def set_up_logging() -> None:
    """Our own lines from INFO, other libraries' from WARNING, on stderr without decoration."""
    handler = standard_logging.StreamHandler()
    handler.setFormatter(standard_logging.Formatter("%(message)s"))
    handler.addFilter(_is_worth_showing)
    standard_logging.basicConfig(handlers=[handler], level=standard_logging.INFO, force=True)
    logging.set_verbosity(logging.INFO)


def leave_stdout_to_results() -> None:
    """What libraries written in C++ print goes to stderr: between CPUs, Gloo tells whom it is connected to."""
    sys.stdout.flush()
    sys.stdout = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding=sys.stdout.encoding, errors=sys.stdout.errors)
    os.dup2(sys.stderr.fileno(), 1)


def speak_of_trouble_only(process_index: int) -> None:
    """For all processes but the first: what goes wrong, and where. Results come from the first one alone."""
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  until the process ends
    logging.set_verbosity(logging.WARNING)
    for handler in standard_logging.getLogger().handlers:
        handler.setFormatter(standard_logging.Formatter(f"[process {process_index}] %(message)s"))


def _is_worth_showing(record: standard_logging.LogRecord) -> bool:
    return record.levelno >= standard_logging.WARNING or Path(record.pathname).is_relative_to(_PACKAGE)

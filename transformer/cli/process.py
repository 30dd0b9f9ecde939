"""Start-up of a process that computes, in one place: devices, kept programs, logging. See also main.py."""

import logging as standard_logging
import os
import sys
from pathlib import Path

from absl import flags, logging

from transformer.cli import compilation_cache, distributed
from transformer.cli.accelerator import has_accelerator
from transformer.cli.verb import Arguments
from transformer.cores import cores

_XLA_THREADS = "--xla_cpu_multi_thread_eigen"
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
    if not has_accelerator():
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

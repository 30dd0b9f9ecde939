"""What every test runs under: 8 virtual devices, a home of its own, and no skip that is not on the list."""

import logging as standard_logging
import os
import shutil
import signal
import tempfile
from importlib import metadata
from pathlib import Path

import pytest

# Outside the clone, and kept: compiling is most of what the tests do.
_KEPT = Path.home() / ".cache" / "transformer" / "tests"
_HOME = tempfile.mkdtemp(prefix="transformer-tests-home-")
# Compiled in a third of the time: most programs run once or twice. `XLA_FLAGS= pytest ...` compiles as users do.
_QUICK = [
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_parallel_codegen_split_count=1",
]
if metadata.version("jax") < "0.11":  # later versions do not know the flag
    _QUICK.append("--xla_cpu_use_fusion_emitters=false")
# Also for the processes that tests start.
os.environ.setdefault("XLA_FLAGS", " ".join(_QUICK))
os.environ.update(
    HOME=_HOME,
    JAX_PLATFORMS="cpu",
    JAX_COMPILATION_CACHE_DIR=str(_KEPT / "xla"),
    JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0.1",
    MPLCONFIGDIR=str(_KEPT / "matplotlib"),
    GLIBC_TUNABLES="glibc.malloc.hugetlb=1",  # set, so that commands do not restart themselves
)
for _name in ("XDG_CACHE_HOME", "TFDS_DATA_DIR"):
    os.environ.pop(_name, None)

# A shell starts what it runs in the background with Ctrl-C ignored; the tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)

import jax  # noqa: E402  the environment above must come first
from absl import logging  # noqa: E402

from transformer.cores import cores  # noqa: E402

# As the commands have it. Left alone, what `caplog` sees would depend on the tests before.
logging.set_verbosity(logging.INFO)

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_xdist_auto_num_workers(config):
    """One more than cores: tests that start processes wait for them. On 2 cores 3 took four fifths of the time of 2."""
    return int(os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS") or min(cores() + 1, 8))  # each takes up to 2 GB


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """A command in a test sets logging up to write to what pytest captures of it, which is closed when it ends."""
    root = standard_logging.getLogger()
    handlers, level = root.handlers[:], root.level
    result = yield
    root.handlers[:] = handlers
    root.setLevel(level)
    return result


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    """No program is kept for the next test: what a test puts in the place of a function is not seen by its name."""
    from transformer.evaluation import kept_programs

    monkeypatch.setattr(kept_programs, "_folder", None)
    monkeypatch.setattr(kept_programs, "keep_in", lambda folder, processor: None)


# --- skipped tests: each must be in allowed_skips.txt, so that none goes quiet unseen ---

_ALLOWED = Path(__file__).with_name("allowed_skips.txt")
_skipped: dict[str, str] = {}


def _allowed() -> dict[str, str]:
    """Test -> reason, from lines `TEST: REASON`."""
    lines = [line for line in _ALLOWED.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split(": ", 1) for line in lines)


def _unlisted() -> list[str]:
    return sorted(set(_skipped) - set(_allowed()))


def _note_skip(report):
    if report.skipped and not hasattr(report, "wasxfail"):
        _skipped[report.nodeid] = report.longrepr[2]


def pytest_runtest_logreport(report):
    _note_skip(report)


def pytest_collectreport(report):
    _note_skip(report)


def pytest_sessionfinish(session, exitstatus):
    shutil.rmtree(_HOME, ignore_errors=True)
    if exitstatus == pytest.ExitCode.OK and _unlisted():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter):
    terminalreporter.section("skips allowed by tests/allowed_skips.txt")
    for name, reason in _allowed().items():
        terminalreporter.line(f"{name}: {reason}")
    for name in _unlisted():
        terminalreporter.line(f"NOT ALLOWED, so the run fails: {name}: {_skipped[name]}", red=True)

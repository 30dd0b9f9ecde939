"""Which processes there are: told, found, or not told completely."""

import types

import jax
import pytest
from absl import flags

from transformer.cli import distributed
from transformer.cli.usage import UsageError

COMPLETE = ["--coordinator_address=10.0.0.2:9900", "--num_processes=4", "--process_id=3"]
ENVIRONMENTS = {
    "SLURM": {"SLURM_STEP_ID": "0", "SLURM_NTASKS": "2", "SLURM_STEP_NODELIST": "node[1-2]"},
    "Open MPI": {"OMPI_COMM_WORLD_SIZE": "2"},
    "TPU_WORKER_HOSTNAMES": {"TPU_WORKER_HOSTNAMES": "10.0.0.1,10.0.0.2"},
    "MEGASCALE": {"MEGASCALE_COORDINATOR_ADDRESS": "10.0.0.1:8080"},
}


@pytest.fixture
def settings():
    """JAX's, as they were set."""
    return {}


@pytest.fixture
def start(monkeypatch, settings):
    """Starts with these words; gives what `jax.distributed.initialize` was told, None when it was not called."""
    monkeypatch.setattr(distributed.glob, "glob", lambda pattern: [])
    theirs = [name for names in ENVIRONMENTS.values() for name in names]
    for name in (*theirs, "SLURM_STEP_TASKS_PER_NODE", "SLURM_GPUS_ON_NODE", "JAX_LOCAL_DEVICE_IDS"):
        monkeypatch.delenv(name, raising=False)

    monkeypatch.setattr(jax.config, "update", lambda name, value: settings.update({name: value}))

    def start(*words):
        calls = []
        monkeypatch.setattr(jax.distributed, "initialize", lambda **told: calls.append(told))
        values = flags.FlagValues()
        distributed.define_flags(values)
        values(["transformer", *words])
        distributed.start(types.SimpleNamespace(flags=values))
        return calls[0] if calls else None

    return start


def test_alone_nothing_is_joined(start, monkeypatch):
    assert start() is None
    monkeypatch.setenv("TPU_WORKER_HOSTNAMES", "localhost")
    monkeypatch.setenv("SLURM_STEP_ID", "0")
    monkeypatch.setenv("SLURM_NTASKS", "1")
    assert start() is None


def test_sigterm_is_left_to_the_run(start, settings):
    start(*COMPLETE)
    assert settings == {"jax_enable_preemption_service": False}


def test_flags_are_passed_on(start):
    told = start(*COMPLETE, "--startup_timeout=7")
    assert told["coordinator_address"] == "10.0.0.2:9900"
    assert (told["num_processes"], told["process_id"]) == (4, 3)
    assert told["initialization_timeout"] > 7  # ours speaks first


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_environments_are_left_to_jax(start, monkeypatch, name, caplog):
    for variable, value in ENVIRONMENTS[name].items():
        monkeypatch.setenv(variable, value)
    with caplog.at_level("INFO"):
        told = start()
    assert "coordinator_address" not in told
    assert name in caplog.text


@pytest.mark.parametrize(
    ("tasks", "gpus", "taken"),
    [
        ("1(x2)", "4", [0, 1, 2, 3]),
        ("1", "2", [0, 1]),
        ("1(x2)", "1", None),
        ("1(x2)", None, None),  # no GPUs
        ("4(x2)", "4", None),
        ("2,1", "4", None),
    ],
)
@pytest.mark.parametrize("words", [[], COMPLETE], ids=["found", "told"])
def test_one_process_a_node_has_all_its_gpus(start, monkeypatch, tasks, gpus, taken, words):
    """Left alone JAX takes the first."""
    environment = {**ENVIRONMENTS["SLURM"], "SLURM_STEP_TASKS_PER_NODE": tasks, "SLURM_GPUS_ON_NODE": gpus}
    for variable, value in environment.items():
        if value is not None:
            monkeypatch.setenv(variable, value)
    assert start(*words)["local_device_ids"] == taken
    monkeypatch.setenv("JAX_LOCAL_DEVICE_IDS", "1")
    assert start(*words)["local_device_ids"] is None


@pytest.mark.parametrize(
    ("error", "explained", "code"),
    [(UsageError("no"), True, 2), (RuntimeError("a bug"), False, 1), (KeyboardInterrupt(), True, 130)],
)
def test_the_exit_code_is_that_of_one_process(monkeypatch, capsys, error, explained, code):
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
    codes = []
    monkeypatch.setattr(distributed.os, "_exit", codes.append)
    distributed.leave(error, explained=explained)
    assert codes == [code]
    assert "[process 0]" in capsys.readouterr().err


def test_a_tpu_asks_its_metadata(start, monkeypatch):
    monkeypatch.setattr(distributed.glob, "glob", lambda pattern: ["/dev/accel0"] if "accel" in pattern else [])
    assert "coordinator_address" not in start()


@pytest.mark.parametrize("left_out", range(3))
def test_what_is_missing_is_named(start, left_out):
    words = [word for i, word in enumerate(COMPLETE) if i != left_out]
    name = COMPLETE[left_out].partition("=")[0]
    with pytest.raises(UsageError, match=f"^{name} is missing: several processes need"):
        start(*words)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({0: "--coordinator_address=10.0.0.2"}, "has no port. Write HOST:PORT"),
        ({2: "--process_id=4"}, "--process_id=4 is too large: --num_processes=4 are counted from 0"),
    ],
)
def test_what_cannot_be_is_told(start, changed, message):
    words = [changed.get(i, word) for i, word in enumerate(COMPLETE)]
    with pytest.raises(UsageError, match=message):
        start(*words)


def test_an_environment_that_lacks_something_is_explained(start, monkeypatch):
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")

    def initialize(**told):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    values = flags.FlagValues()
    distributed.define_flags(values)
    values(["transformer"])
    with pytest.raises(UsageError, match="cannot be joined by Open MPI: 2 processes: coordinator_address should be"):
        distributed.start(types.SimpleNamespace(flags=values))

"""Several processes on loopback are one run: the same losses, one log, one end, whoever is told to stop."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from transformer.training import metrics_log, processes
from transformer.training.checkpoint import CheckpointReader

ROOT = Path(__file__).parents[2]
STEPS = 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("processes")


@pytest.fixture(scope="module")
def config_file(folder):
    path = folder / "config.py"
    program = f"""
        import sys
        from pathlib import Path

        sys.path.append({str(ROOT / "tests")!r})
        import tiny_run

        # As on a TPU pod, where a host has a square of the grid of chips: neighbours belong to different processes.
        tiny_run.deal_out_devices()

        def get_config():
            config = tiny_run.config(Path({str(folder)!r}))
            config.training.steps = {STEPS}
            config.model.dropout = 0.1
            config.data.batching = "packing"
            config.evaluation.every = 12
            config.checkpoint.every = 4
            config.checkpoint.keep_last = 10
            config.checkpoint.average = 2
            # What decodes is compiled where a test wants it.
            config.evaluation.bleu_sentences, config.data.test = 0, ()
            return config
    """
    path.write_text(textwrap.dedent(program))
    return path


class Group:
    """The processes of one run."""

    def __init__(
        self,
        count: int,
        devices: int,
        *words: str,
        index_flag: str = "",
        verb: str = "train",
        inputs: list[Path] | None = None,
    ):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        joined = [f"--coordinator_address={address}", f"--num_processes={count}"]
        self.members = [
            subprocess.Popen(
                [
                    *[sys.executable, "-m", "transformer", verb, f"--cpu_devices={devices}", *words],
                    *([*joined, f"--process_id={index}"] if count > 1 else []),
                    *([index_flag.format(index)] if index_flag else []),
                ],
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
                stdin=inputs[index].open() if inputs else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for index in range(count)
        ]
        self.outputs: list[str] = []

    def wait(self, seconds: float = 600) -> list[str]:
        """What each said on stderr; what they wrote is in `outputs`."""
        try:
            both = [member.communicate(timeout=seconds) for member in self.members]
            self.outputs = [output for output, _ in both]
            return [said for _, said in both]
        finally:
            for member in self.members:
                member.kill()

    @property
    def codes(self) -> list[int]:
        return [member.returncode for member in self.members]


def train(count: int, devices: int, config_file: Path, workdir: Path, *words: str) -> list[str]:
    group = Group(count, devices, f"--config={config_file}", f"--workdir={workdir}", *words)
    said = group.wait()
    assert group.codes == [0] * count, "\n".join(said)
    return said


def lines(workdir: Path) -> list[dict]:
    records = metrics_log.read(workdir / "metrics.jsonl")
    return [{name: value for name, value in record.items() if not name.startswith("time/")} for record in records]


def assert_same_run(workdir: Path, other: Path) -> None:
    """Rounding apart: sums over devices are added up in another order."""
    assert len(lines(workdir)) == len(lines(other)) > 0
    for mine, theirs in zip(lines(workdir), lines(other), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-4)
    params, expected = (CheckpointReader(run / "checkpoints").restore_params(STEPS) for run in (workdir, other))
    flat, flat_expected = (dict(_leaves(tree)) for tree in (params, expected))
    for name, array in flat.items():
        difference = np.linalg.norm(array - flat_expected[name]) / np.linalg.norm(flat_expected[name])
        assert difference < 1e-4, (name, difference)


def _leaves(tree: dict, prefix: str = ""):
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}/")
        else:
            yield prefix + name, value


@pytest.fixture(scope="module")
def alone(folder, config_file):
    """One process, one device."""
    train(1, 1, config_file, folder / "alone")
    return folder / "alone"


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_several_processes_are_one_run(folder, config_file, alone, count):
    """Each has its part of the rows of a batch, and each of its devices half of the parameters."""
    workdir = folder / f"of_{count}"
    first, *others = train(count, 2, config_file, workdir, "--config.mesh.fsdp=2")
    assert_same_run(workdir, alone)
    assert f"Process 0 of {count}" in first
    assert f"Done: {STEPS} steps" in first
    for other in others:
        assert not [line for line in other.splitlines() if "step" in line or "Done" in line], other
    assert (workdir / "attention.png").exists()


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 2])
def test_processes_that_share_the_heads_translate_too(folder, config_file, devices):
    """A model that no process holds whole, validated, averaged and scored."""
    test = f"--config.data.test=lines:{folder}/test.en:{folder}/test.de"
    words = [test, "--config.evaluation.bleu_sentences=8"]
    one, workdir = folder / f"whole_{devices}", folder / f"heads_{devices}"
    train(1, 1, config_file, one, *words)
    said = train(2, devices, config_file, workdir, *words, "--config.mesh.tensor=2")
    assert_same_run(workdir, one)
    assert "Translations of" in said[0]
    scores = [json.loads((run / "summary.json").read_text())["scores"] for run in (workdir, one)]
    assert [score["value"] for score in scores[0]] == pytest.approx([score["value"] for score in scores[1]])


@pytest.mark.parametrize("resumed_by", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_stop_on_one_stops_all_and_another_number_goes_on(folder, config_file, alone, resumed_by):
    workdir = folder / f"stopped_{resumed_by}"
    group = Group(2, 1, f"--config={config_file}", f"--workdir={workdir}")
    log = workdir / "metrics.jsonl"
    while group.members[0].poll() is None and not (log.exists() and log.read_bytes()):
        time.sleep(0.02)
    group.members[1].send_signal(signal.SIGTERM)
    said = group.wait()
    assert group.codes == [0, 0], "\n".join(said)
    step = int(re.search(r"Stopped by a signal to another process after step ([\d,]+); all is saved", said[0])[1])
    assert step < STEPS
    assert CheckpointReader(workdir / "checkpoints").latest() == step

    train(resumed_by, 1, config_file, workdir)
    assert_same_run(workdir, alone)


@pytest.mark.slow
def test_stop_on_one_while_the_result_is_scored(folder, config_file):
    """All of them leave off, and the same command scores it."""
    workdir = folder / "scored"
    test = f"--config.data.test=lines:{folder}/train.en:{folder}/train.de"
    words = [f"--config={config_file}", test, "--config.training.steps=8", f"--workdir={workdir}"]
    group = Group(2, 1, *words)
    while group.members[0].poll() is None and not (workdir / "average" / "8" / "manifest.json").exists():
        time.sleep(0.02)
    group.members[1].send_signal(signal.SIGTERM)
    began = time.monotonic()
    said = group.wait()
    assert group.codes == [0, 0], "\n".join(said)
    assert time.monotonic() - began < 90
    assert "Stopped by a signal to another process after step 8; all is saved" in said[0]
    assert not (workdir / "summary.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("same", [True, False])
def test_processes_that_translate_together_are_one_command(alone, tmp_path, same):
    (tmp_path / "first").write_text("anna is very kind\n")
    (tmp_path / "other").write_text("anna is very kind\n" * (1 if same else 2))
    inputs = [tmp_path / "first", tmp_path / "other"]
    group = Group(2, 1, f"--workdir={alone}", "--config.mesh.tensor=2", verb="translate", inputs=inputs)
    said = group.wait()
    if same:
        assert group.codes == [0, 0], said
        assert [len(output.splitlines()) for output in group.outputs] == [1, 0]
    else:
        assert 2 in group.codes and 0 not in group.codes
        assert "Stdin differs between process 0 and process 1. All processes translate together" in str(said)


def test_what_would_send_processes_different_ways_is_told(folder, config_file):
    group = Group(2, 1, f"--config={config_file}", f"--workdir={folder}/some", index_flag="--config.seed={}")
    said = group.wait()
    assert 2 in group.codes and 0 not in group.codes  # one may find that the other is gone already
    assert "The config differs between process 0 and process 1. Give every process the same flags." in "".join(said)
    assert not (folder / "some").exists()


@pytest.mark.slow
def test_a_killed_process_ends_the_others_in_time(folder, config_file):
    workdir = folder / "killed"
    group = Group(2, 1, f"--config={config_file}", f"--workdir={workdir}", "--config.training.steps=1000000")
    log = workdir / "metrics.jsonl"
    while group.members[0].poll() is None and not (log.exists() and log.read_bytes()):
        time.sleep(0.02)
    group.members[1].kill()
    began = time.monotonic()
    said = group.wait(seconds=100)
    assert time.monotonic() - began < 90
    assert group.codes[0] not in (0, None)
    assert said[0].strip()
    print(said[0][:1000])
    train(1, 2, config_file, workdir, f"--config.training.steps={STEPS}")


def test_a_process_that_never_comes(folder, config_file):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["--num_processes=2", f"--coordinator_address=127.0.0.1:{port}", "--startup_timeout=5"]
    for index in range(2):
        command = [sys.executable, "-m", "transformer", "train", f"--config={config_file}", "--workdir=never"]
        done = subprocess.run(
            [*command, *words, f"--process_id={index}"],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert done.returncode == 1
        assert "After 5 s not all processes are there" in done.stderr
        assert not (folder / "never").exists()


def test_a_folder_that_is_another_one_elsewhere_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(processes.jax, "process_count", lambda: 3)
    monkeypatch.setattr(processes.multihost_utils, "broadcast_one_to_all", lambda own: own)
    monkeypatch.setattr(processes.multihost_utils, "sync_global_devices", lambda name: None)
    monkeypatch.setattr(processes.multihost_utils, "process_allgather", lambda own: np.array([own, own, 0]))
    with pytest.raises(processes.ProcessesDifferError, match=r"that process 2 sees. Share it"):
        processes.check_shared(tmp_path, "Share it.")
    monkeypatch.setattr(processes.multihost_utils, "process_allgather", lambda own: np.array([own, own, own]))
    processes.check_shared(tmp_path, "Share it.")
    assert not list(tmp_path.iterdir())


def test_what_differs_between_processes_is_named(monkeypatch):
    monkeypatch.setattr(processes.jax, "process_count", lambda: 3)
    monkeypatch.setattr(processes.multihost_utils, "process_allgather", lambda own: np.array([own, own, own + 1]))
    with pytest.raises(
        processes.ProcessesDifferError, match=r"The data differs between process 0 and process 2. Copy it"
    ):
        processes.check_same("The data", "abc", "Copy it.")
    monkeypatch.setattr(processes.multihost_utils, "process_allgather", lambda own: np.array([own, own, own]))
    processes.check_same("The data", "abc", "Copy it.")

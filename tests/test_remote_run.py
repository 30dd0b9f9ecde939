"""A run whose work directory is in an object store: killed, resumed, averaged and used, it is the run on a disk.

Run as a program, this file does what the JSON objects on its input say, a line each: {"train": CONFIG, "workdir": DIR,
"until": STEP}, or {"words": [...], "input": TEXT} for `transformer WORDS`, whose output goes to a file.
"""

import contextlib
import dataclasses
import io
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import fsspec
import numpy as np
import pytest
import tiny_run
from absl import logging
from fake_google import FakeGoogle, fake_google
from fake_store import fake_s3

import transformer
from transformer import config as config_module
from transformer.config import Config
from transformer.training import metrics_log, storage
from transformer.training.checkpoint import CheckpointError, CheckpointReader
from transformer.training.workdir import Workdir

STEPS, KILLED_SAVE = 36, 24
SENTENCE = "anna is very kind"


def config_of(folder: Path) -> Config:
    config = tiny_run.config(folder)
    config.training.steps = STEPS
    config.training.profile_steps = 2
    config.evaluation.every = 12
    config.evaluation.bleu_sentences = 2
    config.checkpoint.keep_last = 2
    return config


def lines(workdir) -> list[dict]:
    """All that does not come from clocks."""
    records = metrics_log.read(Workdir(workdir).metrics)
    return [{name: value for name, value in record.items() if not name.startswith("time/")} for record in records]


def params(workdir) -> dict:
    return CheckpointReader(Workdir(workdir).checkpoints).restore_params(STEPS)


def assert_same_arrays(ours, expected) -> None:
    assert ours.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, dict):
            assert_same_arrays(ours[name], value)
        else:
            np.testing.assert_array_equal(ours[name], value)


# --- gs://, as Orbax, TensorStore and gcsfs do it, in processes of their own ---


def serve(output: Path) -> None:
    logging.set_verbosity(logging.INFO)
    answers = []
    for line in sys.stdin:
        order = json.loads(line)
        if "train" in order:
            tiny_run.train(config_module.from_json(order["train"]), order["workdir"])
            answers.append({"lines": lines(order["workdir"]), "params": as_lists(params(order["workdir"]))})
        else:
            answers.append(run_verb(order["words"], order["input"]))
    output.write_text(json.dumps(answers))


def run_verb(words: list[str], text: str) -> str:
    from transformer.cli.main import main

    sys.stdin = io.TextIOWrapper(io.BytesIO(text.encode()))
    with contextlib.redirect_stdout(io.StringIO()) as said:
        main(words)
    return said.getvalue()


def as_lists(tree):
    return {name: as_lists(leaf) for name, leaf in tree.items()} if isinstance(tree, dict) else tree.tolist()


@dataclasses.dataclass(frozen=True)
class Done:
    code: int
    said: str
    answers: list


def run(server: FakeGoogle, folder: Path, orders: list[dict], on_start=lambda process: None) -> Done:
    """What a process answers to `orders`."""
    output = folder / "answers.json"
    output.unlink(missing_ok=True)
    environment = os.environ | server.environment | {"PYTHONPATH": os.pathsep.join(sys.path)}
    pipe = subprocess.PIPE
    command = [sys.executable, "-W", "ignore", __file__, str(output)]
    with subprocess.Popen(command, stdin=pipe, stderr=pipe, text=True, env=environment) as process:
        on_start(process)
        said = process.communicate("".join(json.dumps(order) + "\n" for order in orders), timeout=300)[1]
    return Done(process.returncode, said, json.loads(output.read_text()) if output.exists() else [])


@pytest.fixture
def with_tensorflow(monkeypatch, tmp_path):
    """Something is installed by that name, which must not be loaded."""
    (tmp_path / "libraries/tensorflow").mkdir(parents=True)
    (tmp_path / "libraries/tensorflow/__init__.py").write_text("raise AssertionError('TensorFlow was loaded')")
    monkeypatch.syspath_prepend(tmp_path / "libraries")


@pytest.mark.usefixtures("with_tensorflow")
def test_killed_and_resumed_in_a_bucket_it_is_the_run_on_a_disk(tmp_path):
    config = config_module.to_json(config_of(tmp_path))
    verbs = [
        (["translate"], SENTENCE),
        (["average", "--last=2"], ""),
        (["evaluate", f"--test=lines:{tmp_path / 'test.en'}:{tmp_path / 'test.de'}"], ""),
        (["config", "--json"], ""),
    ]

    def orders(workdir: str) -> list[dict]:
        said = [{"words": [*words, f"--workdir={workdir}"], "input": text} for words, text in verbs]
        return [{"train": config, "workdir": workdir}, *said]

    with fake_google() as server:

        def kill_in_a_save(process):
            def before_write(name, content):
                if name == f"run/checkpoints/{KILLED_SAVE}/manifest.json":
                    process.send_signal(signal.SIGKILL)
                    process.wait()
                    raise ConnectionAbortedError

            server.before_write = before_write

        killed = run(server, tmp_path, orders("gs://bucket/run"), kill_in_a_save)
        assert killed.code == -signal.SIGKILL, killed.said
        left = server.names(f"run/checkpoints/{KILLED_SAVE}/")
        assert f"run/checkpoints/{KILLED_SAVE}/state/manifest.ocdbt" in left
        logged = b"".join(server.objects[name] for name in server.names("run/metrics/")).splitlines()
        assert json.loads(logged[-1])["step"] >= KILLED_SAVE  # before the save that counts on it

        server.before_write = lambda name, content: None
        server.failures = 3
        resumed = run(server, tmp_path, [*orders("gs://bucket/run"), *orders(str(tmp_path / "disk"))])
        assert resumed.code == 0, resumed.said
        assert server.failures == 0
        assert f"Removing gs://bucket/run/checkpoints/{KILLED_SAVE}, whose save was cut short" in resumed.said
        assert "Resuming from step 12 in gs://bucket/run/checkpoints" in resumed.said
        half = len(resumed.answers) // 2
        for ours, expected in zip(resumed.answers[:half], resumed.answers[half:], strict=True):
            assert json.dumps(ours).replace("gs://bucket/run", "DIR") == json.dumps(expected).replace(
                str(tmp_path / "disk"), "DIR"
            )

        names = {name.removeprefix("run/").split("/")[0] for name in server.objects}
        assert names == {path.name.removesuffix(".jsonl") for path in (tmp_path / "disk").iterdir()}
        # Checked by what the store says of them: arrays are read when they are restored, and then by TensorStore.
        arrays = [name for name in server.names("run/checkpoints/36/state/") if "/d/" in name]
        assert arrays and all(server.read.count(name) < 20 for name in arrays)


@pytest.mark.slow
def test_two_processes_save_together_and_one_goes_on(tmp_path):
    config = config_of(tmp_path)
    config.evaluation.bleu_sentences, config.data.test, config.checkpoint.average = 0, (), 2
    (tmp_path / "config.json").write_text(config_module.to_json(config))
    program = tmp_path / "config.py"
    program.write_text(
        "from pathlib import Path\nfrom transformer import config\n\ndef get_config():\n"
        f"    return config.from_json(Path({str(tmp_path / 'config.json')!r}).read_text())\n"
    )

    def train(server: FakeGoogle, processes: int, workdir: str, steps: int) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        words = [f"--config={program}", f"--workdir={workdir}", f"--config.training.steps={steps}"]
        words += ["--config.mesh.data=2", "--config.mesh.fsdp=2", f"--cpu_devices={4 // processes}"]
        joined = [f"--coordinator_address={address}", f"--num_processes={processes}"] if processes > 1 else []
        environment = os.environ | server.environment | {"PYTHONPATH": os.pathsep.join(sys.path)}
        running = [
            subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "transformer",
                    "train",
                    *words,
                    *joined,
                    *([f"--process_id={i}"] if joined else []),
                ],
                env=environment,
                stderr=subprocess.PIPE,
                text=True,
            )
            for i in range(processes)
        ]
        said = [process.communicate(timeout=300)[1] for process in running]
        assert [process.returncode for process in running] == [0] * processes, "\n".join(said)

    def losses(server: FakeGoogle, name: str) -> list[float]:
        logged = b"".join(server.objects[part] for part in server.names(f"{name}/metrics/")).splitlines()
        return [json.loads(line)["train/loss"] for line in logged]

    with fake_google() as server:
        train(server, 2, "gs://bucket/two", 24)
        written = server.names("two/checkpoints/24/state/")
        assert all(any(f"ocdbt.process_{i}/d/" in name for name in written) for i in (0, 1))
        train(server, 1, "gs://bucket/two", STEPS)
        train(server, 1, "gs://bucket/one", STEPS)
        assert losses(server, "two") == pytest.approx(losses(server, "one"), rel=1e-5)
        assert len(losses(server, "two")) == STEPS // config.training.log_every


# --- s3://, of which Orbax knows nothing, in this process ---


@pytest.fixture
def store():
    with fake_s3() as found:
        yield found


def test_a_failed_upload_loses_nothing_and_the_run_goes_on(store, tmp_path):
    config = config_of(tmp_path)

    def fail(name, content):
        if name.startswith("bucket/run/checkpoints/24/state/d/"):
            raise RuntimeError("the bucket is full")

    works, store.before_write = store.before_write, staticmethod(fail)
    with pytest.raises(CheckpointError, match="the bucket is full"):
        tiny_run.train_steps(config, "s3://bucket/run")
    reader = CheckpointReader(storage.place("s3://bucket/run/checkpoints"))
    assert reader.sound_steps() == [12]

    store.before_write = staticmethod(works)
    tiny_run.train_steps(config, "s3://bucket/run")
    assert reader.sound_steps() == [24, 36]
    tiny_run.train_steps(config, tmp_path / "disk")
    assert lines("s3://bucket/run") == lines(tmp_path / "disk")
    assert_same_arrays(params("s3://bucket/run"), params(tmp_path / "disk"))
    model, expected = transformer.load("s3://bucket/run"), transformer.load(tmp_path / "disk")
    assert model.translate([SENTENCE]) == expected.translate([SENTENCE])


def test_a_bucket_without_the_right_to_write_is_told_before_anything_is_done(store, tmp_path):
    def fail(name, content):
        raise PermissionError("storage.objects.create denied")

    store.before_write = staticmethod(fail)
    config = config_of(tmp_path)
    with pytest.raises(storage.StorageError, match="storage.objects.create denied"):
        tiny_run.train_steps(config, "s3://bucket/run")
    assert not Path(config.data.cache_dir).exists()


def test_a_store_that_does_not_answer_does_not_start_a_run_anew(store, tmp_path, monkeypatch):
    config = config_of(tmp_path)
    config.training.steps = 12
    tiny_run.train_steps(config, "s3://bucket/run")
    before = dict(store.objects)

    def fail(*arguments, **options):
        raise ConnectionError("network is unreachable")

    monkeypatch.setattr(fsspec.get_filesystem_class("s3"), "ls", fail)
    with pytest.raises(storage.StorageError, match="network is unreachable"):
        tiny_run.train_steps(config, "s3://bucket/run")
    assert store.objects == before


def test_damage_in_a_store_is_found(store, tmp_path):
    config = config_of(tmp_path)
    config.training.steps = 24
    tiny_run.train_steps(config, "s3://bucket/run")
    (victim,) = [name for name in store.objects if "checkpoints/24/state/ocdbt.process_0/d/" in name]
    content = bytearray(store.objects[victim])
    content[len(content) // 2] ^= 1
    store.objects[victim] = bytes(content)
    reader = CheckpointReader(storage.place("s3://bucket/run/checkpoints"))
    assert reader.read_metadata().step == 12
    with pytest.raises(CheckpointError, match="s3://bucket/run/checkpoints/24 cannot be used: .* differs from its"):
        reader.read_metadata(24)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))

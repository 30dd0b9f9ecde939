"""SIGKILL at any moment of saving leaves a checkpoint to resume from, and none that lies.

Run as a program, this file is what gets killed: for every line on its input it forks a process that resumes from the
newest checkpoint and then does nothing but save. Forking spares each of them the seconds that importing takes.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from transformer.config import CheckpointConfig
from transformer.training.checkpoint import CheckpointReader, Checkpoints

LEAVES, LEAF_SIZE = 8, 500_000  # 16 MB


def save_for_ever(directory: str) -> None:
    import jax.numpy as jnp

    settings = CheckpointConfig(keep_last=2, keep_best=1)
    with Checkpoints(directory, settings, metric="loss") as checkpoints:
        step = checkpoints.latest() or 0
        if step:
            assert_sound(checkpoints)
        print(os.getpid(), flush=True)
        while True:
            step += 1
            state = {"params": {str(leaf): jnp.full(LEAF_SIZE, step, jnp.float32) for leaf in range(LEAVES)}}
            small = {"data_position": {"batch": step}, "config_json": "{}", "tokenizer_files": {"source.model": b"m"}}
            checkpoints.save(step, state, **small, metrics={"loss": 1 / step})


def assert_sound(checkpoints: CheckpointReader) -> int:
    """The newest usable step, of which everything belongs to that step."""
    found = checkpoints.read_metadata()
    assert found.data_position == {"batch": found.step}
    params = checkpoints.restore_params(found.step)
    assert len(params) == LEAVES
    for array in params.values():
        np.testing.assert_array_equal(array, np.full(LEAF_SIZE, found.step, np.float32))
    return found.step


def serve(directory: str) -> None:
    for _ in sys.stdin:
        victim = os.fork()
        if victim == 0:
            try:
                save_for_ever(directory)
            except Exception:
                traceback.print_exc()
            os._exit(1)
        print(os.waitpid(victim, 0)[1], flush=True)


@contextlib.contextmanager
def server_for(directory: Path) -> Iterator[subprocess.Popen]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    server = subprocess.Popen(
        [sys.executable, "-W", "ignore", __file__, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    try:
        yield server
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.communicate()


def wait_for_progress(reader: CheckpointReader) -> None:
    before, deadline = reader.latest(), time.monotonic() + 60
    while reader.latest() == before:
        assert time.monotonic() < deadline, "the victim does not get on; see stderr"
        time.sleep(0.01)


def kill_while_saving(directory: Path, kills: int) -> None:
    moments = random.Random(0)
    reader, newest, unfinished = CheckpointReader(directory), 0, 0
    with server_for(directory) as server:
        for kill in range(kills):
            server.stdin.write("\n")
            server.stdin.flush()
            victim = int(server.stdout.readline())
            if kill % 2:  # The others hit the first save after a resumption, which removes what is left of the last.
                wait_for_progress(reader)
            time.sleep(moments.uniform(0, 0.5))
            os.kill(victim, signal.SIGKILL)
            assert int(server.stdout.readline()) == signal.SIGKILL, "the victim died of something else; see stderr"
            if reader.steps():
                step = assert_sound(reader)
                assert step >= newest
                newest = step
            unfinished += len(list(directory.iterdir())) > len(reader.steps())
    assert newest >= kills // 2
    assert unfinished > 0, "no kill hit a save"


def test_a_kill_leaves_a_checkpoint_to_resume_from(tmp_path):
    kill_while_saving(tmp_path, kills=8)


@pytest.mark.slow
def test_many_kills_leave_a_checkpoint_to_resume_from(tmp_path):
    kill_while_saving(tmp_path, kills=40)


if __name__ == "__main__":
    serve(sys.argv[1])

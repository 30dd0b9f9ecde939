"""A run killed anywhere and started again is the run that was not killed, bit for bit.

Run as a program, this file starts what gets killed: for every order on its input, a JSON object a line, it forks a
process that trains. Forking spares each of them the seconds that importing takes.
"""

import contextlib
import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny_run
from absl import logging
from matplotlib import figure  # noqa: F401  imported before the forks, not in each of them

from transformer import config as config_module
from transformer.config import Config
from transformer.training import manifest, metrics_log
from transformer.training.checkpoint import CheckpointReader
from transformer.training.journal import Journal
from transformer.training.run import Run
from transformer.training.validation import Validator


@dataclasses.dataclass(frozen=True)
class Kill:
    """A signal, `delay` seconds after the `count`th time a process has come to an event; "never": none.

    Events: "step" (one was started), "save" (its directory is there, its manifest is not), "validation" (it begins).
    """

    event: str = "never"
    count: int = 1
    delay: float = 0.0
    number: int = signal.SIGKILL


# --- in the process that is killed ---


def train_until_killed(config: Config, workdir: Path, kill: Kill) -> None:
    """Trains; `workdir`.validating exists while it validates."""
    reached = 0

    def comes_to(event: str, before_death=lambda: None) -> None:
        nonlocal reached
        if event != kill.event:
            return
        reached += 1
        if reached == kill.count:
            threading.Thread(target=lambda: (before_death(), die(kill)), daemon=True).start()
            if kill.event == "step" and not kill.delay:
                time.sleep(0.2)  # it dies at this very step

    advance, save, validate = Journal.advance, Run.save, Validator.__call__

    def advance_and_tell(journal):
        advance(journal)
        comes_to("step")

    def save_and_tell(run, checkpoints, step, state, metrics):
        folder = run.workdir.checkpoints
        comes_to("save", lambda: wait_for(lambda: any(folder.glob(f"{step}*"))))
        save(run, checkpoints, step, state, metrics)

    def validate_and_tell(validator, params):
        mark = workdir.with_suffix(".validating")
        mark.touch()
        comes_to("validation")
        try:
            return validate(validator, params)
        finally:
            mark.unlink()

    Journal.advance, Run.save, Validator.__call__ = advance_and_tell, save_and_tell, validate_and_tell
    tiny_run.train(config, workdir)


def die(kill: Kill) -> None:
    time.sleep(kill.delay)
    os.kill(os.getpid(), kill.number)


def wait_for(condition) -> None:
    while not condition():
        time.sleep(0.0005)


def serve() -> None:
    logging.set_verbosity(logging.INFO)
    jax.config.update("jax_num_cpu_devices", 1)
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            try:
                os.dup2(os.open(order["said"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
                config = config_module.from_json(order["config"])
                train_until_killed(config, Path(order["workdir"]), Kill(**order["kill"]))
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        print(os.waitpid(child, 0)[1], flush=True)


# --- in the test ---


class Server:
    """Runs processes that train, one at a time."""

    def __init__(self):
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-W", "ignore", __file__]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)

    def train(self, config: Config, workdir: Path, kill: Kill | None = None) -> str:
        """Returns what the process said on stderr."""
        said = workdir.with_suffix(".stderr")
        order = {"config": config_module.to_json(config), "workdir": str(workdir), "said": str(said)}
        order["kill"] = dataclasses.asdict(Kill() if kill is None else kill)
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        status = int(self._process.stdout.readline())  # of os.waitpid
        killed = kill is not None and kill.number == signal.SIGKILL
        assert status == (signal.SIGKILL if killed else 0), said.read_text()
        return said.read_text()

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with contextlib.closing(Server()) as running:
        yield running


def settings(folder: Path, batching: str) -> Config:
    """Dropout and two shapes of batch; or packing, with a moving average and an average of checkpoints at the end."""
    config = tiny_run.config(folder)
    config.data.batching, config.data.test = batching, ()
    config.training.steps, config.evaluation.every, config.evaluation.bleu_sentences = 30, 10, 4
    config.checkpoint.every = 4
    if batching == "buckets":
        config.data.num_buckets = 2
    else:
        config.training.ema_decay, config.checkpoint.average = 0.9, 3
    return config


def assert_same_run(workdir: Path, whole: Path) -> None:
    """All that is kept is the same, but for clocks."""
    for name in ("metrics.jsonl", "config.json"):
        assert (workdir / name).exists()
    logs = [
        [{field: value for field, value in line.items() if not field.startswith("time/")} for line in lines]
        for lines in (metrics_log.read(folder / "metrics.jsonl") for folder in (workdir, whole))
    ]
    assert logs[0] == logs[1]
    kept = [sorted(path.name for path in (folder / "checkpoints").iterdir()) for folder in (workdir, whole)]
    assert kept[0] == kept[1]
    for name in ("checkpoints", "average"):
        mine, theirs = (CheckpointReader(folder / name) for folder in (workdir, whole))
        assert mine.steps() == theirs.steps()
        for step in mine.steps():
            jax.tree.map(
                np.testing.assert_array_equal,
                mine.restore_params(step, subtree=""),
                theirs.restore_params(step, subtree=""),
            )
            assert mine.read_metadata(step).metrics == theirs.read_metadata(step).metrics


@pytest.fixture(scope="module", params=["buckets", "packing"])
def whole_run(request, server, tmp_path_factory) -> Path:
    """The work directory of a run that nothing happened to."""
    folder = tmp_path_factory.mktemp(request.param)
    server.train(settings(folder, request.param), folder / "whole")
    return folder / "whole"


def config_of(workdir: Path) -> Config:
    return config_module.from_json((workdir / "config.json").read_text())


def test_stopped_in_a_step_then_killed_in_another_and_in_a_save(server, whole_run, tmp_path):
    config, workdir = config_of(whole_run), tmp_path / "workdir"
    said = server.train(config, workdir, Kill("step", 6, number=signal.SIGTERM))
    assert "Stopped by SIGTERM after step 6; all is saved." in said
    assert CheckpointReader(workdir / "checkpoints").steps() == [4, 6]
    said = server.train(config, workdir, Kill("step", 5))
    assert "Resuming from step 6 " in said
    assert 6 <= CheckpointReader(workdir / "checkpoints").latest() <= 10
    server.train(config, workdir, Kill("save", 2))
    server.train(config, workdir)
    assert_same_run(workdir, whole_run)


def test_compiles_nothing_after_warm_up(whole_run):
    """In two epochs and more, with validations and checkpoints between."""
    assert json.loads((whole_run / "summary.json").read_text())["recompilations"] == 0


# --- the long proof ---

KILLS = 20


class Tormentor:
    """Kills runs, each time somewhere else, and damages what they leave."""

    def __init__(self, workdir: Path):
        self._workdir = workdir
        self._random = random.Random(0)
        self.in_saves = self.in_validations = 0
        self.damages = []

    def kill(self, number: int) -> Kill:
        """The next one: by turns at a random time, inside a save and inside a validation."""
        chance = self._random
        return [
            Kill("step", chance.randint(1, 30), chance.uniform(0, 0.2)),
            Kill("save", chance.randint(1, 5), chance.uniform(0, 0.03)),
            Kill("validation", chance.randint(1, 2), chance.uniform(0, 0.03)),
        ][number % 3]

    def note(self, since: float) -> None:
        """Where did the kill hit, of a process started at a time?"""
        entries = list((self._workdir / "checkpoints").glob("*"))
        unfinished = [path for path in entries if not (path / manifest.NAME).exists()]
        self.in_saves += any(path.stat().st_mtime > since for path in unfinished)
        mark = self._workdir.with_suffix(".validating")
        self.in_validations += mark.exists()
        mark.unlink(missing_ok=True)

    def damage(self) -> Path | None:
        """Damages the newest checkpoint in one of three ways, if there is one before it, and returns it."""
        steps = CheckpointReader(self._workdir / "checkpoints").steps()
        if len(steps) < 2:
            return None
        victim = self._workdir / "checkpoints" / str(steps[-1])
        file = self._random.choice([path for path in victim.rglob("*") if path.is_file() and path.stat().st_size])
        kind = ("truncated", "missing", "flipped")[len(self.damages) % 3]
        if kind == "truncated":
            os.truncate(file, file.stat().st_size // 2)
        elif kind == "missing":
            file.unlink()
        else:
            content = bytearray(file.read_bytes())
            content[self._random.randrange(len(content))] ^= 1 << self._random.randrange(8)
            file.write_bytes(content)
        self.damages.append(f"{kind} {file.relative_to(victim)}")
        return victim


@pytest.mark.slow
def test_killed_twenty_times_with_damage_between(server, whole_run, tmp_path):
    config, workdir = config_of(whole_run), tmp_path / "workdir"
    config.training.steps = 400
    server.train(config, tmp_path / "whole")
    tormentor = Tormentor(workdir)
    damaged, resumed_from = None, []
    for number in range(KILLS):
        began = time.time()
        said = server.train(config, workdir, tormentor.kill(number))
        tormentor.note(began)
        if damaged is not None:
            assert f"Checkpoint {damaged} cannot be used" in said
        resumed_from.append(CheckpointReader(workdir / "checkpoints").latest())
        damaged = tormentor.damage() if number % 3 == 2 else None
    print(f"{KILLS} kills, {tormentor.in_saves} in saves, {tormentor.in_validations} in validations")
    print(f"left at steps {resumed_from}; damage: {', '.join(tormentor.damages)}")
    server.train(config, workdir)
    assert_same_run(workdir, tmp_path / "whole")
    assert tormentor.in_saves >= KILLS // 5
    assert tormentor.in_validations >= KILLS // 5
    assert len(tormentor.damages) >= 3


if __name__ == "__main__":
    serve()

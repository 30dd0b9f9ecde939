"""How a run ends before its last step: without progress, and by a signal."""

import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
import tiny_run

from transformer.config import Config, EvaluationConfig
from transformer.training import metrics_log
from transformer.training.checkpoint import CheckpointReader
from transformer.training.stopping import (
    StopSignal,
    checkpoint_metric,
    metric_field,
    out_of_patience,
    reason_to_end,
)
from transformer.training.validation import Validation, Validator

ROOT = Path(tiny_run.__file__).parents[1]


# --- patience ---


def bleu_records(*values: float | None) -> list[dict]:
    training = {"step": 1, "train/loss": 1.0}
    return [training, *({"step": step, "val/bleu": value} for step, value in enumerate(values, start=2))]


@pytest.mark.parametrize(
    ("patience", "values", "expected"),
    [
        (2, (), False),
        (2, (5.0, 4.0), False),  # one without progress
        (2, (5.0, 4.0, 4.5), True),
        (2, (5.0, 5.0, 5.0), True),  # as good is not better
        (2, (5.0, 4.0, 5.1), False),
        (2, (5.0, 4.0, 5.1, 5.0), False),
        (2, (5.0, 4.0, 5.1, 5.0, 5.05), True),
        (2, (5.0, None, 4.0, None, 4.0), True),  # not measured, or not finite
        (1, (5.0, 4.0), True),
        (0, (5.0, 4.0, 3.0, 2.0), False),  # never
    ],
)
def test_patience(patience, values, expected):
    assert out_of_patience(bleu_records(*values), EvaluationConfig(patience=patience)) is expected


def test_patience_with_loss_wants_it_lower():
    config = EvaluationConfig(metric="loss", patience=1)
    assert not out_of_patience([{"val/loss": 2.0, "val/bleu": 5.0}, {"val/loss": 1.0, "val/bleu": 4.0}], config)
    assert out_of_patience([{"val/loss": 1.0}, {"val/loss": 2.0}], config)


@pytest.mark.parametrize(
    ("metric", "sentences", "expected"), [("bleu", 9, "bleu"), ("bleu", 0, "loss"), ("loss", 9, "loss")]
)
def test_metric_that_decides(metric, sentences, expected):
    config = EvaluationConfig(metric=metric, bleu_sentences=sentences)
    assert (metric_field(config), checkpoint_metric(config)) == (f"val/{expected}", expected)


def test_reason_to_end():
    config = Config()
    config.training.steps, config.evaluation.patience = 10, 1
    assert reason_to_end(9, bleu_records(5.0), config) is None
    assert reason_to_end(10, bleu_records(5.0), config) == "all steps done"
    assert reason_to_end(9, bleu_records(5.0, 4.0), config) == "no better val/bleu in 1 validations"


@pytest.fixture
def scripted_bleu(monkeypatch):
    """Validations find 1, 3, 2, 2, 9, ... BLEU; the fifth must never come."""
    asked = []

    def validate(self, params):
        asked.append(None)
        return Validation({"val/loss": 1.0, "val/bleu": scripted[len(asked) - 1]}, [])

    scripted = [1.0, 3.0, 2.0, 2.0, 9.0]
    monkeypatch.setattr(Validator, "__call__", validate)
    return asked


def test_ends_out_of_patience_and_stays_ended(tmp_path, scripted_bleu):
    config, workdir = tiny_run.config(tmp_path), tmp_path / "workdir"
    config.evaluation.every, config.evaluation.patience, config.checkpoint.keep_last = 3, 2, 1
    config.data.test = ()

    # It is resumed between its third validation and the fourth, where it ends.
    config.training.steps = 9
    tiny_run.train_steps(config, workdir)
    config.training.steps = 100
    summary = tiny_run.train(config, workdir)
    assert len(scripted_bleu) == 4
    assert (summary.steps, summary.reason) == (12, "no better val/bleu in 2 validations")
    assert summary.chosen.startswith("step 6, the best by bleu")
    assert CheckpointReader(workdir / "checkpoints").steps() == [6, 12]
    records = metrics_log.read(workdir / "metrics.jsonl")
    assert {r["step"]: r["val/bleu"] for r in records if "val/bleu" in r} == {3: 1.0, 6: 3.0, 9: 2.0, 12: 2.0}

    # Started again it is not trained further, and says the same.
    again = tiny_run.train(config, workdir)
    assert len(scripted_bleu) == 4
    assert (again.steps, again.reason, again.checkpoint) == (summary.steps, summary.reason, summary.checkpoint)


# --- signals ---


@pytest.mark.parametrize(("number", "name"), [(signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "Ctrl-C")])
def test_signal_is_noted_and_handlers_are_put_back(number, name):
    before = signal.getsignal(number)
    with StopSignal() as stop:
        assert stop.received is None
        signal.raise_signal(number)
        assert stop.received == name
    assert signal.getsignal(number) is before


def test_second_interrupt_does_not_wait():
    with StopSignal() as stop, pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert stop.received == "SIGTERM"
        signal.raise_signal(signal.SIGINT)


class Vote:
    """What processes decide: alone by the own answer, together by all of theirs."""

    def __init__(self, *others: bool):
        self.alone, self._others = not others, others

    def now(self, stop: bool) -> bool:
        return stop or any(self._others)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_leaving_off_ends_the_block_and_nothing_else(number):
    reached = []
    with StopSignal() as stop:
        with stop.leaving_off(Vote()) as between:
            between()
            reached.append("before")
            signal.raise_signal(number)
            reached.append("after")
        assert stop.received is not None
    assert reached == ["before"]


@pytest.mark.parametrize("own", [True, False])
def test_several_processes_leave_off_together(own):
    """Whoever was told to: one that left at once would leave the others waiting for it."""
    reached = []
    with StopSignal() as stop:
        with stop.leaving_off(Vote(not own)) as between:
            if own:
                signal.raise_signal(signal.SIGTERM)
            reached.append("the same place")
            between()
            reached.append("after")
        assert (stop.received is not None) == own
    assert reached == ["the same place"]


def test_signals_are_left_alone_outside_the_main_thread():
    failures = []

    def use():
        try:
            with StopSignal() as stop:
                assert stop.received is None
        except BaseException as error:
            failures.append(error)

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert not failures
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.fixture
def endless(tmp_path):
    """A config file of a run that does not end by itself, and logs every few milliseconds."""
    path = tmp_path / "endless.py"
    program = f"""
        import sys
        from pathlib import Path

        sys.path.append({str(ROOT / "tests")!r})
        import tiny_run

        def get_config():
            config = tiny_run.config(Path({str(tmp_path)!r}))
            config.training.steps = 10**9
            config.evaluation.every = config.checkpoint.every = 10**8
            return config
    """
    path.write_text(textwrap.dedent(program))
    return path


def stop_after(lines: int, number: signal.Signals, command: list[str], workdir: Path) -> str:
    """Starts a run, signals it when its log has so many lines, and returns what it says on stderr."""
    log = workdir / "metrics.jsonl"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, *command, f"--workdir={workdir}"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        while process.poll() is None and not (log.exists() and log.read_bytes().count(b"\n") >= lines):
            time.sleep(0.05)
        process.send_signal(number)
        said = process.communicate(timeout=120)[1]
    finally:
        process.kill()
    assert process.returncode == 0, said
    return said


def test_signals_save_and_exit_with_a_message_how_to_go_on(endless, tmp_path):
    workdir = tmp_path / "work dir"
    said = stop_after(2, signal.SIGTERM, ["train.py", f"--config={endless}"], workdir)
    found = re.search(r"Stopped by SIGTERM after step ([\d,]+); all is saved. Go on with:\n  (.*)\n", said)
    step = int(found[1].replace(",", ""))
    assert CheckpointReader(workdir / "checkpoints").latest() == step
    assert found[2] == f"transformer train --workdir='{workdir}'"

    said = stop_after(step // 4 + 2, signal.SIGINT, ["-m", "transformer", "train"], workdir)
    assert f"Resuming from step {step} " in said
    found = re.search(r"Stopped by Ctrl-C after step ([\d,]+); all is saved", said)
    last = int(found[1].replace(",", ""))
    assert last > step
    assert CheckpointReader(workdir / "checkpoints").latest() == last
    logged = [record["step"] for record in metrics_log.read(workdir / "metrics.jsonl")]
    assert logged == list(range(4, last + 1, 4))


def test_signal_during_validation_is_heard_before_the_next_step(tmp_path, monkeypatch, caplog):
    config, workdir = tiny_run.config(tmp_path), tmp_path / "workdir"
    config.training.steps, config.evaluation.every, config.evaluation.bleu_sentences = 8, 2, 0
    loss = Validator._loss

    def stopped(self, params):
        signal.raise_signal(signal.SIGTERM)
        return loss(self, params)

    monkeypatch.setattr(Validator, "_loss", stopped)
    with caplog.at_level("INFO"):
        assert tiny_run.train(config, workdir) is None
    assert "Stopped by SIGTERM after step 2; all is saved" in caplog.text
    assert CheckpointReader(workdir / "checkpoints").steps() == [2]


def test_signal_while_the_result_is_scored(tmp_path, monkeypatch, caplog):
    """All steps are saved by then: the scoring is left off, and comes when the run is started again."""
    config, workdir = tiny_run.config(tmp_path), tmp_path / "workdir"
    config.training.steps, config.evaluation.bleu_sentences = 4, 0
    with monkeypatch.context() as patch:
        patch.setattr("transformer.training.loop.finish", lambda *run: signal.raise_signal(signal.SIGTERM))
        with caplog.at_level("INFO"):
            assert tiny_run.train(config, workdir) is None
    assert "Stopped by SIGTERM after step 4; all is saved" in caplog.text
    assert CheckpointReader(workdir / "checkpoints").latest() == 4

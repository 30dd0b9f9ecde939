"""A record goes to the log, to TensorBoard and to the console, and a resumed run finds its records again."""

import jax.numpy as jnp
import pytest

from transformer.training import metrics_log
from transformer.training.journal import Journal, last_elapsed, training_fields
from transformer.training.loss import LossSums
from transformer.training.samples import Sample
from transformer.training.step import Report, Window
from transformer.training.workdir import Workdir


@pytest.fixture
def workdir(tmp_path):
    return Workdir(tmp_path)


def test_writes_to_all_three(workdir, capsys):
    with Journal(workdir, 0, 10) as journal:
        journal.write(5, {"train/loss": 2.5, "time/elapsed_s": 1.0})
        journal.show(5, [Sample("source text", "reference text", "output text")])
        journal.show(6, [])
    assert metrics_log.read(workdir.metrics) == [{"step": 5, "train/loss": 2.5, "time/elapsed_s": 1.0}]
    events = b"".join(path.read_bytes() for path in workdir.tensorboard.iterdir())
    assert b"train/loss" in events
    assert b"output text" in events
    shown = capsys.readouterr().err
    assert "step 5/10  loss 2.500" in shown
    assert "output text" in shown


def test_goes_on_after_the_step_it_is_resumed_from(workdir):
    with Journal(workdir, 0, 10) as journal:
        for step in (2, 4, 6):
            journal.write(step, {"time/elapsed_s": step / 2})
    with Journal(workdir, 5, 10) as journal:
        assert [record["step"] for record in journal.records] == [2, 4]
        assert journal.elapsed == 2
        journal.write(6, {"val/loss": 1.0})
        assert [record["step"] for record in journal.records] == [2, 4, 6]
        assert journal.elapsed == 2
    assert [record["step"] for record in metrics_log.read(workdir.metrics)] == [2, 4, 6]


def test_nothing_elapsed_in_an_empty_log():
    assert last_elapsed([]) == 0


def report(tokens: int, steps: int, skipped: int) -> Report:
    sums = LossSums(jnp.float32(8), jnp.float32(6), jnp.int32(1), jnp.int32(tokens))
    window = Window(sums, jnp.int32(5), jnp.float32(3), jnp.int32(steps))
    return Report(window, jnp.float32(0.5), jnp.int32(0), jnp.int32(skipped))


def test_means_of_a_window():
    assert training_fields(report(tokens=4, steps=2, skipped=7)) == {
        "train/loss": 2.0,
        "train/nll": 1.5,
        "train/accuracy": 0.25,
        "train/gradient_norm": 1.5,
        "train/target_tokens": 4,
        "train/source_tokens": 5,
        "train/learning_rate": 0.5,
        "train/skipped": 7,
    }


def test_window_of_skipped_steps_has_no_means(workdir):
    with Journal(workdir, 0, 10) as journal:
        journal.write(1, training_fields(report(tokens=0, steps=0, skipped=1)))
    [record] = journal.records
    assert (record["train/loss"], record["train/gradient_norm"], record["train/target_tokens"]) == (None, None, 0)

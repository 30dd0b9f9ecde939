"""Which steps are traced."""

import jax
import pytest

from transformer.training.profile import WARM_UP, Profile


@pytest.fixture
def traced(monkeypatch, tmp_path):
    """Makes steps first .. last with a profile; gives the steps after which a trace began and ended, in turn."""
    marks = []
    monkeypatch.setattr(jax.profiler, "start_trace", lambda directory: marks.append(step[0]))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: marks.append(step[0]))
    step = [0]

    def traced(first, last, steps):
        with Profile(tmp_path, first - 1, steps) as profile:
            for step[0] in range(first, last + 1):
                profile.after(step[0], None)
        return marks

    return traced


def test_traces_the_steps_after_warm_up(traced):
    assert traced(1, 40, steps=3) == [WARM_UP, WARM_UP + 3]


def test_counts_from_where_the_run_was_resumed(traced):
    assert traced(101, 140, steps=3) == [100 + WARM_UP, 103 + WARM_UP]


def test_ends_with_the_run(traced, caplog):
    with caplog.at_level("INFO"):
        assert traced(1, WARM_UP + 2, steps=30) == [WARM_UP, WARM_UP + 2]
    assert f"Profiler trace of steps {WARM_UP + 1} to {WARM_UP + 2} in" in caplog.text


def test_run_that_ends_before_is_told(traced, caplog):
    assert traced(1, WARM_UP - 1, steps=3) == []
    assert "No profiler trace" in caplog.text


def test_none_asked_for(traced, caplog):
    assert traced(1, 40, steps=0) == traced(1, 5, steps=0) == []
    assert caplog.text == ""

import json
import math
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from transformer.training import metrics_log
from transformer.training.metrics_log import MetricsLog


def write(path, steps, resumed_step=0):
    with MetricsLog(path, resumed_step) as log:
        for step in steps:
            log.append(step, {"train/loss": 1 / step})


def steps_of(path):
    return [record["step"] for record in metrics_log.read(path)]


def test_numbers_keep_every_bit(tmp_path):
    values = {"a": 0.1 + 0.2, "b": np.float32(1 / 3), "c": 5e-324, "d": 7, "e": np.int64(2**40), "f": "best"}
    with MetricsLog(tmp_path / "log") as log:
        returned = log.append(1, values)
    (record,) = metrics_log.read(tmp_path / "log")
    assert record == {"step": 1} | values
    assert record == returned
    assert np.float32(record["b"]) == values["b"]


def test_what_is_not_finite_is_null_and_the_line_strict_json(tmp_path):
    values = {"nan": math.nan, "infinite": np.float32("inf"), "finite": 1.0}
    with MetricsLog(tmp_path / "log") as log:
        log.append(1, values)

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    record = json.loads((tmp_path / "log").read_text(), parse_constant=refuse)
    assert record == {"step": 1, "nan": None, "infinite": None, "finite": 1.0}


def test_resuming_logs_each_step_once(tmp_path):
    write(tmp_path / "whole", range(1, 8))
    write(tmp_path / "resumed", range(1, 6))
    write(tmp_path / "resumed", range(4, 8), resumed_step=3)
    assert (tmp_path / "resumed").read_bytes() == (tmp_path / "whole").read_bytes()


def test_a_fresh_run_starts_an_empty_log(tmp_path):
    write(tmp_path / "log", [1, 2])
    write(tmp_path / "log", [1])
    assert steps_of(tmp_path / "log") == [1]


@pytest.mark.parametrize("step", [1, 2])
def test_a_step_is_refused_twice_and_backwards(tmp_path, step):
    with MetricsLog(tmp_path / "log") as log:
        log.append(2, {})
        with pytest.raises(ValueError, match=f"step {step} cannot follow step 2"):
            log.append(step, {})


def test_a_line_torn_anywhere_costs_that_line_only(tmp_path):
    path = tmp_path / "log"
    write(path, [1, 2, 3])
    whole = path.read_bytes()
    start = whole.rindex(b"\n", 0, -1) + 1
    for end in range(start, len(whole) - 1):
        path.write_bytes(whole[:end])
        assert steps_of(path) == [1, 2]
        write(path, [3], resumed_step=2)
        assert path.read_bytes() == whole


def test_a_last_line_that_lacks_only_its_end_is_kept(tmp_path):
    path = tmp_path / "log"
    write(path, [1, 2, 3])
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    metrics_log.truncate_after(path, 3)
    assert path.read_bytes() == whole


def test_a_damaged_line_before_the_last_is_named(tmp_path):
    path = tmp_path / "log"
    path.write_text('{"step": 1}\n{"step": \n{"step": 3}\n')
    with pytest.raises(ValueError, match="log, line 2, "):
        metrics_log.read(path)


def test_truncation_is_all_or_nothing(tmp_path, monkeypatch):
    path = tmp_path / "log"
    write(path, [1, 2, 3])
    whole = path.read_bytes()

    def fail(*paths):
        raise OSError("killed here")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="killed here"):
        metrics_log.truncate_after(path, 1)
    assert path.read_bytes() == whole


def test_a_killed_process_leaves_every_line_it_logged(tmp_path):
    program = """
import os, pathlib, signal, sys
from transformer.training.metrics_log import MetricsLog
log = MetricsLog(pathlib.Path(sys.argv[1]))
for step in range(1, 51):
    log.append(step, {"train/loss": 1 / step})
os.kill(os.getpid(), signal.SIGKILL)
"""
    result = subprocess.run([sys.executable, "-c", program, tmp_path / "log"], check=False)
    assert result.returncode == -signal.SIGKILL
    assert steps_of(tmp_path / "log") == list(range(1, 51))

"""The benchmarks still fit the package they measure, and say what is wrong with what was typed."""

import contextlib
import dataclasses
import importlib.util
import json
import math
import sys
import types
from pathlib import Path

import jax
import pytest
import tiny_run

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def load(monkeypatch):
    """Imports one of them by name."""
    monkeypatch.syspath_prepend(str(FOLDER))

    def load(name: str):
        spec = importlib.util.spec_from_file_location(f"benchmark_{name}", FOLDER / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        return module

    return load


def test_generation_is_measured_by_what_there_is(load, monkeypatch):
    generate = load("generate")
    monkeypatch.setattr(generate, "NEW", 3)
    texts, run = [], generate.Rollout.run

    def watched(self, weights, given, *rest):
        texts.extend(given)
        return run(self, weights, given, *rest)

    monkeypatch.setattr(generate.Rollout, "run", watched)
    generate.ours(generate.Shape(16, 2, 1, 50), 1)()
    assert [len(text.result().tokens) for text in texts] == [3]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--shapes=small,tiny"], "there is no shape 'tiny'; choose from small, gpt2"),
        (["--batches=1,many"], "'many' is no number from 1 on"),
        (["--batches="], "'' is no number from 1 on"),
        (["--turns=0"], "'0' is no number from 1 on"),
    ],
)
def test_what_generation_cannot_measure_is_refused_at_once(load, monkeypatch, capsys, words, told):
    generate = load("generate")
    monkeypatch.setattr(sys, "argv", ["generate.py", *words])
    monkeypatch.setattr(generate, "measure", lambda *_: pytest.fail("measured"))
    with pytest.raises(SystemExit):
        generate.main()
    assert told in capsys.readouterr().err


def test_why_a_training_failed_is_told(load, tmp_path):
    with pytest.raises(SystemExit, match=r"(?s)exit code 2, and said:.*nowhere\.txt"):
        load("shakespeare").ours(tmp_path / "nowhere.txt", devices=1)


# --- the training step beside others' ---


@pytest.fixture
def tiny_step(load, monkeypatch):
    """train_step with a case of its own, which takes no time."""
    train_step = load("train_step")
    shape = train_step.Shape(width=16, inner=32, heads=2, layers=1, vocabulary=50, rows=8, length=3)
    monkeypatch.setitem(train_step.SHAPES, "tiny", shape)
    return train_step


def test_a_training_step_is_measured_by_what_there_is(tiny_step, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", ["0\n", "0\n"])
    report = tiny_step.serve(tiny_step.Case("tiny", "float32"))
    ready, *turns = capsys.readouterr().out.splitlines()
    assert ready == "ready"
    assert [len(json.loads(turn)) for turn in turns] == [1, 1]
    # A model that knows nothing: embeddings are random, so that it is a little above all equally likely.
    assert math.log(50) - 0.5 < report["first_loss"] < math.log(50) + 2
    memory = report["memory_mb"]
    assert memory["parameters"] > 0
    assert memory["optimizer"] == pytest.approx(2 * memory["parameters"], rel=0.01)
    assert memory["temporaries"] > 0
    # In a process of its own the first is the smaller one; this one has more to give back than it takes.
    assert 0 < memory["process"] <= report["peak_memory_mb"]
    assert 0 < memory["compiled"] <= report["peak_memory_mb"]


def test_a_step_may_take_its_batch_in_parts(tiny_step, monkeypatch, capsys):
    whole = tiny_step.SHAPES["tiny"]
    monkeypatch.setitem(tiny_step.SHAPES, "tiny", dataclasses.replace(whole, rows=4 * len(jax.devices())))
    losses = []
    for accumulate in (1, 4):
        monkeypatch.setattr(sys, "stdin", ["0\n"])
        losses.append(tiny_step.serve(tiny_step.Case("tiny", "float32", accumulate))["first_loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    case = tiny_step.Case("tiny", "float32", 4)
    assert str(case) == "tiny float32 / 4"
    assert tiny_step.commands(case, [], "python")[tiny_step.OURS][-1] == "--accumulate=4"
    case = tiny_step.Case("tiny", "float32")
    assert str(case) == "tiny float32"
    assert tiny_step.commands(case, [], "python")[tiny_step.OURS][-1] == "float32"


def test_what_takes_the_memory_of_a_step_adds_up(tiny_step):
    memory = {"process": 100, "parameters": 10, "optimizer": 20, "batch": 1, "temporaries": 30, "outputs": 2}
    row = {"memory_mb": memory | {"average": 0, "program": 0, "compiled": 151}, "peak_memory_mb": 190}
    parts = tiny_step.memory_parts(row)
    assert (parts["compiling"], parts["work space"], parts["together"], parts["peak"]) == (20, 32, 183, 190)
    heading, line = tiny_step.memory_table({"tiny float32": row}).splitlines()
    assert line.split() == ["tiny", "float32", "100", "10", "20", "1", "20", "32", "183", "190"]
    assert len(line) == len(heading)


def test_sides_of_a_training_step_get_the_same_tokens(tiny_step):
    case = tiny_step.Case("tiny", "float32")
    theirs, ours = tiny_step.train_peers.batch_of(case.shape), case.batch()
    for name, tokens in theirs.items():
        assert tokens.shape == (8, 3) and tokens.min() > 0  # none is padding
        assert (ours[name] == tokens).all()


def test_peers_without_bfloat16_are_asked_for_float32_only(tiny_step):
    peers = list(tiny_step.train_peers.SIDES)
    assert list(tiny_step.commands(tiny_step.Case("tiny", "float32"), peers, "python")) == ["ours", *peers]
    found = tiny_step.commands(tiny_step.Case("tiny", "bfloat16"), peers, "elsewhere/python")
    assert list(found) == ["ours", "PyTorch", "PyTorch compiled"]
    assert found["PyTorch"][0] == "elsewhere/python"
    assert found["PyTorch"][-5:] == ["--serve", "PyTorch", "--case", "tiny", "bfloat16"]


def test_a_loss_that_is_none_ends_the_measuring(load):
    with pytest.raises(SystemExit, match="The loss of step 1 is nan"):
        load("train_peers").serve(lambda: math.nan)


SERVING = """
import sys, time
if len(sys.argv) == 1:
    print('{"torch": "9.0", "joeynmt": ""}')
    sys.exit()
print("ready", flush=True)
for line in sys.stdin:
    print(f"[{sys.argv[1]}, {sys.argv[1]}]", flush=True)
print('{"matmul_flops_per_s": 1e9, "peak_memory_mb": 7}')
"""


def test_sides_run_in_turns_and_their_medians_count(tiny_step, tmp_path):
    program = tmp_path / "side.py"
    program.write_text(SERVING)
    case = tiny_step.Case("tiny", "float32")
    commands = {name: [sys.executable, str(program), seconds] for name, seconds in (("ours", "0.5"), ("other", "2"))}
    found = tiny_step.measure(case, commands, turns=3, seconds=1)
    assert {name: row["step_s"] for name, row in found.items()} == {"ours": 0.5, "other": 2}
    assert {name: row["target_tokens_per_s"] for name, row in found.items()} == {"ours": 48, "other": 12}
    assert found["ours"]["ratio"] == pytest.approx(4 * found["other"]["ratio"])
    assert [row["steps"] for row in found.values()] == [6, 6]


def test_peers_that_are_not_installed_are_left_out_by_name(load, tmp_path, capsys):
    program = tmp_path / "side.py"
    program.write_text(SERVING)
    needs = {"PyTorch": ("torch",), "JoeyNMT": ("torch", "joeynmt")}
    assert load("sides").installed([sys.executable, str(program)], needs, [*needs]) == ["PyTorch"]
    told = capsys.readouterr().out
    assert "JoeyNMT: left out, joeynmt is not installed." in told
    assert "peers: torch 9.0" in told


def test_a_side_that_ends_is_named(load):
    side = load("sides").Side("Marian", [sys.executable, "-c", ""])
    with pytest.raises(SystemExit, match="'Marian' ended"):
        side.answer()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--models=base,tiny"], "there is no 'tiny'; choose from base, small"),
        (["--dtypes=float16"], "there is no 'float16'; choose from float32, bfloat16"),
        (["--peers", "--peers-of=fairseq"], "there is no 'fairseq'; choose from PyTorch, PyTorch compiled"),
        (["--turns=0"], "'0' is no number from 1 on"),
        (["--accumulate=1,3"], "base's 64 rows are not to be split into 3 equal parts"),
    ],
)
def test_training_steps_that_there_are_not_are_refused_at_once(load, monkeypatch, capsys, words, told):
    train_step = load("train_step")
    monkeypatch.setattr(sys, "argv", ["train_step.py", *words])
    monkeypatch.setattr(train_step, "measure", lambda *_: pytest.fail("measured"))
    with pytest.raises(SystemExit):
        train_step.main()
    assert told in capsys.readouterr().err


# --- time to quality ---


@pytest.fixture
def quality(load):
    return load("time_to_quality")


def test_a_run_is_timed_by_its_own_log(quality, tmp_path):
    records = [
        {"step": 1, "time/step_s": 2.0},
        {"step": 3, "time/step_s": 0.5, "val/bleu": 20.0},
        {"step": 5, "time/step_s": 0.5, "val/bleu": 36.0},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))
    points = quality.our_points(tmp_path)
    assert points == [quality.Point(3, 3.0, 20.0), quality.Point(5, 4.0, 36.0)]
    assert quality.first(points, 35) == points[1]
    assert quality.first(points, 40) is None


def test_a_peer_that_does_not_come_so_far_is_told_as_a_bound(quality, capsys):
    ours = quality.Point(1, 10.0, 35.0)
    points = [quality.Point(1, 15.0, 20.0), quality.Point(2, 25.0, 30.0)]
    assert quality.verdict("slow", points, ours, 35.0) == {"reached": False, "ratio": 0.4}
    assert quality.verdict("fast", points, ours, 15.0) == {"reached": True, "ratio": pytest.approx(2 / 3)}
    slow, fast = capsys.readouterr().out.splitlines()
    assert slow == "slow: only 30.00 BLEU after 25 s; ours took less than 0.40 times as long."
    assert fast == "fast: 15 BLEU after 15 s; ours took 0.67 times as long."


def test_peers_get_the_tokens_and_rates_of_the_run(quality, load, tmp_path):
    config = tiny_run.config(tmp_path)
    config.optimizer.warmup_steps = 2
    run = quality.write_task(config, 3, tmp_path)
    task = load("quality_peers").Task.read(tmp_path)
    with run.open_loader() as loader:
        for number in range(3):
            batch = next(loader)
            for name in ("source", "target_inputs", "targets"):
                theirs = task.batches[f"{number}/{name}"]
                assert theirs[theirs > 0].tolist() == batch[name][batch[name] > 0].tolist()
                assert theirs.any(axis=1).all(), "an empty row"
                assert theirs.any(axis=0).all() or name == "target_inputs", "an empty column"
    assert task.rates == pytest.approx([0.005, 0.01, 0.01])  # warms up for two steps to 1e-2
    assert task.shape.width == config.model.d_model
    assert len(task.sources) == len(run.prepared.validation.sources)
    assert {source[-1] for source in task.sources} == {task.eos}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model.activation", "gelu"),
        ("model.num_kv_heads", 1),
        ("training.ema_decay", 0.9),
        ("evaluation.beam_size", 4),
        ("evaluation.bleu_sentences", 8),
        ("data.batching", "packing"),
    ],
)
def test_runs_that_peers_cannot_have_are_refused(quality, tmp_path, name, value):
    config = tiny_run.config(tmp_path)
    config.evaluation.bleu_sentences = -1
    quality.check(config)
    section, field = name.split(".")
    setattr(getattr(config, section), field, value)
    with pytest.raises(SystemExit, match=name):
        quality.check(config)


def test_outputs_of_peers_end_where_they_should(load):
    """Each at its end or its own limit, in the order of the sources, whatever order they are translated in."""
    peers = load("quality_peers")
    training = object.__new__(peers.Training)

    class Array(list):
        def tolist(self):
            return list(self)

    sources = [[5, 5, 5, 2], [6, 2], [7, 7, 2]]
    found = {3: [9, 9, 2, 8, 8, 8], 1: [9] * 6, 2: [8, 2, 2, 0, 0, 0]}
    rows = []

    def greedy(source, length):
        rows.append(len(source))
        return Array(found[sum(token > 2 for token in row)] for row in source)

    class Model:
        eval = staticmethod(lambda: None)

    training._peer = peers.Peer(Model, None, greedy)
    training._task = types.SimpleNamespace(sources=sources, eos=2, extra_length=3)
    training._torch = types.SimpleNamespace(no_grad=contextlib.nullcontext, from_numpy=lambda array: array)
    assert training.translate() == [[9, 9], [9] * 4, [8]]
    assert rows == [3]

"""`transformer plan`: what it takes, prints, writes and refuses. For TPUs without compiling."""

import json
import os
import re

import jax
import pytest

from transformer.cli.main import main
from transformer.planning import errors, here, plan, program, report


class Plan:
    def to_json(self) -> str:
        return '{"fits": true}\n'


@pytest.fixture
def compiled(monkeypatch):
    """The tasks that would have been compiled."""
    tasks = []
    monkeypatch.setattr(program.Task, "compile", lambda task: tasks.append(task))
    monkeypatch.setattr(plan, "make_plan", lambda task, step, topology: Plan())
    monkeypatch.setattr(report, "table", lambda plan: "the table\n")
    return tasks


def test_prints_a_table_and_writes_json(compiled, tmp_path, capsys):
    output = tmp_path / "plan.json"
    main(["plan", "--config=phrasebook", "--topology=v5e:2x2", f"--json={output}", "--config.model.num_heads=2"])
    told = capsys.readouterr()
    assert told.out == "the table\n"
    assert "Compiling" in told.err
    assert json.loads(output.read_text()) == {"fits": True}
    [task] = compiled
    assert task.config.model.num_heads == 2
    assert dict(task.mesh.shape) == {"slices": 1, "data": 4, "fsdp": 1, "sequence": 1, "tensor": 1}


def test_published_times_need_nothing_else(capsys):
    main(["plan", "--published"])
    assert "Transformer big" in capsys.readouterr().out


def test_slices_come_from_the_topology(compiled):
    main(["plan", "--config=phrasebook", "--topology=2xv5e:2x2"])
    assert compiled[0].mesh.shape["slices"] == 2


@pytest.mark.parametrize(
    ("words", "decides"),
    [
        (["--config.transfer.init_from=runs/mine"], "transfer.init_from = runs/mine"),
        (["--config.tokenizer.model=pieces.model"], "tokenizer.model = "),
        (["--config.tokenizer.algorithm=characters"], "the characters of the training text"),
        (
            ["--config.transfer.init_from=runs/mine", "--config.tokenizer.algorithm=bytes"],
            "transfer.init_from = runs/mine",
        ),
    ],
    ids=str,
)
def test_a_vocabulary_that_is_not_read_is_assumed_aloud(words, decides, compiled, capsys):
    main(["plan", "--config=phrasebook", "--topology=v5e:2x2", "--config.tokenizer.vocab_size=1234", *words])
    told = capsys.readouterr().err
    assert "a vocabulary of 1,234 pieces" in told and decides in told
    [task] = compiled
    assert program.vocabulary(task.config) == (1234, 1234)


@pytest.mark.parametrize(("algorithm", "size"), [("bytes", 260), ("bpe", 1234)])
def test_a_vocabulary_that_the_config_tells_is_not_spoken_of(algorithm, size, compiled, capsys):
    words = [f"--config.tokenizer.algorithm={algorithm}", "--config.tokenizer.vocab_size=1234"]
    main(["plan", "--config=phrasebook", "--topology=v5e:2x2", *words])
    assert "vocabulary" not in capsys.readouterr().err
    assert program.vocabulary(compiled[0].config) == (size, size)


def test_what_does_not_fit_is_told_and_written(compiled, monkeypatch, tmp_path, capsys):
    def refuse(task):
        raise errors.DoesNotFitError(20 * 2**30, 15 * 2**30, 2**30, ("Take less.",))

    monkeypatch.setattr(program.Task, "compile", refuse)
    output = tmp_path / "plan.json"
    with pytest.raises(SystemExit) as caught:
        main(["plan", "--config=phrasebook", "--topology=v5e:2x2", f"--json={output}"])
    assert caught.value.code == 2
    told = capsys.readouterr().err
    assert "5.00 GiB too much" in told and "Take less." in told
    record = json.loads(output.read_text())
    assert (record["fits"], record["needed"], record["advice"]) == (False, 20 * 2**30, ["Take less."])


SMALL = ["--config.model.d_model=16", "--config.model.d_ff=32", "--config.model.num_heads=2", "--config.model.unroll=1"]


def test_the_memory_of_a_step_on_this_machine(tmp_path, capsys):
    output = tmp_path / "plan.json"
    in_two = ["--config.training.accumulate=2", "--config.data.rows_multiple_of=16"]
    main(["plan", "--config=phrasebook", "--topology=here", f"--json={output}", *in_two, *SMALL])
    told, record = capsys.readouterr().out, json.loads(output.read_text())
    assert record["parts"] == 2 and "(rows x lengths) in 2 parts" in told
    [parameters] = re.findall(r"cpu: ([\d,]+) parameters", told)
    kinds = record["memory"]
    assert kinds["parameters"] == 4 * int(parameters.replace(",", ""))
    assert 2 * kinds["parameters"] <= kinds["optimizer"] < 2.1 * kinds["parameters"]
    assert kinds["temporaries"] > 0 and kinds["total"] < record["available"]
    assert record["fits"] and "fits" in told


def test_what_is_too_much_for_this_machine_is_told_and_written(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(here, "_available", lambda devices: 2**20)
    output = tmp_path / "plan.json"
    with pytest.raises(SystemExit) as caught:
        main(["plan", "--config=phrasebook", "--topology=here", f"--json={output}", *SMALL])
    assert caught.value.code == 2
    told, record = capsys.readouterr(), json.loads(output.read_text())
    assert "does not fit" in told.out and "DOES NOT FIT" in told.err
    # Devices of one machine share its memory: no advice to split anything over them.
    assert "mesh" not in told.err and "--config.model.remat" in told.err
    assert record["fits"] is False and record["available"] == 2**20


def test_a_container_has_less_than_the_machine(monkeypatch, tmp_path):
    [device, *_] = jax.devices()
    monkeypatch.setattr(here, "_PROCESS", 0)
    whole = here._available([device])
    assert here._available([device] * 4) == whole // 4
    monkeypatch.setattr(here, "_CONTAINER", tmp_path / "memory.max")
    for text, limit in (("max", None), (str(2**30), 2**30)):
        here._CONTAINER.write_text(f"{text}\n")
        assert here._available([device]) == (limit or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--config=phrasebook"], "--topology is missing"),
        (["--config=phrasebook", "--topology=here", "--search"], "give a --topology of chips"),
        (["--config=phrasebook", "--topology=v5e:2x2", "--cpu_devices=2"], "--cpu_devices is for --topology=here"),
        (["--topology=v5e:2x2"], "Give --config or --workdir"),
        (["--config=phrasebook", "--topology=v5e"], "Write CHIP:GRID"),
        (
            ["--config=phrasebook", "--topology=v5e:2x2", "--json=no/such/folder/x.json"],
            "there is no folder no/such/folder. Make it first",
        ),
        (["--config=phrasebook", "--topology=v5e:16x16"], "config.data.rows_multiple_of = "),
        (["--config=phrasebook", "--topology=v5e:2x2", "--config.mesh.data=3"], "needs 3 devices, there are 4"),
    ],
)
def test_what_cannot_be_is_told(words, told, compiled, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["plan", *words])
    assert caught.value.code == 2
    assert told in capsys.readouterr().err

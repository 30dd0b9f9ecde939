"""`transformer plan`, without compiling: what it takes, prints, writes and refuses."""

import json

import pytest

from transformer.cli.main import main
from transformer.planning import errors, plan, program, report


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


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--config=phrasebook"], "--topology is missing"),
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

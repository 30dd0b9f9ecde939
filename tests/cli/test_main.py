import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

import transformer.config
from transformer.cli import main as command
from transformer.cli import own_process, verb, verbs
from transformer.cli.usage import UsageError

CLONE = Path(transformer.config.__file__).parents[2]


def run(capsys, *words):
    """Exit code, stdout, stderr of one command in this process."""
    try:
        command.main(list(words))
        code = 0
    except SystemExit as end:
        code = end.code
    return code, *capsys.readouterr()


def probe(monkeypatch, action):
    probe = verb.Verb("probe", "Try.", "Tries.", lambda values: None, action)
    monkeypatch.setattr(verbs, "VERBS", (probe,))


def test_an_interrupted_process_of_several_does_not_wait_for_them(monkeypatch, capsys):
    """An ordinary end would: five minutes."""

    def interrupted(given):
        raise KeyboardInterrupt

    codes = []
    probe(monkeypatch, interrupted)
    assert run(capsys, "probe")[0] == 130
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(os, "_exit", codes.append)
    assert "[process 0] Interrupted." in run(capsys, "probe")[2]
    assert codes == [130]


@pytest.mark.parametrize(
    "error",
    [jax.errors.JaxRuntimeError("INTERNAL: lost"), ValueError("UNKNOWN: Gloo AllGather failed: Connection closed")],
)
def test_a_process_that_lost_the_others_says_how_to_go_on(monkeypatch, capsys, error):
    def lost(given):
        raise error

    codes = []
    probe(monkeypatch, lost)
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(os, "_exit", codes.append)
    with pytest.raises(type(error)):
        command.main(["probe"])
    assert "The same command, started again on every host, goes on" in capsys.readouterr().err
    assert codes == [1]


def test_help_lists_every_verb(capsys):
    for word in ("--help", "-h", "help"):
        code, out, err = run(capsys, word)
        assert (code, err) == (0, "")
        assert all(f"  {verb.name} " in out and verb.summary in out for verb in verbs.VERBS)


@pytest.mark.parametrize("name", [verb.name for verb in verbs.VERBS])
def test_every_verb_has_help_with_examples(capsys, name):
    code, out, _ = run(capsys, name, "--config.nonsense", "--help")
    assert code == 0
    assert "Example" in out
    assert f"transformer {name} --" in out
    assert "--traceback" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "transformer VERB"),
        (["trian"], "Unknown verb 'trian'. Did you mean train?"),
        (
            ["qqq"],
            "Unknown verb 'qqq'. There are train, translate, evaluate, generate, score, average, merge, export, plan, "
            "config",
        ),
        (["--config=phrasebook"], "A verb comes first"),
        (["config", "--config=phrasbook"], "Did you mean phrasebook?"),
        (["config", "--config.model.num_heads=7"], "config.model.num_heads = 7: does not divide"),
    ],
)
def test_what_the_user_can_put_right_is_one_message(capsys, words, message):
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize("word", ["--traceback", "-traceback", "--traceback=true", "--traceback=1"])
def test_errors_of_ours_can_be_traced(word):
    with pytest.raises(UsageError):
        command.main(["config", word, "here"])


def test_not_unless_asked_for(capsys):
    assert run(capsys, "config", "--traceback=false", "here")[0] == 2


def test_bugs_keep_their_traceback(monkeypatch):
    def fail(given):
        raise ValueError("a bug")

    probe(monkeypatch, fail)
    with pytest.raises(ValueError, match="a bug"):
        command.main(["probe"])


def test_interrupt_is_quiet(monkeypatch, capsys):
    def interrupt(given):
        raise KeyboardInterrupt

    probe(monkeypatch, interrupt)
    assert run(capsys, "probe") == (130, "", "")


def test_only_a_process_of_its_own_may_restart(monkeypatch):
    probe(monkeypatch, lambda given: None)
    restarts = []
    monkeypatch.setattr(own_process, "restart_with_huge_pages", lambda: restarts.append(sys.argv[0]))
    monkeypatch.setattr(own_process, "collect_garbage_seldom", lambda: None)
    command.main(["probe"])
    assert restarts == []
    for started in ("bin/transformer", "transformer/__main__.py", "train.py", "-", "-c", "my_script.py"):
        monkeypatch.setattr(sys, "argv", [started, "probe"])
        command.main()
    assert restarts == ["bin/transformer", "transformer/__main__.py", "train.py"]


def start(*words, folder):
    environment = os.environ | {"PYTHONPATH": str(CLONE)}
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_as_a_module_from_any_folder(tmp_path):
    done = start(sys.executable, "-m", "transformer", "config", "--config=phrasebook", "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert '"seed": 0' in done.stdout
    assert not list(tmp_path.iterdir())


def test_train_py_is_the_verb_train(tmp_path, capsys):
    done = start(sys.executable, str(CLONE / "train.py"), "--help", folder=tmp_path)
    assert done.stdout == run(capsys, "train", "--help")[1]


LONG = """
from transformer.cli import main, verb, verbs
verbs.VERBS = (verb.Verb("long", "", "", lambda values: None, lambda given: print("line\\n" * 1_000_000)),)
main.main()
"""


@pytest.mark.parametrize(
    ("words", "line"),
    [("-m transformer config", "run\n"), ("-m transformer --help", "Train and"), ("long.py long", "line\n")],
)
def test_a_closed_pipe_is_no_error(tmp_path, words, line):
    """However much is written: a little is flushed at the end only, much fills the pipe."""
    (tmp_path / "long.py").write_text(LONG)
    done = start("bash", "-c", f"set -o pipefail; {sys.executable} {words} | head -1", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(line)


def test_a_pipe_that_is_closed_from_the_start_is_no_error(tmp_path):
    done = start("bash", "-c", f"set -o pipefail; {sys.executable} -m transformer --help | true", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")

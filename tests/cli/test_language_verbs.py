"""generate and score, on a language model of characters that was trained for a moment."""

import io
import json
import math
import re
import sys
from pathlib import Path

import pytest
import tiny_run

import transformer
from transformer.cli import decoding_flags
from transformer.evaluation.generator import Generator

TEXT = "".join(f"{english}. {german}.\n" for english, german in tiny_run.pairs())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("language")
    config = tiny_run.config(folder)
    (folder / "text.txt").write_text(TEXT)
    config.data.train = (f"text:{folder}/text.txt[:90%]",)
    config.data.validation, config.data.test = (f"text:{folder}/text.txt[90%:]",), ()
    config.data.batch_tokens = 8 * config.data.pack_length
    config.tokenizer.algorithm = "characters"
    config.model.architecture, config.model.positions = "language_model", "rotary"
    config.evaluation.metric = "loss"
    config.training.steps = config.evaluation.every = config.checkpoint.every = 24
    tiny_run.train_steps(config, folder / "run")
    return folder / "run"


# --- generate ---


def test_one_continuation_follows_its_prompt(command, run):
    words = ["--prompt=anna is", "--max_tokens=20", "--seed=3"]
    code, out, err = command("generate", f"--workdir={run}", *words)
    assert (code, err) == (0, "")
    with tiny_run.on_devices(1):
        [[expected]] = transformer.load(run).generate(["anna is"], max_tokens=20, seed=3)
    assert out == f"anna is{expected.text}\n"
    assert len(expected.text) > 3


def test_prompts_of_stdin_give_json_lines(command, run):
    words = ["--prompts=-", "--samples=2", "--max_tokens=30", "--stop=.", "--stop=\\n", "--top_k=5", "--json"]
    stdin = b'{"prompt": "anna"}\n\n{"id": 7, "prompt": "ben\\nclara"}\n'
    code, out, err = command("generate", f"--workdir={run}", *words, "--prompts_format=jsonl", stdin=stdin)
    assert (code, err) == (0, "")
    records = [json.loads(line) for line in out.splitlines()]
    assert [(record["prompt"], record["sample"]) for record in records] == [
        (prompt, number) for prompt in ("anna", "ben\nclara") for number in (1, 2)
    ]
    for record in records:
        assert "." not in record["text"]
        assert "\n" not in record["text"]
        assert record["log_probability"] < 0
        assert record["reason"] in ("end", "stop", "limit")


def test_a_backslash_of_a_file_is_one_and_of_the_command_line_is_written_as_two(command, run):
    formulas = [r"$\nabla f$", r"C:\new\\"]
    typed = [f"--prompt={formula}" for formula in (r"a\nb", r"$\\nabla f$", r"\\\n", r"\t")]
    words = ["--prompts=-", "--max_tokens=1", "--json", *typed]
    code, out, err = command("generate", f"--workdir={run}", *words, stdin="\n".join(formulas).encode())
    assert (code, err) == (0, "")
    prompts = [json.loads(line)["prompt"] for line in out.splitlines()]
    assert prompts == ["a\nb", r"$\nabla f$", "\\\n", r"\t", *formulas]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b'{"prompt": "a"', "line 2, is not JSON ("),
        (b'["a"]', 'line 2, is no JSON object with a text "prompt"'),
        (b'{"prompt": 1}', 'line 2, is no JSON object with a text "prompt"'),
        (b'{"prompt": "\\ud800"}', "line 2, has half a character"),
    ],
)
def test_json_that_holds_no_prompt_is_explained(command, run, line, told):
    words = ["--prompts=-", "--prompts_format=jsonl"]
    code, out, err = command("generate", f"--workdir={run}", *words, stdin=b'{"prompt": "b"}\n' + line)
    assert (code, out) == (2, "")
    assert told in err


def test_prompts_end_at_line_ends_alone(command, run):
    prompts = ["anna\u2028ben", "", "clara\x0cis", "david\x85"]
    file = "\ufeff" + "\r\n".join(prompts)
    code, out, _ = command(
        "generate", f"--workdir={run}", "--prompts=-", "--max_tokens=1", "--json", stdin=file.encode()
    )
    assert code == 0
    assert [json.loads(line)["prompt"] for line in out.split("\n") if line] == prompts


def test_several_prompts_are_told_apart(command, run):
    words = ["--prompt=anna", "--prompt=", "--max_tokens=4", "--temperature=0"]
    code, out, err = command("generate", f"--workdir={run}", *words)
    assert (code, err) == (0, "")
    assert "--- anna [1]\nanna" in out
    assert "--- (no prompt) [1]\n" in out


def test_an_interrupted_stream_ends_its_line(command, run, monkeypatch):
    def interrupted(self, prompt, **settings):
        yield " is"
        raise KeyboardInterrupt

    monkeypatch.setattr(Generator, "stream", interrupted)
    code, out, _ = command("generate", f"--workdir={run}", "--prompt=anna")
    assert (code, out) == (130, "anna is\n")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("words", "begins"),
    [
        (["generate", "--prompt=\\nanna", "--prompt=ben", "--max_tokens=2", "--samples=20"], "--- "),
        (["score", "--text=-", "--documents=lines", "--tokens"], ("1\t", "2\t")),
    ],
    ids=str,
)
def test_the_bar_of_a_terminal_is_not_in_the_results(command, run, monkeypatch, words, begins):
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(sys, "stderr", screen)
    verb, *flags = words
    assert command(verb, f"--workdir={run}", *flags, stdin=b"anna\nben\n")[0] == 0
    lines = screen.getvalue().split("\n")
    found = [line.rpartition("\r")[2] for line in lines if any(mark in line for mark in ("--- ", "1\t", "2\t"))]
    assert len(found) >= 9
    assert all(line.startswith(begins) for line in found)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "--prompt="),
        (["--prompt=a", "--top_p=2"], "--top_p = 2.0: must be from 1e-6 to 1"),
        (["--prompts=nowhere.txt"], "nowhere.txt cannot be read"),
        (["--prompt=anna \udcff"], "is not UTF-8 (character 5)"),
        (["--prompt=anna", "--stop=\udcff"], "is not UTF-8 (character 0)"),
    ],
    ids=str,
)
def test_what_cannot_be_generated_is_explained(command, run, words, told):
    code, out, err = command("generate", f"--workdir={run}", *words)
    assert (code, out) == (2, "")
    assert told in err


@pytest.mark.parametrize(
    ("terminal", "expected"), [(False, "ä€: ".encode()), (True, rb"\xe4\u20ac: ")], ids=["file", "terminal"]
)
def test_text_that_a_locale_lacks_is_written(command, run, monkeypatch, terminal, expected):
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(stdout, "isatty", lambda: terminal, raising=False)
    monkeypatch.setattr(sys, "stdout", stdout)
    assert command("generate", f"--workdir={run}", "--prompt=ä€: ", "--max_tokens=1")[0] == 0
    assert stdout.buffer.getvalue().startswith(expected)


def test_settings_are_checked_before_a_model_is_loaded(command, run, monkeypatch):
    monkeypatch.setattr(decoding_flags, "open_generator", lambda given: pytest.fail("loaded"))
    code, out, err = command("generate", f"--workdir={run}", "--prompt=a", "--repetition_penalty=1e39")
    assert (code, out) == (2, "")
    assert "--repetition_penalty = 1e+39: must be from 0.001 to 1000" in err


def test_warnings_stand_before_the_prompt(command, run, monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(Generator, "_warn", lambda self, *_: print("It is long.", file=screen))
    assert command("generate", f"--workdir={run}", "--prompt=anna", "--max_tokens=1")[0] == 0
    assert screen.getvalue().startswith("It is long.\nanna")


def test_each_kind_of_run_has_its_verbs(command, run):
    code, _, err = command("translate", f"--workdir={run}")
    assert (code, "transformer generate" in err) == (2, True)
    code, _, err = command("generate", f"--workdir={tiny_run.trained()}", "--prompt=a")
    assert (code, "transformer translate" in err) == (2, True)


def test_the_readme_does_so_in_python(run, tmp_path, monkeypatch, capsys):
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    [block] = [block for block in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "model.stream" in block]
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/shakespeare").symlink_to(run)
    monkeypatch.chdir(tmp_path)
    with tiny_run.on_devices(1):
        exec(block, {})
    assert len(capsys.readouterr().out) > 100


# --- score ---


def test_a_score_adds_up(command, run, tmp_path):
    text, output = "anna is tall.\nben is young.\n", tmp_path / "score.json"
    words = ["--text=-", "--tokens", f"--json_output={output}"]
    code, out, err = command("score", f"--workdir={run}", *words, stdin=text.encode())
    assert code == 0
    rows = [line.split("\t") for line in out.splitlines()]
    assert len(rows) == len(text) + 1, "a token a character, and the end"
    total, record = sum(float(row[2]) for row in rows), json.loads(output.read_text())
    assert record["tokens"] == len(rows)
    assert record["bytes"] == len(text)
    assert record["loss"] == pytest.approx(-total / len(rows), rel=1e-4)
    assert record["perplexity"] == pytest.approx(math.exp(-total / len(rows)), rel=1e-4)
    assert record["bits_per_byte"] == pytest.approx(-total / math.log(2) / len(text), rel=1e-4)
    assert f"{record['loss']:.4f} nats a token" in err


def test_lines_are_documents_and_windows_overlap(command, run, tmp_path):
    (tmp_path / "text.txt").write_text("anna is tall.\n\nben is very young and rich, and finn is too.\n")
    losses = {}
    for overlap in (0, 20):
        words = [f"--text={tmp_path}/text.txt", "--documents=lines", f"--overlap={overlap}"]
        code, out, err = command("score", f"--workdir={run}", *words)
        assert (code, err) == (0, "")
        assert out.startswith("2 documents, ")
        losses[overlap] = out.splitlines()[1]
    assert losses[0] != losses[20]


def test_documents_have_the_numbers_of_their_lines(command, run):
    words = ["--text=-", "--documents=lines", "--tokens"]
    code, out, _ = command("score", f"--workdir={run}", *words, stdin="a\n\nb\u2028b\r\n".encode())
    assert code == 0
    assert [line.split("\t")[0] for line in out.splitlines()] == ["1", "1", "3", "3", "3", "3"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "--text is missing"),
        (["--text=-"], "there is nothing to score"),
        (["--text=nowhere.txt"], "nowhere.txt cannot be read"),
        (["--text=-", "--json_output=."], "--json_output=. is a folder"),
    ],
    ids=str,
)
def test_what_cannot_be_scored_is_explained(command, run, words, told):
    code, out, err = command("score", f"--workdir={run}", *words)
    assert (code, out) == (2, "")
    assert told in err


def test_an_overlap_of_a_window_is_explained(command, run):
    code, out, err = command("score", f"--workdir={run}", "--text=-", "--overlap=24", stdin=b"anna")
    assert (code, out) == (2, "")
    assert "from 0 to 23" in err

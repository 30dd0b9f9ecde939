"""The verbs that use a trained run, on a tiny one: translate, evaluate, merge, export, average."""

import json
import shutil
import sys
import types
from pathlib import Path

import exported_run
import pytest
import tiny_run

import transformer
from transformer import config as config_module
from transformer.model.attention import MultiHeadAttention

SOURCES = ["anna is very kind", "", "ben is not tall today", "clara is quite young"]


@pytest.fixture(scope="module")
def run():
    return tiny_run.trained()


@pytest.fixture
def copy(run, tmp_path):
    """The run, to be changed."""
    shutil.copytree(run, tmp_path / "copy")
    return tmp_path / "copy"


def text(lines):
    return "".join(f"{line}\n" for line in lines).encode()


def translate(command, *words):
    code, out, err = command("translate", *words, stdin=text(SOURCES))
    assert (code, err) == (0, "")
    return out.split("\n")[:-1]


def name_outside_code(monkeypatch):
    """From now on every saved config names an attention in a module outside the package."""
    module = types.ModuleType("mine")
    module.Own = MultiHeadAttention
    monkeypatch.setitem(sys.modules, "mine", module)
    read = config_module.from_json

    def read_changed(text):
        config = read(text)
        config.model.attention = "mine:Own"
        return config

    monkeypatch.setattr(config_module, "from_json", read_changed)


# --- translate ---


def test_translate_gives_a_line_for_each_line(command, run):
    lines = translate(command, f"--workdir={run}")
    assert len(lines) == len(SOURCES)
    assert lines[1] == ""
    assert lines[0].startswith("anna ist")


def test_translate_reads_windows_line_ends_and_a_last_line_without_one(command, run):
    code, out, _ = command("translate", f"--workdir={run}", stdin="\r\n".join(SOURCES).encode())
    assert code == 0
    assert out.split("\n")[:-1] == translate(command, f"--workdir={run}")


def test_n_best_columns(command, run):
    best = translate(command, f"--workdir={run}")
    rows = [line.split("\t") for line in translate(command, f"--workdir={run}", "--n_best=2")]
    assert [row[0] for row in rows] == ["1", "1", "2", "3", "3", "4", "4"]  # nothing but itself for the empty line
    found = {}
    for number, score, log_probability, translation in rows:
        assert float(log_probability) <= float(score) <= 0
        found.setdefault(int(number), []).append((float(score), translation))
    assert [found[number][0][1] for number in sorted(found)] == best
    assert all(hypotheses == sorted(hypotheses, key=lambda pair: -pair[0]) for hypotheses in found.values())


def test_n_best_larger_than_the_beam_is_refused(command, run):
    code, _, err = command("translate", f"--workdir={run}", "--n_best=3", stdin=text(SOURCES))
    assert code == 2
    assert "decoding.beam_size = 2: cannot give 3 translations" in err
    wider = translate(command, f"--workdir={run}", "--n_best=3", "--config.decoding.beam_size=3")
    assert len(wider) == 3 * 3 + 1


def test_an_ensemble_of_a_run_with_itself_translates_as_the_run(command, run):
    assert translate(command, f"--workdir={run},{run}") == translate(command, f"--workdir={run}")


def test_an_ensemble_of_other_checkpoints_is_another_model(command, run, copy):
    shutil.rmtree(copy / "checkpoints/72")
    one = translate(command, f"--workdir={run}", "--checkpoint=last", "--n_best=1")
    other = translate(command, f"--workdir={copy}", "--checkpoint=last", "--n_best=1")
    both = translate(command, f"--workdir={run},{copy}", "--checkpoint=last", "--n_best=1")
    assert both not in (one, other)


def test_workdir_in_the_home_folder(command, run, monkeypatch):
    monkeypatch.setenv("HOME", str(run.parent))
    assert translate(command, "--workdir=~/workdir") == translate(command, f"--workdir={run}")


def test_stdin_that_is_not_utf8(command, run):
    code, out, err = command("translate", f"--workdir={run}", stdin=b"anna is\n\xe4rmlich\n")
    assert (code, out) == (2, "")
    assert "stdin, line 2, is not UTF-8" in err


def test_blocks_of_stdin_are_written_as_they_are_done(command, run, monkeypatch):
    def numbered(lines):
        return [(line.split("\t")[0], line.split("\t")[3]) for line in lines]

    expected = numbered(translate(command, f"--workdir={run}", "--n_best=1"))
    monkeypatch.setattr("transformer.cli.translate._BLOCK", 3)
    assert numbered(translate(command, f"--workdir={run}", "--n_best=1")) == expected
    code, out, err = command("translate", f"--workdir={run}", "--n_best=1", stdin=text(SOURCES) + b"\xe4\n")
    assert (code, numbered(out.splitlines())) == (2, expected[:-1])
    assert "stdin, line 5, is not UTF-8" in err


def test_code_named_by_a_run_needs_leave(command, run, monkeypatch):
    expected = translate(command, f"--workdir={run}")
    name_outside_code(monkeypatch)
    code, _, err = command("translate", f"--workdir={run}", stdin=text(SOURCES))
    assert code == 2
    assert "add --allow_code=mine" in err
    assert translate(command, f"--workdir={run}", "--allow_code=mine") == expected


def test_load_takes_a_step_as_a_number(command, run):
    with tiny_run.on_devices(1):
        loaded = transformer.load(run, 72).translate(SOURCES)
    assert loaded == translate(command, f"--workdir={run}", "--checkpoint=72")


# --- evaluate ---


def test_evaluate_scores_the_test_set_of_the_run_from_anywhere(command, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["--output=out.de", "--json_output=scores.json", "--config.data.data_dir=elsewhere"]
    code, out, _ = command("evaluate", f"--workdir={run}", *words)
    assert code == 0
    [(name, scores)] = json.loads((tmp_path / "scores.json").read_text("utf-8")).items()
    assert f"{name}: " in out
    for score in scores:
        assert score["name"] in out
        assert score["signature"] in out
    assert scores[0]["name"].startswith("BLEU")
    assert len((tmp_path / "out.de").read_text("utf-8").splitlines()) == len(sources_of_the_test())


def test_several_test_sets_are_scored_one_by_one(command, run, tmp_path):
    (tmp_path / "umlaut.en").write_text("anna is very kind\n", "utf-8")
    (tmp_path / "umlaut.de").write_text("änna ist sehr nett\n", "utf-8")
    own = f"lines:{tmp_path}/umlaut.en:{tmp_path}/umlaut.de"
    out, scores = tmp_path / "out.de", tmp_path / "scores.json"
    [first] = tiny_run.trained_config().data.test
    words = [f"--test={first}", f"--test={own}", f"--output={out}", f"--json_output={scores}"]
    assert command("evaluate", f"--workdir={run}", *words)[0] == 0
    assert list(json.loads(scores.read_text("utf-8"))) == [first, own]
    lines = out.read_text("utf-8").splitlines()
    assert len(lines) == len(sources_of_the_test()) + 1
    assert lines[-1] == translate(command, f"--workdir={run}")[0]


@pytest.mark.parametrize("words", [["--precision=bfloat16"], ["--config.decoding.precision=int8"]])
def test_evaluate_in_fewer_bits_tells_what_they_cost(command, run, tmp_path, words):
    outputs = {}
    for name, flags in {"fewer": words, "plain": ["--precision=float32"]}.items():
        path = tmp_path / name
        code, out, _ = command("evaluate", f"--workdir={run}", *flags, f"--output={path}", f"--json_output={path}.json")
        assert code == 0
        [scores] = json.loads(Path(f"{path}.json").read_text("utf-8")).values()
        outputs[name] = out, path.read_text("utf-8").splitlines(), scores[0]["value"]
    (told, fewer, score), (other, plain, plain_score) = outputs["fewer"], outputs["plain"]
    precision = words[0].rpartition("=")[2]
    same = sum(a == b for a, b in zip(fewer, plain, strict=True))
    assert (
        f"BLEU in {precision}: {score:.2f}, in float32: {plain_score:.2f}, difference: {score - plain_score:+.2f}; "
        f"{same} of {len(plain)} translations are the same"
    ) in told
    assert "difference" not in other


def test_evaluate_changes_nothing_else_of_the_data(command, run):
    code, _, err = command("evaluate", f"--workdir={run}", "--config.data.max_length=3")
    assert code == 2
    assert "--config.data.data_dir" in err


def sources_of_the_test():
    [corpus] = tiny_run.trained_config().data.test
    return Path(corpus.split(":")[1]).read_text("utf-8").splitlines()


# --- merge ---


def test_merge_writes_a_run_that_translates_alike(command, run, tmp_path):
    """What else it does is in tests/training/test_adapted_run.py."""
    code, out, _ = command("merge", f"--workdir={run}", f"--output={tmp_path / 'merged'}", "--checkpoint=60")
    assert (code, out) == (0, f"{tmp_path / 'merged'}: step 60 of {run}\n")
    assert translate(command, f"--workdir={tmp_path / 'merged'}") == translate(
        command, f"--workdir={run}", "--checkpoint=60"
    )
    code, _, err = command("merge", f"--workdir={run}", f"--output={run}")
    assert code == 2
    assert "holds a run already. Choose another folder." in err


def test_merge_runs_no_code_that_the_config_names(command, run, tmp_path, monkeypatch):
    name_outside_code(monkeypatch)
    monkeypatch.delitem(sys.modules, "mine")
    assert command("merge", f"--workdir={run}", f"--output={tmp_path / 'merged'}")[0] == 0


# --- export ---


@pytest.fixture
def exported(command, run, tmp_path):
    """The folder that the command made of step 60."""
    output = tmp_path / "out"
    output.mkdir()  # an empty one may be there
    words = ["--to=ctranslate2", f"--workdir={run}", f"--output={output}", "--checkpoint=60"]
    code, out, err = command("export", *words)
    assert (code, err) == (0, "")
    assert out == f"{output}: step 60 of {run}. {output / 'README.txt'} says how to use it.\n"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    return output


def test_an_exported_run_translates_alike(run, exported):
    assert exported_run.same_greedy(run, exported, "60") >= 0.99


def test_what_the_readme_of_an_exported_run_says_can_be_run(command, run, exported, monkeypatch, capsys):
    lines = (exported / "README.txt").read_text("utf-8").splitlines()
    program = "".join(f"{line[4:]}\n" for line in lines if line.startswith("    "))
    monkeypatch.chdir(exported)
    exec(program.replace("A sentence.", SOURCES[0]), {})
    printed = capsys.readouterr().out
    assert printed == f"{translate(command, f'--workdir={run}', '--checkpoint=60')[:1]}\n"


# --- average ---


def test_average_is_what_is_translated_with_from_then_on(command, copy):
    before = translate(command, f"--workdir={copy}", "--checkpoint=last", "--n_best=1")
    code, out, _ = command("average", f"--workdir={copy}", "--last=2")
    assert code == 0
    assert "average up to step 72" in out
    averaged = translate(command, f"--workdir={copy}", "--n_best=1")
    assert averaged == translate(command, f"--workdir={copy}", "--checkpoint=average", "--n_best=1")
    assert averaged != before


def test_average_of_more_than_there_are(command, copy):
    code, _, err = command("average", f"--workdir={copy}", "--last=50")
    assert code == 2
    assert "holds 3 sound checkpoints to average" in err
    assert "not 50" in err
    assert "keep_last" in err
    assert not (copy / "average").exists()

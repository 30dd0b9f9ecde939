import ssl
import urllib.error

import pytest
import sacrebleu

from transformer.evaluation.errors import EvaluationError
from transformer.evaluation.scores import wmt_test_set


def test_both_sides_are_read_line_by_line(monkeypatch, tmp_path):
    """U+2028 is a line's end to str.splitlines, not to the data."""
    files = {"src": "One\u2028more.\nTwo.\n", "ref": "Eins\x85mehr.\nZwei.\n", "ref:B": "Nein.\nNein.\n"}
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    monkeypatch.setattr(sacrebleu, "get_source_file", lambda name, pair: str(tmp_path / "src"))
    monkeypatch.setattr(
        sacrebleu, "get_reference_files", lambda name, pair: [str(tmp_path / "ref"), str(tmp_path / "ref:B")]
    )
    sources, references = wmt_test_set("wmt14/full", "en", "de")
    assert sources == ["One\u2028more.", "Two."]
    assert references == ["Eins\x85mehr.", "Zwei."]


@pytest.mark.parametrize("fault", [urllib.error.URLError("no network"), TimeoutError(), ssl.SSLError(), SystemExit(1)])
def test_a_network_that_does_not_allow_it_is_said_with_what_to_do(monkeypatch, fault):
    def refuse(name, pair):
        raise fault

    monkeypatch.setattr(sacrebleu, "get_source_file", refuse)
    with pytest.raises(EvaluationError, match="could not be downloaded.*`sacrebleu -t wmt14/full -l en-de --echo src`"):
        wmt_test_set("wmt14/full", "en", "de")


def test_unknown_names_and_directions_are_refused_with_those_there_are():
    with pytest.raises(EvaluationError, match="no test set 'wmt14full'.*wmt14/full"):
        wmt_test_set("wmt14full", "en", "de")
    with pytest.raises(EvaluationError, match="does not have en-ja, only cs-en, de-en"):
        wmt_test_set("wmt14/full", "en", "ja")

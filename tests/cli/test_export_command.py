"""What `transformer export` refuses. What it writes is in test_run_verbs.py and tests/export."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from transformer.cli import files
from transformer.cli.usage import UsageError


@pytest.mark.parametrize(
    ("words", "messages"),
    [
        (["--workdir=w", "--output=out"], ["--to is missing"]),
        (["--to=onnx", "--workdir=w", "--output=out"], ["--to=onnx", "ctranslate2"]),
        (["--to=ctranslate2", "--output=out"], ["--workdir is missing"]),
        (["--to=ctranslate2", "--workdir=w"], ["--output is missing"]),
        (["--to=ctranslate2", "--workdir=w", "--output=full"], ["--output=full", "not empty"]),
        (["--to=ctranslate2", "--workdir=w", "--output=full/file"], ["--output=full/file is a file"]),
        (["--to=ctranslate2", "--workdir=w", "--output=no/out"], ["there is no folder", "no. Make it first"]),
        (["--to=ctranslate2", "--workdir=w", "--output=gs://bucket/out"], ["gs://bucket/out", "object store"]),
        (["--to=ctranslate2", "--workdir=w", "--output=out"], ["--workdir=", "holds no checkpoint"]),
    ],
)
def test_what_cannot_be_is_told_and_nothing_is_written(command, tmp_path, monkeypatch, words, messages):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    code, out, err = command("export", *words)
    assert (code, out) == (2, "")
    for message in messages:
        assert message in err
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == ["full", "full/file"]


def test_a_link_is_followed_and_a_mounted_volume_refused(tmp_path, monkeypatch):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    given = SimpleNamespace(flags={"output": SimpleNamespace(value=str(tmp_path / "link"))})
    assert files.to_make(given, "output") == (tmp_path / "real").resolve()
    monkeypatch.setattr(Path, "is_mount", lambda path: True)
    with pytest.raises(UsageError, match="mounted"):
        files.to_make(given, "output")

"""The progress bar: on stderr only, one for each thing done."""

from transformer.data.progress import ProgressBar


def test_bars_are_drawn_on_stderr(capsys):
    name = "tokenising lines:" + "/a/very/long/folder" * 5 + "/train.en:/train.de"
    with ProgressBar() as progress:
        progress("reading", 10, None)
        progress("reading", 1_000, None)
        progress(name, 0, 1_000)
        progress(name, 1_000, 1_000)
    out, err = capsys.readouterr()
    assert out == ""
    assert "reading" in err and "tokenising lines" in err and "train.en:/train.de" in err
    assert "/1.00k" in err and "very/long/folder/a/very" not in err

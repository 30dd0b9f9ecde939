import io
import math
import os
import termios

from transformer.training.progress import Progress

RECORD = {
    "step": 200,
    "train/loss": 3.21,
    "train/accuracy": 0.4321,
    "train/learning_rate": 7e-4,
    "time/tokens_per_s": 12345.6,
    "time/data_wait_share": 0.014,
    "time/mfu": 0.41,
}


class Terminal:
    """A real one, of `rows` lines; `shown` is all that was written to it, a redrawn line as several."""

    def __init__(self, rows=40):
        self._screen, keyboard = os.openpty()
        termios.tcsetwinsize(keyboard, (rows, 150))
        self.stream = os.fdopen(keyboard, "w", encoding="utf-8")

    def shown(self):
        # What was written arrives after a while, and in parts: a mark tells its end.
        self.stream.write("\f")
        self.stream.flush()
        arrived = b""
        while not arrived.endswith(b"\f"):
            arrived += os.read(self._screen, 100_000)
        return arrived[:-1].decode().replace("\r", "\n").splitlines()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.stream.close()
        os.close(self._screen)


def test_a_log_file_gets_plain_lines_and_no_redrawing():
    stream = io.StringIO()
    with Progress(1000, start=100, stream=stream) as progress:
        for _ in range(100):
            progress.advance()
        progress.report(RECORD)
        progress.say("a translation")
    text = stream.getvalue()
    assert "\r" not in text and "\x1b" not in text
    first, second = text.splitlines()
    for words in ["step 200/1,000", "loss 3.210", "accuracy 43.2%", "lr 7.00e-04", "12,346 tokens/s", "data wait 1%"]:
        assert words in first
    assert "MFU 41%" in first and "ETA 00:00" in first
    assert second == "a translation"


def test_a_terminal_gets_one_line_that_says_the_same():
    with Terminal() as terminal, Progress(1000, start=100, stream=terminal.stream) as progress:
        progress.report(RECORD)
        progress.advance()
        progress.say("a translation")
        progress.close()
        lines = terminal.shown()
    assert any("step 101/1000" in line and "loss 3.210" in line and "MFU 41%" in line for line in lines)
    # Text stands alone on its line, not behind the bar.
    assert "a translation" in lines


def test_a_terminal_without_a_size_gets_plain_lines():
    with Terminal(rows=0) as terminal, Progress(1000, start=100, stream=terminal.stream) as progress:
        progress.report(RECORD)
        assert any(line.startswith("step 200/1,000  loss 3.210") for line in terminal.shown())


def test_validation_is_a_line_of_its_own_in_both():
    record = RECORD | {"val/loss": 2.5, "val/bleu": 31.4159}
    expected = "step 200  validation loss 2.500  BLEU 31.42"
    file = io.StringIO()
    with Terminal() as terminal, Progress(1000, stream=terminal.stream) as one, Progress(1000, stream=file) as other:
        one.report(record)
        other.report(record)
        assert expected in terminal.shown()
        assert expected in file.getvalue().splitlines()


def test_what_was_not_finite_is_said():
    stream = io.StringIO()
    with Progress(1000, stream=stream) as progress:
        progress.report({"step": 1, "train/loss": None})
    assert f"loss {math.nan}" in stream.getvalue()

"""Commands, run in the process of the tests."""

import io
import sys

import pytest
import tiny_run

from transformer.cli import process
from transformer.cli.main import main


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs a command in this process, on one device and from stdin's bytes; gives exit code, stdout and stderr."""
    monkeypatch.setattr(process, "start", lambda given: None)

    def command(*words, stdin=b""):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = 0
        with tiny_run.on_devices(1):
            try:
                main(list(words))
            except SystemExit as end:
                code = end.code
        return code, *capsys.readouterr()

    return command

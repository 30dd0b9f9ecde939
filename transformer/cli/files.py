"""Files that flags name: what is wrong with one is told before anything is computed."""

import os
import sys
from pathlib import Path

from transformer.cli.usage import UsageError
from transformer.cli.verb import Arguments


def to_write(given: Arguments, flag: str) -> Path | None:
    """The file a flag names, which can be written; None where it names none.

    Raises:
      UsageError: it cannot be.
    """
    if not given.flags[flag].value:
        return None
    path = Path(given.flags[flag].value).expanduser()
    if path.is_dir():
        raise UsageError(f"--{flag}={path} is a folder. Name a file in it.")
    if not path.parent.is_dir():
        raise UsageError(f"--{flag}={path}: there is no folder {path.parent}. Make it first.")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UsageError(f"--{flag}={path}: no permission to write there. Choose another file.")
    return path


def to_make(given: Arguments, flag: str) -> Path:
    """The folder a flag names, which can be made: it is not there, or empty.

    Raises:
      UsageError: none is named, or it cannot be.
    """
    name = given.flags[flag].value
    if not name:
        raise UsageError(f"--{flag} is missing: say which folder to make.")
    if "://" in name:
        raise UsageError(f"--{flag}={name} lies in an object store. Name a folder, and copy it there.")
    path = Path(name).expanduser().resolve()  # a link is not replaced, but what it leads to
    if path.is_mount():
        raise UsageError(
            f"--{flag}={name} is where a volume is mounted, which cannot be replaced. Name a folder in it."
        )
    if path.exists() and not path.is_dir():
        raise UsageError(f"--{flag}={name} is a file. Name a folder that is not there yet.")
    if path.is_dir() and any(path.iterdir()):
        raise UsageError(f"--{flag}={name} is there and not empty. Name another folder, or remove it first.")
    if not path.parent.is_dir():
        raise UsageError(f"--{flag}={name}: there is no folder {path.parent}. Make it first.")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise UsageError(f"--{flag}={name}: no permission to write in {path.parent}. Choose another folder.")
    return path


def read_text(given: Arguments, flag: str) -> str:
    """What is in the file a flag names, without a byte order mark; of `-` what comes from stdin.

    Raises:
      UsageError: it cannot be read, or is not UTF-8.
    """
    name = given.flags[flag].value
    try:
        content = sys.stdin.buffer.read() if name == "-" else Path(name).expanduser().read_bytes()
        return content.decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"--{flag}={name} cannot be read ({error.strerror}). Check the path.") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"--{flag}={name} is not UTF-8 (byte {error.start}). Convert it first.") from None


def read_lines(given: Arguments, flag: str) -> list[str]:
    """The lines of that text, without their ends.

    A line ends at \\n, or \\r\\n, and nowhere else: str.splitlines would also split at form feeds and U+2028.

    Raises:
      UsageError: as `read_text`.
    """
    lines = read_text(given, flag).split("\n")
    return [line.removesuffix("\r") for line in (lines if lines[-1] else lines[:-1])]

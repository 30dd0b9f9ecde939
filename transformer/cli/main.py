"""The command `transformer VERB ...`: starts, and ends, its process. What it does is in verbs.py."""

import io
import os
import re
import sys
from pathlib import Path

from transformer.cli import own_process

# What starts the command line and nothing else: a script that calls `main`, or a notebook, is not restarted.
_OURS = ("transformer", "__main__", "train")
# Read before the flags are: reading them may be what fails. The values are those absl takes for true.
_TRACEBACK = re.compile("--?traceback(=(true|t|1))?", re.IGNORECASE)


def main(words: list[str] | None = None) -> None:
    """Runs one command and ends the process with its exit code: 0, or 2 for what the user can put right.

    Args:
      words: what follows `transformer`. Unset: the process's own arguments, and then it may restart itself once.
    """
    if words is None:
        own_process.collect_garbage_seldom()
        if Path(sys.argv[0]).stem in _OURS:
            own_process.restart_with_huge_pages()
        words = sys.argv[1:]
    from transformer.cli import distributed

    _write_any_text()
    try:
        from transformer.cli import verbs  # here, so that a restart need not wait for all of them

        verbs.run(words)
        sys.stdout.flush()  # here, where a closed pipe is understood
    except KeyboardInterrupt as interrupt:
        distributed.leave(interrupt, explained=True)
        sys.exit(130)
    except BrokenPipeError:  # `transformer config | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        distributed.leave(error, explained=_is_ours(error))
        if any(map(_TRACEBACK.fullmatch, words)) or not _is_ours(error):
            raise
        print(error, file=sys.stderr)
        sys.exit(2)


def _write_any_text() -> None:
    """Results are UTF-8, as what is read is, whatever the locale; a terminal gets what it can show, and escapes."""
    if not isinstance(sys.stdout, io.TextIOWrapper):
        return
    if sys.stdout.isatty():
        sys.stdout.reconfigure(errors="backslashreplace")
    else:
        sys.stdout.reconfigure(encoding="utf-8")


def _is_ours(error: Exception) -> bool:
    """Error classes of this package carry an explanation for the user; any other is a bug and keeps its traceback."""
    return type(error).__module__.split(".")[0] == "transformer"

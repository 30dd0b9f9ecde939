"""The command `transformer VERB ...`."""

import difflib
import io
import os
import re
import sys

from transformer.cli import (
    arguments,
    average,
    config,
    distributed,
    evaluate,
    export,
    generate,
    merge,
    plan,
    process,
    score,
    train,
    translate,
)
from transformer.cli.usage import UsageError
from transformer.cli.verb import Verb

VERBS: tuple[Verb, ...] = (
    train.TRAIN,
    translate.TRANSLATE,
    evaluate.EVALUATE,
    generate.GENERATE,
    score.SCORE,
    average.AVERAGE,
    merge.MERGE,
    export.EXPORT,
    plan.PLAN,
    config.CONFIG,
)

_HELP_FLAGS = ("--help", "-h", "--helpfull")
# Read before the flags are: reading them may be what fails. The values are those absl takes for true.
_TRACEBACK = re.compile("--?traceback(=(true|t|1))?", re.IGNORECASE)
_EXAMPLE = "transformer train --config=phrasebook --workdir=runs/phrasebook"


def main(words: list[str] | None = None) -> None:
    """Runs one command and ends the process with its exit code: 0, or 2 for what the user can put right.

    Args:
      words: what follows `transformer`. Unset: the process's own arguments, and then it may restart itself once
        (see `process.start`).
    """
    own_process = words is None
    if own_process:
        process.collect_garbage_seldom()
    words = sys.argv[1:] if words is None else words
    _write_any_text()
    try:
        _run(words, own_process)
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


def _run(words: list[str], own_process: bool) -> None:
    if words and words[0] in (*_HELP_FLAGS, "help"):
        print(_help())
        return
    verb = _find(words)
    if any(word in _HELP_FLAGS for word in words):
        print(arguments.help_text(verb))
        return
    verb.run(arguments.parse(verb, words[1:], may_restart=own_process))


def _find(words: list[str]) -> Verb:
    if not words:
        raise UsageError(_help())
    for verb in VERBS:
        if verb.name == words[0]:
            return verb
    names = [verb.name for verb in VERBS]
    if words[0].startswith("-"):
        raise UsageError(f"A verb comes first: {', '.join(names)}. For example: {_EXAMPLE}")
    close = difflib.get_close_matches(words[0], names, n=1)
    meant = f"Did you mean {close[0]}?" if close else f"There are {', '.join(names)}."
    raise UsageError(f"Unknown verb {words[0]!r}. {meant}")


def _help() -> str:
    verbs = "\n".join(f"  {verb.name:<10} {verb.summary}" for verb in VERBS)
    return (
        "Train and use the Transformer of 'Attention Is All You Need'.\n\n"
        f"transformer VERB --flag=value ...\n\n{verbs}\n\n"
        f"`transformer VERB --help` tells more. For example:\n  {_EXAMPLE}\n\n"
        "Compiled programs are kept for the next command, in ~/.cache/transformer/xla or in JAX_COMPILATION_CACHE_DIR."
    )


def _is_ours(error: Exception) -> bool:
    """Error classes of this package carry an explanation for the user; any other is a bug and keeps its traceback."""
    return type(error).__module__.split(".")[0] == "transformer"

"""The verbs there are: which one is meant, and what `transformer --help` says of them."""

import difflib

from transformer.cli import arguments, average, config, evaluate, export, generate, merge, plan, score, train, translate
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
_EXAMPLE = "transformer train --config=phrasebook --workdir=runs/phrasebook"


def run(words: list[str]) -> None:
    """Does what is meant by the words that follow `transformer`.

    Raises:
      UsageError, ConfigError: when nothing is.
    """
    if words and words[0] in (*_HELP_FLAGS, "help"):
        print(_help())
        return
    verb = _find(words)
    if any(word in _HELP_FLAGS for word in words):
        print(arguments.help_text(verb))
        return
    verb.run(arguments.parse(verb, words[1:]))


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

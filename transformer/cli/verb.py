"""What a verb of the command line is. Each has a file of its own here; `verbs.VERBS` lists them."""

import dataclasses
from collections.abc import Callable

from absl import flags

from transformer.cli.overrides import Override

EVERY_FIELD = ("",)  # for Verb.overridable


@dataclasses.dataclass(frozen=True)
class Arguments:
    """What was typed after the verb.

    Attributes:
      flags: the verb's own.
      overrides: the `--config.FIELD=VALUE`s in the order given.
    """

    flags: flags.FlagValues
    overrides: tuple[Override, ...]


@dataclasses.dataclass(frozen=True)
class Verb:
    """One `transformer NAME`.

    Attributes:
      name: the word typed.
      summary: one line for `transformer --help`.
      description: the rest of `transformer NAME --help`: what it does, then examples.
      define_flags: defines its flags on the `FlagValues` it is given.
      run: does it. What computes calls `process.start` once its arguments are checked. Errors of the project's own
        classes are explained to the user, all others are bugs with a traceback.
      overridable: prefixes of the config fields that flags may change, such as "decoding."; empty: none.
    """

    name: str
    summary: str
    description: str
    define_flags: Callable[[flags.FlagValues], None]
    run: Callable[[Arguments], None]
    overridable: tuple[str, ...] = ()

"""From the words typed after a verb to its flags and its config."""

import inspect

from absl import flags

from transformer import config as config_module
from transformer.cli import overrides
from transformer.cli.listing import field_list, wrap
from transformer.cli.usage import UsageError
from transformer.cli.verb import Arguments, Verb
from transformer.config import Config, ConfigError
from transformer.training import storage
from transformer.training.workdir import Workdir


def parse(verb: Verb, words: list[str]) -> Arguments:
    """Reads the words after the verb.

    Raises:
      UsageError: for a flag that is unknown or has a wrong value, and for words that are no flag.
      ConfigError: for an override of a field that does not exist or that this verb cannot change.
    """
    words, found = overrides.split(words)
    for override in found:
        if not override.name.startswith(verb.overridable):
            remedy = f"It takes {_names(verb.overridable)}." if verb.overridable else "Leave it out."
            raise ConfigError(override.name, override.text, f"cannot be changed by `transformer {verb.name}`", remedy)
    values = _define(verb)
    try:
        rest = values([f"transformer {verb.name}", *words])[1:]
    except flags.Error as error:
        raise UsageError(f"{error}\nSee `transformer {verb.name} --help`.") from None
    if rest:
        raise UsageError(f"Unexpected {rest[0]!r}: `transformer {verb.name}` takes flags only, such as --workdir=DIR.")
    return Arguments(values, found)


def _define(verb: Verb) -> flags.FlagValues:
    values = flags.FlagValues()
    verb.define_flags(values)
    flags.DEFINE_boolean("traceback", False, "Show where in the code an error arose.", flag_values=values)
    return values


def _names(prefixes: tuple[str, ...]) -> str:
    return ", ".join(f"--config.{prefix}{'*' * prefix.endswith('.')}" for prefix in prefixes)


# --- help ---


def help_text(verb: Verb) -> str:
    """`transformer VERB --help`."""
    values = _define(verb)
    parts = [inspect.cleandoc(verb.description), "Flags:\n" + "\n".join(_flag(values[name]) for name in values)]
    if verb.overridable:
        parts += ["Fields of the config, each settable by a flag of this form:", field_list(verb.overridable)]
    return "\n\n".join(parts)


def _flag(flag: flags.Flag) -> str:
    kind = "" if flag.boolean else f"={flag.flag_type().split()[-1].upper()}"
    default = "" if flag.default in (None, False, []) else f" Default: {flag.default}."
    return f"  --{flag.name}{kind}\n" + wrap(" ".join(flag.help.split()) + default, indent=6)


# --- flags that several verbs share ---


def define_config(values: flags.FlagValues) -> None:
    text = "The run: one of the project's own configs by name, or a file; what follows a colon is its argument."
    flags.DEFINE_string("config", None, text, flag_values=values)


def define_workdir(values: flags.FlagValues, meaning: str) -> None:
    flags.DEFINE_string("workdir", None, meaning, flag_values=values)


def define_checkpoint(values: flags.FlagValues, more: str = "") -> None:
    text = "auto (the average when there is one, else the best, else the last), best, last, average, or a step."
    flags.DEFINE_string("checkpoint", "auto", text + more, flag_values=values)


def define_allow_code(values: flags.FlagValues) -> None:
    text = "A module outside this package that the saved config names (package.module) and that may be imported."
    flags.DEFINE_multi_string("allow_code", [], text, flag_values=values)


def require_workdir(arguments: Arguments) -> str:
    """The value of --workdir.

    Raises:
      UsageError: it was not given.
    """
    if not arguments.flags.workdir:
        raise UsageError("--workdir is missing: say which folder holds the run, for example --workdir=runs/phrasebook.")
    return arguments.flags.workdir


def has_saved_config(workdir: str) -> bool:
    return storage.exists(Workdir(workdir).config)


def saved_config(workdir: str) -> Config:
    """The config of the run in `workdir`.

    Raises:
      UsageError: there is none, or it is damaged, or of another version.
    """
    if not has_saved_config(workdir):
        raise UsageError(f"--workdir={workdir}: there is no config.json in it, so no run was started there.")
    places = Workdir(workdir)
    try:
        return config_module.from_json(storage.read(places.config).decode())
    except OSError as error:
        raise UsageError(f"{places.config} cannot be read ({error.strerror}). Give yourself the right to.") from error
    except ValueError as error:
        raise UsageError(
            f"{places.config} is damaged, or of another version: {error}\nCorrect it, or put a sound one in its place: "
            f"every folder in {places.checkpoints} holds a config.json; or name the run's config with --config."
        ) from error


def effective_config(arguments: Arguments, base: Config) -> Config:
    """`base` with the overrides of the command line, validated."""
    return config_module.validate(overrides.apply(base, arguments.overrides))

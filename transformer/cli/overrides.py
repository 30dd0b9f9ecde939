"""`--config.FIELD=VALUE`: told apart from a verb's other flags, checked by name, and written into a config.

The values are parsed by `ml_collections.config_flags`, so they are spelt as in other JAX projects. The names are
checked here first, because its own messages suggest nothing.
"""

import dataclasses
import re
import shlex
import types
import typing
from collections.abc import Iterable
from typing import Any

from absl import flags

from transformer.cli.usage import UsageError
from transformer.config import Config, ConfigError, FieldInfo, example, fields, put, unknown_field

_OVERRIDE = re.compile(r"--?(no)?config\.([^=]*)(?:=(.*))?", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Override:
    """A field's dotted name and the text it was given."""

    name: str
    text: str


def split(words: list[str]) -> tuple[list[str], tuple[Override, ...]]:
    """The words that are no override, and the overrides, each in the order given.

    Understands `--config.x=1`, `--config.x 1`, and for booleans `--config.x` and `--noconfig.x`.

    Raises:
      ConfigError: for a field that does not exist.
      UsageError: for one without a value, or --noconfig before one that is no switch.
    """
    rest, found = [], []
    remaining = iter(words)
    for word in remaining:
        match = _OVERRIDE.fullmatch(word)
        if match is None:
            rest.append(word)
        else:
            found.append(_override(*match.groups(), remaining))
    return rest, tuple(found)


def _override(no: str | None, name: str, text: str | None, following: Iterable[str]) -> Override:
    info = _find(name, text)
    if no and info.type is not bool:
        raise UsageError(f"--noconfig.{name} is for switches, and this is none. Write for example {_flag(info)}.")
    if no and text is not None:
        raise UsageError(f"--noconfig.{name} takes no value. Write it alone, or --config.{name}={text}.")
    if text is None and info.type is bool:
        text = "false" if no else "true"
    if text is None:
        text = next(iter(following), None)
    if text is None or text.startswith("--"):
        raise UsageError(f"--config.{name} has no value. Write for example {_flag(info)}.")
    return Override(name, text)


def apply(config: Config, overrides: Iterable[Override]) -> Config:
    """A copy of `config` with the overrides written into it, not yet validated.

    The last value of a field counts; a tuple given several times has them all. `none` unsets an optional field.

    Raises:
      ConfigError: for a field that does not exist, or a text that is no value of its type.
    """
    texts: dict[str, list[str]] = {}
    for override in overrides:
        texts.setdefault(override.name, []).append(override.text)
    for name, given in texts.items():
        config = _set(config, _find(name, given[-1]), given)
    return config


def _set(config: Config, info: FieldInfo, texts: list[str]) -> Config:
    if _is_optional(info) and texts[-1].lower() == "none":
        return put(config, info.name, None)
    from ml_collections import config_flags  # here: a command without overrides does not wait for it

    given = [_one_item(text) for text in texts] if _is_tuple(info) else texts[-1:]
    words = ["", *(f"--config.{info.name}={text}" for text in given)]
    values = flags.FlagValues()
    holder = config_flags.DEFINE_config_dataclass("config", config, flag_values=values, sys_argv=words)
    try:
        values(words)
    except flags.IllegalFlagValueError:
        raise ConfigError(info.name, texts[-1], f"is not of type {info.type_name}", _remedy(info)) from None
    return holder.value


def _one_item(text: str) -> str:
    """Quotes a bare corpus: config_flags would read the commas and colons of `lines:a,b:c,d` as Python."""
    return text if text[:1] in ("(", "[", "'", '"') else repr(text)


def _find(name: str, text: str | None) -> FieldInfo:
    known = {info.name: info for info in fields()}
    if name in known:
        return known[name]
    inside = [field for field in known if field.startswith(name + ".")]
    if inside:
        raise ConfigError(name, text, "is a section", f"Set a field in it, such as config.{inside[0]}.")
    raise unknown_field(name, text)


def _is_optional(info: FieldInfo) -> bool:
    return isinstance(info.type, types.UnionType) and type(None) in typing.get_args(info.type)


def _is_tuple(info: FieldInfo) -> bool:
    return typing.get_origin(info.type) is tuple


def _flag(info: FieldInfo) -> str:
    return f"--config.{info.name}={shell_text(example(info))}"


def _remedy(info: FieldInfo) -> str:
    if _is_tuple(info):
        return f"Write a tuple of strings, such as --config.{info.name}=\"('lines:a.en:a.de',)\"."
    return f"Write for example {_flag(info)}."


def shell_text(value: Any) -> str:
    """A field's value as it is typed in a shell after `--config.FIELD=`."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, tuple) and len(value) == 1:
        value = value[0]
    text = str(value)
    if "'" in text and not set('"$`\\!') & set(text):
        return f'"{text}"'  # shlex would put every single quote between double ones
    return shlex.quote(text)

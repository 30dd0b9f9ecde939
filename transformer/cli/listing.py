"""Configs for people: every field with its meaning, and a whole config at a glance. 100 columns."""

import dataclasses
import textwrap
from typing import Any

from transformer.cli.overrides import shell_text
from transformer.config import Config, FieldInfo, fields, get

_COLUMNS = 100


def field_list(prefixes: tuple[str, ...] = ("",), config: Config | None = None) -> str:
    """Every field whose name starts with one of `prefixes`, by section: flag, type, default, choices and meaning.

    Args:
      prefixes: of dotted names.
      config: shows its values, marked where they are not the defaults.
    """
    sections: dict[str, list[FieldInfo]] = {}
    for info in fields():
        if info.name.startswith(prefixes):
            sections.setdefault(info.name.rpartition(".")[0], []).append(info)
    return "\n\n".join(_section(name, members, config) for name, members in sections.items())


def _section(name: str, members: list[FieldInfo], config: Config | None) -> str:
    documented = type(get(Config(), name)) if name else Config
    first, _, more = documented.__doc__.partition("\n")
    heading = name or "run"
    lines = [heading, "-" * len(heading), wrap(first, indent=2)]
    lines += ["  " + line for line in textwrap.dedent(more).split("\n") if line.strip()]
    return "\n".join(lines + [_field(info, config) for info in members])


def _field(info: FieldInfo, config: Config | None) -> str:
    value = info.default if config is None else get(config, info.name)
    changed = "" if value == info.default else f"; default {shell_text(info.default)}"
    choices = f" One of: {', '.join(info.choices)}." if info.choices else ""
    head = f"--config.{info.name}={shell_text(value)}  ({info.type_name}{changed})"
    return wrap(head, indent=2, hanging=6) + "\n" + wrap(info.meaning + choices, indent=6)


def overview(config: Config) -> str:
    """Every value, a paragraph a section."""
    return "\n".join(_paragraph(name, value) for name, value in dataclasses.asdict(config).items())


def _paragraph(name: str, value: Any) -> str:
    values = value if isinstance(value, dict) else {name: value}
    title = f"{name if isinstance(value, dict) else 'run':<11}"
    return wrap(title + " ".join(f"{field}={shell_text(item)}" for field, item in values.items()), hanging=11)


def wrap(text: str, indent: int = 0, hanging: int | None = None) -> str:
    """Text in 100 columns, the first line indented by `indent`, the others by `hanging` (unset: the same)."""
    return textwrap.fill(
        text,
        _COLUMNS,
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent if hanging is None else hanging),
        break_long_words=False,
        break_on_hyphens=False,
    )

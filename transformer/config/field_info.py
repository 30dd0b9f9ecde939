"""Fields as data: for help, for flags, for errors, for JSON."""

import dataclasses
import difflib
import typing
from typing import Any

from transformer.config.options import Bounds, ConfigError
from transformer.config.sections import Config


@dataclasses.dataclass(frozen=True)
class FieldInfo:
    """One leaf of `Config`: dotted name, type as written, default, meaning, and what values it can take."""

    name: str
    type: Any
    default: Any
    meaning: str
    choices: tuple[str, ...]
    bounds: Bounds

    @property
    def type_name(self) -> str:
        return self.type.__name__ if isinstance(self.type, type) else str(self.type)


def fields(config_class: type = Config, prefix: str = "") -> list[FieldInfo]:
    """Every leaf field in the order written."""
    found = []
    for field in dataclasses.fields(config_class):
        name = prefix + field.name
        if dataclasses.is_dataclass(field.type):
            found += fields(field.type, name + ".")
        else:
            found.append(FieldInfo(name, field.type, field.default, **field.metadata))
    return found


def get(config: Config, name: str) -> Any:
    """The value at a dotted name."""
    value: Any = config
    for part in name.split("."):
        value = getattr(value, part)
    return value


def put(config: Config, name: str, value: Any) -> Config:
    """A copy with another value at a dotted name."""
    section, _, field = name.rpartition(".")
    if not section:
        return dataclasses.replace(config, **{field: value})
    changed = dataclasses.replace(getattr(config, section), **{field: value})
    return dataclasses.replace(config, **{section: changed})


def nearest_field(name: str) -> str | None:
    """The known field a misspelt dotted name most likely meant."""
    names = [info.name for info in fields()]
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return close[0]
    # The right field in the wrong section: compare last parts.
    last_parts = {info.name.rsplit(".", 1)[-1]: info.name for info in fields()}
    close = difflib.get_close_matches(name.rsplit(".", 1)[-1], last_parts, n=1, cutoff=0.6)
    return last_parts[close[0]] if close else None


def unknown_field(name: str, value: Any) -> ConfigError:
    """The error for a field that does not exist, with the one that was probably meant."""
    nearest = nearest_field(name)
    remedy = f"Did you mean config.{nearest}?" if nearest else "`transformer config` lists every field."
    return ConfigError(name, value, "there is no such field", remedy)


def example(info: FieldInfo) -> Any:
    """A value that the field may have."""
    if info.default is not None:
        return info.default
    return 64 if int in typing.get_args(info.type) else "some/PATH"

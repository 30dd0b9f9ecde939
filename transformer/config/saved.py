"""A config as JSON, as it is saved beside the checkpoints, and how far one that was read is trusted."""

import dataclasses
import json
from collections.abc import Collection
from typing import Any

from transformer.config.field_info import unknown_field
from transformer.config.model import ModelConfig
from transformer.config.options import ConfigError
from transformer.config.sections import Config
from transformer.config.validation import OF_POSITIONS, validate


def to_json(config: Config) -> str:
    """The whole config as indented JSON."""
    return json.dumps(dataclasses.asdict(config), indent=2)


def from_json(text: str) -> Config:
    """The config that `to_json` wrote, validated. Nothing in it is executed.

    Settings of positions that the model does not have are put back: earlier versions took them, and they did nothing.

    Raises:
      ConfigError: for a field this version does not know, or a value it does not allow.
      ValueError: for what is not JSON.
    """
    config = _build(Config, json.loads(text), "")
    idle = [name for kind, names in OF_POSITIONS.items() if kind != config.model.positions for name in names]
    defaults = {name: getattr(ModelConfig(), name) for name in idle}
    return validate(dataclasses.replace(config, model=dataclasses.replace(config.model, **defaults)))


def _build(config_class: type, values: Any, prefix: str) -> Any:
    if not isinstance(values, dict):
        name = prefix.rstrip(".") or "json"
        raise ConfigError(name, values, "is no section", "Write an object of fields, as `transformer config --json`.")
    known = {field.name: field for field in dataclasses.fields(config_class)}
    arguments = {}
    for name, value in values.items():
        if name not in known:
            raise unknown_field(prefix + name, value)
        if dataclasses.is_dataclass(known[name].type):
            arguments[name] = _build(known[name].type, value, f"{prefix}{name}.")
        else:
            arguments[name] = tuple(value) if isinstance(value, list) else value
    return config_class(**arguments)


def outside_module(config: Config) -> str | None:
    """The module outside this package that the config names; None when it names none."""
    module = config.model.attention.partition(":")[0]
    return None if module.split(".")[0] == "transformer" else module


def code_flag(config: Config) -> str:
    """What a command that reads this config from a checkpoint needs, with a space before it; empty for most."""
    module = outside_module(config)
    return "" if module is None else f" --allow_code={module}"


def check_code(config: Config, allowed: Collection[str]) -> None:
    """Refuses a config read from a checkpoint that would have code outside this package executed, unless allowed.

    A config that the user wrote or typed needs no such leave.

    Raises:
      ConfigError: names what would be imported.
    """
    module = outside_module(config)
    if module is None or module in allowed:
        return
    raise ConfigError(
        "model.attention",
        config.model.attention,
        f"the saved config names code outside this package; to load it, Python would import and run {module}",
        f"If you trust that module, add --allow_code={module}.",
    )

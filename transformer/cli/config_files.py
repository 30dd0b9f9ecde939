"""Finds and loads config files: `--config=NAME`, `--config=PATH.py`, either with `:ARGUMENT` for its `get_config`."""

import ast
import dataclasses
import difflib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformer import config as config_module
from transformer.config import Config


class ConfigFileError(ValueError):
    """A config file that is not there, does not run, or returns something else."""


def folder() -> Path:
    """Where the project's own configs lie: inside an installed wheel, or at the top of the clone."""
    package = Path(config_module.__file__).parents[1]
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def summaries() -> dict[str, str]:
    """The first line of each of the project's own configs, by name. Nothing is executed."""
    files = sorted(path for path in folder().glob("*.py") if path.stem != "__init__")
    return {path.stem: (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n")[0] for path in files}


def load(reference: str) -> Config:
    """The config that a file's `get_config` returns; not validated yet, because flags may still change it.

    Args:
      reference: a path (`configs/phrasebook.py`, `my/run.py`) or the name of one of the project's own (`phrasebook`);
        what follows a colon is passed to `get_config`.

    Raises:
      ConfigFileError: there is no such file, or it fails.
      ConfigError: it sets a field that does not exist.
    """
    name, _, argument = reference.partition(":")
    path = find(name)
    config = _call(_get_config(path), path, name, argument)
    if not isinstance(config, Config):
        raise ConfigFileError(f"{path}: get_config() returned {type(config).__name__}, not transformer.config.Config.")
    _check_names(config, "")
    return config


def find(name: str) -> Path:
    """The file meant: a path as it stands, else one of the project's own (`phrasebook`, `configs/phrasebook.py`)."""
    path = Path(name).expanduser()
    if path.suffix == ".py" and path.is_file():
        return path
    own = folder() / f"{path.stem}.py"
    if path in (Path(path.stem), Path(own.name), Path("configs", own.name)) and own.is_file():
        return own
    if path.exists():
        kind = "a folder" if path.is_dir() else "no Python file: its name must end in .py"
        raise ConfigFileError(f"--config={name} is {kind}. Name a file that defines get_config().")
    known = summaries()
    close = difflib.get_close_matches(path.stem, known, n=1)
    with_suffix = path.with_name(f"{path.name}.py") if path.name else path
    meant = (
        f" Did you mean {with_suffix if with_suffix.is_file() else close[0]}?" if close or with_suffix.is_file() else ""
    )
    raise ConfigFileError(f"--config={name}: no such file or config.{meant} Own configs: {', '.join(known)}.")


def _get_config(path: Path) -> Callable[..., Any]:
    spec = importlib.util.spec_from_file_location(f"config_file_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses defined in it look it up there
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever a user's file raises is told with its place
        raise _failed(path, error) from error
    if not callable(getattr(module, "get_config", None)):
        raise ConfigFileError(
            f"{path} has no function get_config(): define one that returns a transformer.config.Config."
        )
    return module.get_config


def _call(get_config: Callable[..., Any], path: Path, name: str, argument: str) -> Any:
    parameters = inspect.signature(get_config).parameters.values()
    if argument and not parameters:
        raise ConfigFileError(f"--config={name} takes no argument. Leave out ':{argument}'.")
    required = [parameter.name for parameter in parameters if parameter.default is parameter.empty]
    if required and not argument:
        usage = f"--config={name}:{required[0].upper()}"
        raise ConfigFileError(f"--config={name} needs an argument: {usage}\n{inspect.getdoc(get_config) or ''}")
    try:
        return get_config(argument) if argument else get_config()
    except Exception as error:
        raise _failed(path, error) from error


def _failed(path: Path, error: Exception) -> ConfigFileError:
    inside = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    line = inside[-1] if inside else getattr(error, "lineno", None)  # a SyntaxError knows its line
    place = f"{path}, line {line}" if line else str(path)
    return ConfigFileError(f"{place} failed: {type(error).__name__}: {error}")


def _check_names(section: Any, prefix: str) -> None:
    """A misspelt field in a file would otherwise become a new attribute that nobody reads."""
    known = {field.name: field.type for field in dataclasses.fields(section)}
    for name, value in vars(section).items():
        if name not in known:
            raise config_module.unknown_field(prefix + name, value)
        if dataclasses.is_dataclass(known[name]):
            if not isinstance(value, known[name]):
                reason = f"is {type(value).__name__}, not {known[name].__name__}"
                raise config_module.ConfigError(prefix + name, value, reason, "Set its fields one by one.")
            _check_names(value, f"{prefix}{name}.")

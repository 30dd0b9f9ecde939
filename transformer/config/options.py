"""What a field of the config is made of: a default, a meaning, and the values it can take."""

import dataclasses
import math
from typing import Any


class ConfigError(ValueError):
    """A field that cannot be, named with its value and the way out."""

    def __init__(self, field: str, value: Any, reason: str, remedy: str):
        super().__init__(f"config.{field} = {value!r}: {reason}. {remedy}")
        self.field = field
        self.value = value
        self.remedy = remedy


@dataclasses.dataclass(frozen=True)
class Bounds:
    """Between which values a number may be; None: no bound."""

    above: float | None = None
    at_least: float | None = None
    below: float | None = None
    at_most: float | None = None

    def hold(self, value: float) -> bool:
        return (
            math.isfinite(value)
            and (self.above is None or value > self.above)
            and (self.at_least is None or value >= self.at_least)
            and (self.below is None or value < self.below)
            and (self.at_most is None or value <= self.at_most)
        )

    def __str__(self) -> str:
        limits = {"above": self.above, "at least": self.at_least, "below": self.below, "at most": self.at_most}
        return " and ".join(f"{word} {limit}" for word, limit in limits.items() if limit is not None) or "finite"


def option(default: Any, meaning: str, choices: tuple[str, ...] = (), **bounds: float) -> Any:
    """A dataclass field with its meaning and the values it can take: an enumeration's, or the `Bounds` of a number."""
    metadata = {"meaning": meaning, "choices": choices, "bounds": Bounds(**bounds)}
    return dataclasses.field(default=default, metadata=metadata)


def section(config_class: type) -> Any:
    """A nested dataclass built afresh for every `Config`."""
    return dataclasses.field(default_factory=config_class)

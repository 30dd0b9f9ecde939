"""Parameters named by patterns: what a text of the config such as encoder:0-3 or *_attention means.

A pattern is one or more parts of a name (decoder/layers/self_attention/query), wherever they stand in it, and means
all that is below them too. `*` stands for any letters of one part, `?` for one letter. After a colon may follow which
layers of a stack: 3, 0-3, or 3- for all from 3 on.
"""

import dataclasses
import difflib
import re
from collections.abc import Collection, Mapping, Sequence

from transformer.config import ConfigError

# Of every parameter by name how many layers are stacked in it; None: it belongs to no stack.
Depths = Mapping[str, int | None]
# The layers chosen of every parameter; of one in no stack "layer" 0 is all of it.
Selection = dict[str, frozenset[int]]

_PATTERN = re.compile(r"([\w*?]+(?:/[\w*?]+)*)(?::(?:(\d+)(?:(-)(\d*))?))?")


def everything(depths: Depths) -> Selection:
    """Every layer of every parameter."""
    return {name: frozenset(range(1 if depth is None else depth)) for name, depth in depths.items()}


def select(field: str, texts: Sequence[str], depths: Depths) -> Selection:
    """What any of the patterns means; parameters that none means have no layers.

    Args:
      field: of the config, for errors.

    Raises:
      ConfigError: for what is no pattern, means nothing, or means layers that are not there.
    """
    chosen: Selection = {name: frozenset() for name in depths}
    for text in texts:
        for name, layers in _Pattern.parse(field, text).find(depths).items():
            chosen[name] |= layers
    return chosen


@dataclasses.dataclass(frozen=True)
class _Pattern:
    field: str
    text: str
    name: re.Pattern
    first: int | None  # None: all layers, and what is in no stack
    last: int | None  # None: the last there is

    @classmethod
    def parse(cls, field: str, text: str) -> "_Pattern":
        match = _PATTERN.fullmatch(text)
        if match is None:
            raise ConfigError(
                field, text, "is no pattern", "Write parts of a name and maybe layers: *_attention, encoder:0-3."
            )
        glob, first, dash, last = match.groups()
        if first is not None and last and int(last) < int(first):
            raise ConfigError(field, text, "is no range of layers", "Write the lower layer first.")
        expression = re.compile(rf"(?:.*/)?{_expression(glob)}(?:/.*)?")
        if first is None:
            return cls(field, text, expression, None, None)
        until = (int(last) if last else None) if dash else int(first)
        return cls(field, text, expression, int(first), until)

    def find(self, depths: Depths) -> Selection:
        """The parameters it means."""
        named = {name: depth for name, depth in depths.items() if self.name.fullmatch(name)}
        if not named:
            raise ConfigError(self.field, self.text, "no parameter has such a name", near(self.text, depths))
        if self.first is None:
            return everything(named)
        stacked = {name: depth for name, depth in named.items() if depth is not None}
        if not stacked:
            raise ConfigError(
                self.field, self.text, f"{next(iter(named))} has no layers", "Leave out the colon and what follows."
            )
        for name, depth in stacked.items():
            highest = self.first if self.last is None else self.last
            if highest >= depth:
                raise ConfigError(
                    self.field,
                    self.text,
                    f"{name} has no layer {highest}",
                    f"Its layers are 0 to {depth - 1}; for other layers of another stack, name each stack by itself.",
                )
        return {
            name: frozenset(range(self.first, depth if self.last is None else self.last + 1))
            for name, depth in stacked.items()
        }


def near(text: str, names: Collection[str]) -> str:
    """The way out for a pattern that means nothing: what was probably meant."""
    runs: dict[str, None] = {}
    for name in names:
        parts = name.split("/")
        for length in range(1, len(parts) + 1):
            for start in range(len(parts) - length + 1):
                runs["/".join(parts[start : start + length])] = None
    close = difflib.get_close_matches(re.sub(r"[*?]|:.*", "", text), runs, n=3, cutoff=0.6)
    if close:
        return f"Did you mean {' or '.join(close)}?"
    parts = sorted({part for name in names for part in name.split("/")} - {"layers"})
    return f"Parts of names are {', '.join(parts)}."


@dataclasses.dataclass(frozen=True)
class Rename:
    """NEW=OLD of two patterns: a parameter that NEW means is called OLD elsewhere. The stars of both are the same."""

    new: re.Pattern
    old: tuple[str, ...]  # what stands before, between and after its stars

    @classmethod
    def parse(cls, field: str, text: str) -> "Rename":
        """Raises ConfigError for what is none."""
        new, equals, old = text.partition("=")
        valid = equals and all(_PATTERN.fullmatch(side) and not set(side) & {":", "?"} for side in (new, old))
        if not valid or old.count("*") > new.count("*"):
            raise ConfigError(
                field, text, "is no pair of names NEW=OLD", "Write for example encoder=decoder, or encoder*=decoder*."
            )
        return cls(re.compile(rf"((?:.*?/)?){_expression(new)}((?:/.*)?)"), tuple(old.split("*")))

    def old_name(self, name: str) -> str | None:
        """What a parameter of this name is called elsewhere; None when this says nothing of it."""
        match = self.new.fullmatch(name)
        if match is None:
            return None
        before, *stars, after = match.groups()
        filled = [text for pair in zip(self.old, [*stars, ""], strict=False) for text in pair]
        return before + "".join(filled[: 2 * len(self.old) - 1]) + after


def old_names(field: str, rules: Sequence[str], names: Collection[str]) -> dict[str, str]:
    """What each parameter is called elsewhere: by the first rule that says so, else as here.

    Raises:
      ConfigError: for what is no rule, and for one that says nothing of any of the names.
    """
    renames = [Rename.parse(field, rule) for rule in rules]
    for rule, rename in zip(rules, renames, strict=True):
        if not any(rename.old_name(name) for name in names):
            new = rule.partition("=")[0]
            raise ConfigError(field, rule, f"no parameter of this model is called {new}", near(new, names))
    found = {}
    for name in names:
        olds = (rename.old_name(name) for rename in renames)
        found[name] = next((old for old in olds if old is not None), name)
    return found


def _expression(glob: str) -> str:
    """Of names; each star is a group."""
    return re.escape(glob).replace(r"\*", "([^/]*)").replace(r"\?", "[^/]")

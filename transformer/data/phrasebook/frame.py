"""A sentence frame: slots to fill, and how to say the filled frame in both languages."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .phenomena import QUESTION, Pair, merge
from .words import sentence

Slot = tuple[Any, ...]


@dataclass(frozen=True)
class Frame:
    """`render` takes a value of each slot by name; what fills the slots in `held_out` decides a sentence's split."""

    name: str
    slots: dict[str, Slot]
    held_out: tuple[str, ...]
    render: Callable[..., Pair]

    @property
    def size(self) -> int:
        """The number of ways to fill the slots: each gives another sentence."""
        return math.prod(len(values) for values in self.slots.values())


def frame(*held_out: str, **slots: Slot) -> Callable[[Callable[..., Pair]], Frame]:
    """Make a Frame of a function, which gives it its name and renders it. Raises ValueError for an unknown slot."""
    for slot in held_out:
        if slot not in slots:
            raise ValueError(f"held out slot {slot!r} is none of the frame's slots: {', '.join(slots)}")

    def build(render: Callable[..., Pair]) -> Frame:
        return Frame(render.__name__, slots, held_out, render)

    return build


def statement(english: str, german: str, *phenomena: tuple[str, ...]) -> Pair:
    """A pair of sentences that end with a full stop, showing the union of the groups of phenomena."""
    return Pair(sentence(english, "."), sentence(german, "."), merge(phenomena))


def question(english: str, german: str, *phenomena: tuple[str, ...]) -> Pair:
    """A pair of sentences that end with a question mark."""
    return Pair(sentence(english, "?"), sentence(german, "?"), merge(((QUESTION,), *phenomena)))

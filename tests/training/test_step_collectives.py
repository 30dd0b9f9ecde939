"""What devices say to each other in a step, read from the compiled program."""

import dataclasses
import math
import re

import jax
import pytest
from test_step import BATCHES, DROPPING, config_of, trainer_of
from tiny_model import blueprint_of, tiny

from transformer.model.blueprint import count
from transformer.sharding import to_global

KINDS = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute|collective-broadcast"


@dataclasses.dataclass(frozen=True)
class Collective:
    kind: str
    numbers: int  # in its result, on one device
    once: bool  # outside of every loop


def collectives(sizes: tuple[int, ...], accumulate: int) -> list[Collective]:
    trainer = trainer_of(config_of(DROPPING, accumulate=accumulate), sizes)
    with jax.set_mesh(trainer.mesh):
        lowered = trainer.train_step.lower(trainer.abstract_state(), to_global(BATCHES[0], trainer.mesh))
    found, once = [], False
    for line in lowered.compile().as_text().splitlines():
        if line.startswith(("ENTRY", "%")):
            once = line.startswith("ENTRY")
        match = re.search(rf" = (.*?) ({KINDS})(-start)?\(", line)
        if match:
            shapes = re.findall(r"\w+\[([\d,]*)\]", match[1])
            numbers = sum(math.prod(int(size) for size in shape.split(",") if size) for shape in shapes)
            found.append(Collective(match[2], numbers, once))
    return found


@pytest.mark.parametrize("sizes", [(1, 8, 1, 1, 1), (2, 4, 1, 1, 1)])
def test_with_copies_of_the_parameters_their_gradient_is_summed_once(sizes):
    """However many parts, layers and chunks it is added up from: in loops there are sums of scalars only."""
    found = collectives(sizes, accumulate=2)
    numbers = count(blueprint_of(tiny()).shapes())
    assert {collective.kind for collective in found} == {"all-reduce"}
    assert numbers <= sum(collective.numbers for collective in found if collective.once) <= numbers + 64
    assert all(collective.numbers <= 4 for collective in found if not collective.once)


def test_what_is_said_does_not_grow_with_the_devices():
    two, eight = (collectives((1, devices, 1, 1, 1), accumulate=1) for devices in (2, 8))
    assert sorted(map(dataclasses.astuple, two)) == sorted(map(dataclasses.astuple, eight))

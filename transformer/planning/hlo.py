"""Compiled programs as XLA prints them (HLO text), read into instructions.

Only what is counted of a program is read: types, opcodes, operands, called computations and a few attributes.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Iterator

from transformer.planning.errors import PlanError

_BITS = {"pred": 8, "bf16": 16, "token": 0, "opaque": 0, "s4": 4, "u4": 4, "s2": 2, "u2": 2}
# Of other element types the name says it: f32, s8, u64, f8e4m3fn, c64.
_WIDTH = re.compile(r"[a-z]+(\d+)")
_ARRAY = re.compile(r"([a-z]\w*)\[([\d,<=]*)\](?:\{([^}]*)\})?")
# A layout ends with the memory its array lies in, S(n); none or 0: HBM.
_SPACE = re.compile(r"S\((\d+)\)")
# ... and begins with its dimensions, the innermost first, and the tiles of the first two.
_ORDER = re.compile(r"(\d+),(\d+)")
_TILE = re.compile(r"T\((\d+),(\d+)\)")
_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = ")
_OPCODE = re.compile(r"\s*([a-z][\w\-]*)\(")
_NAME = re.compile(r"%([\w.\-]+)")
_CALLED = re.compile(r"(?:calls|body|to_apply|called_computations|branch_computations|true_computation"
                     r"|false_computation)=(\{[^}]*\}|%?[\w.\-]+)")  # fmt: skip
_END = re.compile(r"^\}(?!\})")
_COMMENT = re.compile(r"/\*[^*]*\*/")
_TRIP_COUNT = re.compile(r'"known_trip_count":\s*\{\s*"n":\s*"?(\d+)')
_AT_MOST = re.compile(r"at_most_(\d+)_times")


@dataclasses.dataclass(frozen=True)
class Array:
    """An array type.

    Attributes:
      in_hbm: it lies in the chip's main memory, not in the fast one beside its units.
      held: its shape as it lies there, whole tiles along its two innermost dimensions.
    """

    element: str
    shape: tuple[int, ...]
    in_hbm: bool = True
    held: tuple[int, ...] | None = dataclasses.field(default=None, compare=False)

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * _bits(self.element) // 8

    @property
    def held_bytes(self) -> int:
        return math.prod(self.shape if self.held is None else self.held) * _bits(self.element) // 8


def _bits(element: str) -> int:
    if element in _BITS:
        return _BITS[element]
    match = _WIDTH.match(element)
    if not match:
        raise PlanError(f"The compiled program has arrays of an element type {element!r} that is not known here.")
    return int(match.group(1))


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation. `arrays` are those of its result: several when it is a tuple."""

    name: str
    opcode: str
    arrays: tuple[Array, ...]
    operands: tuple[str, ...]
    literal: str  # what stands in the parentheses
    attributes: str
    is_root: bool

    @property
    def bytes(self) -> int:
        """Of the result."""
        return sum(array.bytes for array in self.arrays)

    @functools.cached_property
    def called(self) -> tuple[str, ...]:
        """Computations it runs; of a loop its body, not its condition."""
        return tuple(name for found in _CALLED.findall(self.attributes) for name in re.findall(r"[\w.\-]+", found))

    def attribute(self, name: str) -> str | None:
        """The text of an attribute up to the next comma outside of brackets; None when it is not there."""
        match = re.search(rf"(?:^|, ){name}=", self.attributes)
        return None if match is None else _until_comma(self.attributes[match.end() :])

    @property
    def source(self) -> str:
        """The operation of the traced program it comes from, such as `jit(step)/transpose(jvp())/while/dot_general`."""
        match = re.search(r'op_name="([^"]*)"', self.attributes)
        return match.group(1) if match else ""


@dataclasses.dataclass(frozen=True)
class Computation:
    """Instructions by name, in order."""

    name: str
    instructions: dict[str, Instruction]

    def __iter__(self) -> Iterator[Instruction]:
        return iter(self.instructions.values())

    @functools.cached_property
    def root(self) -> Instruction:
        return next(instruction for instruction in self if instruction.is_root)

    @functools.cached_property
    def parameters(self) -> dict[int, str]:
        return {int(each.literal): each.name for each in self if each.opcode == "parameter"}

    @functools.cached_property
    def users(self) -> dict[str, list[Instruction]]:
        """The instructions that read each result."""
        found: dict[str, list[Instruction]] = {name: [] for name in self.instructions}
        for instruction in self:
            for operand in dict.fromkeys(instruction.operands):
                found[operand].append(instruction)
        return found


@dataclasses.dataclass(frozen=True)
class Program:
    """The computations of a compiled program."""

    computations: dict[str, Computation]
    entry: Computation

    @classmethod
    def parse(cls, text: str) -> "Program":
        """Reads what `compiled.as_text()` gives.

        Raises:
          PlanError: there is no entry computation in it.
        """
        computations, entry, name = {}, None, None
        lines: dict[str, Instruction] = {}
        for line in _lines(text):
            if name is None:
                header = _HEADER.match(line)
                if header and not line.startswith("HloModule"):
                    name, lines = header.group(2), {}
                    entry = name if header.group(1) else entry
            elif _END.match(line):
                computations[name] = Computation(name, lines)
                name = None
            elif (match := _INSTRUCTION.match(line)) is not None:
                instruction = _instruction(match, line)
                lines[instruction.name] = instruction
        if entry is None:
            raise PlanError("The compiled program has no ENTRY computation: its text is not understood here.")
        return cls(computations, computations[entry])

    def trip_count(self, loop: Instruction) -> int:
        """How often the body of a `while` is run: as XLA notes it, at most as its name says (`blockwise.at_most`), else
        from `i < n` with i from 0.

        Raises:
          PlanError: it cannot be told.
        """
        noted = _TRIP_COUNT.search(loop.attributes)
        if noted:
            return int(noted.group(1))
        bounded = _AT_MOST.search(loop.source)
        if bounded:
            return int(bounded.group(1))
        condition = self.computations[loop.attribute("condition").removeprefix("%")]
        limits = _limits(condition, condition.root, self)
        if len(limits) != 1:
            raise PlanError(f"How often the loop {loop.name} ({loop.source}) is run cannot be told from the program.")
        return limits[0]


def _lines(text: str) -> Iterator[str]:
    """Its lines, with what a kernel says of itself, which has lines of its own, joined to the line of its call."""
    whole = ""
    for line in text.splitlines():
        if line.startswith(('"', "}}")):
            whole += line
            continue
        yield whole
        whole = line
    yield whole


def _limits(condition: Computation, test: Instruction, program: Program) -> list[int]:
    """The n of `i < n`, also where the comparison stands in a fusion that is given n."""
    constants = [
        int(condition.instructions[name].literal)
        for name in test.operands
        if condition.instructions[name].opcode == "constant"
    ]
    if test.opcode == "compare":
        return constants if test.attribute("direction") == "LT" else []
    if test.opcode == "fusion":
        inner = program.computations[test.called[0]]
        return constants or _limits(inner, inner.root, program)
    return []


def _instruction(match: re.Match, line: str) -> Instruction:
    rest = _COMMENT.sub("", line[match.end() :])
    end = _closing(rest, 0) + 1 if rest.startswith("(") else rest.index(" ")  # of the type
    arrays = tuple(
        _array(element, tuple(int(size.removeprefix("<=")) for size in sizes.split(",") if size), layout)
        for element, sizes, layout in _ARRAY.findall(rest[:end])
    )
    opcode = _OPCODE.match(rest[end:])
    start = end + opcode.end() - 1
    stop = _closing(rest, start)
    inside = rest[start + 1 : stop]
    attributes = rest[stop + 1 :].removeprefix(", ")
    operands = () if opcode.group(1) in ("constant", "parameter") else tuple(_NAME.findall(inside))
    return Instruction(match.group(2), opcode.group(1), arrays, operands, inside, attributes, bool(match.group(1)))


def _array(element: str, shape: tuple[int, ...], layout: str) -> Array:
    space, order, tile = _SPACE.search(layout), _ORDER.match(layout), _TILE.search(layout)
    held = list(shape)
    if order and tile:  # the innermost dimension is named first
        rows, lanes = (int(size) for size in tile.groups())
        inner, outer = (int(dimension) for dimension in order.groups())
        held[inner] = -(-shape[inner] // lanes) * lanes
        held[outer] = -(-shape[outer] // rows) * rows
    return Array(element, shape, space is None or space.group(1) == "0", tuple(held))


def _closing(text: str, start: int) -> int:
    """Where the parenthesis that opens at `start` is closed."""
    depth = 0
    for index in range(start, len(text)):
        depth += (text[index] == "(") - (text[index] == ")")
        if depth == 0:
            return index
    raise PlanError(f"A line of the compiled program is not understood: {text[:100]}")


def _until_comma(text: str) -> str:
    depth = 0
    for index, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if depth == 0 and character == ",":
            return text[:index]
    return text

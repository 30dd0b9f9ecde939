"""What one chip does in a step, counted in the compiled program: operations, memory traffic, messages.

XLA's own `cost_analysis` counts the body of a loop once; here it is counted as often as it is run.

- FLOPs: products only (`convolution`, into which the TPU's compiler turns every `dot`), 2 for a multiply-add, what is
  computed a second time included. What the vector unit does (softmax, dropout's hashes, norms) is not counted. Of a
  kernel (`custom-call`) what its author said it computes, if anything; of splash attention see splash_calls.py.
- Bytes: what every instruction reads from HBM and writes to it. Arrays that the compiler placed in the fast memory
  beside the units (`S(1)` in the layout) are free; a slice taken inside a fusion counts as the slice; what is updated
  in place counts as the update.
"""

import dataclasses
import math
import re
from collections.abc import Iterator

from transformer.planning import splash_calls
from transformer.planning.hlo import Computation, Instruction, Program

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute", "collective-broadcast")
# Names of arrays, not work.
_FREE = {"parameter", "constant", "get-tuple-element", "tuple", "bitcast", "after-all", "partition-id", "replica-id"}
_FREE |= {"add-dependency", "opt-barrier", "domain", "send", "recv"}
_CONTROL = {"while", "conditional", "call"}
_NOTED_FLOPS = re.compile(r'"flops":\s*"?(\d+)')


@dataclasses.dataclass(frozen=True)
class Operation:
    """One instruction that is run `times` in a step.

    Attributes:
      flops, bytes: of each time.
      waits: the units wait for its bytes; else they arrive while other instructions are run.
      arrays: its results, such as `f32[6,1024] + 3` for this and three smaller ones.
      source: the operation of the traced program it comes from.
    """

    times: int
    flops: float
    bytes: float
    waits: bool = True
    arrays: str = ""
    source: str = ""


@dataclasses.dataclass(frozen=True)
class Message:
    """A collective that is run `times` in a step.

    Attributes:
      kind: one of `COLLECTIVES`.
      operand_bytes: what each chip brings to it.
      arrays: what that is, such as `f32[6,1024] + 3` for this and three smaller ones.
      groups: its attributes, which say between whom.
      between_slices: over the data center network; all else is within a slice.
      source: the operation of the traced program it comes from.
    """

    times: int
    kind: str
    operand_bytes: int
    arrays: str
    groups: str
    source: str
    between_slices: bool = False


@dataclasses.dataclass(frozen=True)
class Counts:
    """A step of one chip. `uncounted`: kernels of which nobody says how many FLOPs they are."""

    operations: tuple[Operation, ...]
    messages: tuple[Message, ...]
    uncounted: tuple[str, ...] = ()

    @property
    def flops(self) -> float:
        return sum(each.times * each.flops for each in self.operations)

    @property
    def bytes(self) -> float:
        return sum(each.times * each.bytes for each in self.operations)


def count(program: Program) -> Counts:
    """Counts a compiled program.

    Raises:
      PlanError: it has a loop of which cannot be told how often it is run.
    """
    operations, messages, uncounted = [], [], []
    for computation, instruction, times in _executed(program, program.entry, 1):
        messages += _messages(program, computation, instruction, times)
        if not _is_work(instruction):
            continue
        cost = _cost(program, computation, instruction)
        if cost.flops is None:
            uncounted.append(instruction.source or instruction.name)
        flops, moved = cost.flops or 0.0, cost.bytes
        if flops or moved:
            waits = not instruction.opcode.endswith("-start")
            described = _described([instruction])
            operations.append(Operation(times, flops, moved, waits, described, instruction.source))
    return Counts(tuple(operations), tuple(messages), tuple(uncounted))


def _is_work(instruction: Instruction) -> bool:
    return instruction.opcode not in _FREE and not instruction.opcode.endswith(("-done", "-update"))


@dataclasses.dataclass(frozen=True)
class _Cost:
    """Of an instruction that is run by itself. FLOPs are None where nobody says them."""

    flops: float | None
    bytes: float


def _cost(program: Program, computation: Computation, instruction: Instruction) -> _Cost:
    if is_kernel(instruction):
        splash = splash_calls.cost(computation, instruction)
        if splash is not None:
            return _Cost(splash.flops, splash.bytes)
        return _Cost(_noted_flops(instruction), _bytes(program, computation, instruction))
    flops = sum(_product_flops(program, *each) for each in _products(program, computation, instruction))
    return _Cost(flops, _bytes(program, computation, instruction))


def _executed(program: Program, computation: Computation, times: int) -> Iterator[tuple[Computation, Instruction, int]]:
    """Every instruction that is run by itself, outside of fusions, and how often."""
    for instruction in computation:
        if instruction.opcode == "while":
            turns = times * program.trip_count(instruction)
            for name in instruction.called:
                yield from _executed(program, program.computations[name], turns)
        elif instruction.opcode == "conditional":
            # The costliest branch is a step's bound.
            branches = [list(_executed(program, program.computations[name], times)) for name in instruction.called]
            yield from max(branches, key=lambda branch: _work(program, branch))
        elif instruction.opcode == "call":
            for name in instruction.called:
                yield from _executed(program, program.computations[name], times)
        else:
            yield computation, instruction, times


def _work(program: Program, executed: list[tuple[Computation, Instruction, int]]) -> tuple[float, float]:
    """FLOPs, and bytes, by which branches without products are told apart."""
    costs = [(times, _cost(program, held, each)) for held, each, times in executed if _is_work(each)]
    return sum(times * (cost.flops or 0.0) for times, cost in costs), sum(times * cost.bytes for times, cost in costs)


# --- messages ---


def _messages(program: Program, computation: Computation, instruction: Instruction, times: int) -> Iterator[Message]:
    kind = instruction.opcode.removesuffix("-start")
    if kind in COLLECTIVES:
        yield _message(times, kind, computation, instruction, instruction.source)
    elif instruction.opcode == "send" and "megascale" in instruction.attributes:
        # Between slices the compiler hands arrays to the hosts, which do the rest.
        between = re.search(r'_xla_megascale_transfer_type="(\w+)"', instruction.attributes)
        kind = between.group(1).lower().replace("_", "-") if between else "collective-permute"
        kind = kind if kind in COLLECTIVES else "collective-permute"
        sent = computation.instructions[instruction.operands[0]]
        source = sent.source or instruction.source
        yield Message(times, kind, sent.bytes, _described([sent]), "", source, between_slices=True)
    elif instruction.opcode == "fusion" or instruction.opcode.endswith("-start"):
        for name in instruction.called:
            held = program.computations[name]
            for inner in held:
                if inner.name in _under_way(held):
                    continue
                for message in _messages(program, held, inner, times):
                    scatters = message.kind == "all-reduce" and held.root.opcode == "dynamic-slice"
                    kind = "reduce-scatter" if scatters else message.kind
                    yield dataclasses.replace(message, kind=kind, source=message.source or instruction.source)


def _under_way(held: Computation) -> tuple[str, ...]:
    """The collectives that a fusion carries on or ends, and another one began.

    So the compiler lets a collective go on beside products: one fusion starts it, others have it among their results
    beside their own work, a last one waits for it.
    """
    if 'custom_call_target="AsyncCollectiveDone"' in held.root.attributes:
        return tuple(each.name for each in held if each.opcode in COLLECTIVES)
    if held.root.opcode != "tuple":
        return ()
    return tuple(name for name in held.root.operands if held.instructions[name].opcode in COLLECTIVES)


def _message(times: int, kind: str, computation: Computation, instruction: Instruction, source: str) -> Message:
    operands = [computation.instructions[name] for name in instruction.operands]
    brought = sum(operand.bytes for operand in operands)
    return Message(times, kind, brought, _described(operands), instruction.attributes, source)


def _described(operands: list[Instruction]) -> str:
    arrays = sorted((array for operand in operands for array in operand.arrays), key=lambda array: -array.bytes)
    if not arrays:
        return ""
    more = f" + {len(arrays) - 1}" if len(arrays) > 1 else ""
    return f"{arrays[0].element}[{','.join(map(str, arrays[0].shape))}]{more}"


# --- FLOPs ---


def _products(
    program: Program, computation: Computation, instruction: Instruction
) -> Iterator[tuple[Computation, Instruction]]:
    if instruction.opcode in ("convolution", "dot"):
        yield computation, instruction
    elif instruction.opcode == "fusion" or instruction.opcode.endswith("-start"):
        for name in instruction.called:
            held = program.computations[name]
            for inner in held:
                yield from _products(program, held, inner)


def is_kernel(instruction: Instruction) -> bool:
    """Whether it calls a kernel that was written for the TPU."""
    return instruction.opcode == "custom-call" and 'custom_call_target="tpu_custom_call"' in instruction.attributes


def _noted_flops(kernel: Instruction) -> float | None:
    """Pallas' `cost_estimate`."""
    noted = _NOTED_FLOPS.search(kernel.attributes)
    return float(noted.group(1)) if noted else None


def _product_flops(program: Program, computation: Computation, product: Instruction) -> float:
    left, right = (computation.instructions[name].arrays[0].shape for name in product.operands[:2])
    if product.opcode == "dot":
        contracted = [int(n) for n in re.findall(r"\d+", product.attribute("lhs_contracting_dims") or "")]
        return 2.0 * math.prod(product.arrays[0].shape) * math.prod(left[dimension] for dimension in contracted)
    return convolution_flops(left, right, product.arrays[0].shape, product.attributes)


def convolution_flops(left: tuple[int, ...], right: tuple[int, ...], out: tuple[int, ...], attributes: str) -> float:
    """2 for every multiply-add of numbers that are there: those with padding or between dilated places are none.

    The compiler writes batched products as convolutions with dilation, in which most places are empty.
    """
    left_labels, right_labels, out_labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", attributes).groups()
    window = re.search(r"window=\{([^}]*)\}", attributes)
    fields = dict(field.split("=") for field in window.group(1).split()) if window else {}
    pairs = 1
    for label in (label for label in out_labels if label.isdigit()):
        side = int(label)
        pairs *= _valid_pairs(
            size=left[left_labels.index(label)],
            kernel=right[right_labels.index(label)],
            out=out[out_labels.index(label)],
            stride=_entry(fields, "stride", side, 1),
            padding=int(fields["pad"].split("x")[side].split("_")[0]) if "pad" in fields else 0,
            left_dilation=_entry(fields, "lhs_dilate", side, 1),
            right_dilation=_entry(fields, "rhs_dilate", side, 1),
        )
    groups = re.search(r"batch_group_count=(\d+)", attributes)
    # The kernel's input features are already those of one feature group.
    batch = left[left_labels.index("b")] // (int(groups.group(1)) if groups else 1)
    return 2.0 * pairs * batch * right[right_labels.index("i")] * right[right_labels.index("o")]


def _entry(fields: dict[str, str], name: str, side: int, default: int) -> int:
    return int(fields[name].split("x")[side]) if name in fields else default


def _valid_pairs(
    *, size: int, kernel: int, out: int, stride: int, padding: int, left_dilation: int, right_dilation: int
) -> int:
    """Pairs of a place in the kernel and one in the result for which the input has a number."""
    valid = 0
    for place in range(kernel):
        first = place * right_dilation - padding  # of the dilated input, for result 0
        for result in range(out):
            index = first + result * stride
            valid += index % left_dilation == 0 and 0 <= index // left_dilation < size
    return valid


# --- bytes ---


def _bytes(program: Program, computation: Computation, instruction: Instruction) -> float:
    """Read from and written to HBM by an instruction that is run by itself."""
    if instruction.opcode in _CONTROL:
        return 0.0
    operands = [computation.instructions[name] for name in instruction.operands]
    if instruction.opcode.endswith("-start"):
        return _start_bytes(instruction, operands)
    if instruction.opcode == "fusion":
        held = program.computations[instruction.called[0]]
        if _under_way(held) and held.root.opcode != "tuple":
            return 0.0  # it only waits
        read = sum(
            min(_in_hbm(operand), _read_of(program, held, held.parameters[number]))
            for number, operand in enumerate(operands)
        )
        return read + _written_by(program, held, instruction)
    return sum(_touched(computation, instruction, operand.name) for operand in operands) + _written(
        computation, instruction, instruction
    )


def _start_bytes(instruction: Instruction, operands: list[Instruction]) -> float:
    """A copy: what it takes from HBM or puts there. Its result is a tuple of both places and a flag."""
    if instruction.opcode.removesuffix("-start") in COLLECTIVES:
        return float(2 * sum(_in_hbm(operand) for operand in operands))
    if len(instruction.arrays) < 2:
        return float(sum(_in_hbm(operand) for operand in operands) + _in_hbm(instruction))
    two = instruction.arrays[:2]  # one may be the whole of which the other is a slice
    return float(min(array.bytes for array in two) * sum(array.in_hbm for array in two))


def _in_hbm(instruction: Instruction) -> int:
    return sum(array.bytes for array in instruction.arrays if array.in_hbm)


def _touched(computation: Computation, instruction: Instruction, operand: str) -> float:
    """What an instruction outside of fusions reads of one operand."""
    place = instruction.operands.index(operand)
    size = _in_hbm(computation.instructions[operand])
    if instruction.opcode in ("dynamic-slice", "slice", "gather") and place == 0:
        return min(size, instruction.bytes)
    if instruction.opcode in ("dynamic-update-slice", "scatter") and place == 0:
        return 0.0
    return size


def _written(computation: Computation, instruction: Instruction, result: Instruction) -> float:
    size = _in_hbm(result)
    if instruction.opcode == "dynamic-update-slice":
        return min(size, computation.instructions[instruction.operands[1]].bytes)
    return size


def _read_of(program: Program, held: Computation, name: str) -> float:
    """How many bytes of one of its values a fused computation uses."""
    size = held.instructions[name].bytes
    total = 0.0
    under_way = _under_way(held)
    for user in held.users[name]:
        place = user.operands.index(name)
        if user.name in under_way or (user is held.root and user.opcode == "tuple"):
            continue  # read where it began; passed on
        if user.opcode in ("dynamic-slice", "slice", "gather") and place == 0:
            total += user.bytes
        elif user.opcode in ("dynamic-update-slice", "scatter") and place == 0:
            continue  # updated in place
        elif user.opcode in ("bitcast", "reshape") or _passes_on(held, user, name):
            total += _read_of(program, held, user.name)
        elif user.opcode == "fusion":
            inner = program.computations[user.called[0]]
            total += _read_of(program, inner, inner.parameters[place])
        else:
            return size
    return min(size, total)


def _passes_on(held: Computation, user: Instruction, name: str) -> bool:
    """Whether a fusion within a fusion only renames its one operand."""
    given = held.instructions[name].arrays
    return (
        user.opcode == "fusion"
        and user.operands == (name,)
        and [each.shape for each in user.arrays] == [each.shape for each in given]
    )


def _written_by(program: Program, held: Computation, fusion: Instruction) -> float:
    """What a fusion writes, result by result."""
    roots = [held.instructions[name] for name in held.root.operands] if held.root.opcode == "tuple" else [held.root]
    if len(roots) != len(fusion.arrays):  # a root that gives several
        return _in_hbm(fusion)
    under_way = _under_way(held)
    return sum(
        min(array.bytes, _update(program, held, root))
        for root, array in zip(roots, fusion.arrays, strict=True)
        if array.in_hbm and root.opcode != "parameter" and root.name not in under_way
    )


def _update(program: Program, held: Computation, root: Instruction) -> float:
    """The part of a result that is new: the update, where the rest stays as it was."""
    while root.opcode in ("bitcast", "reshape"):
        root = held.instructions[root.operands[0]]
    if root.opcode == "dynamic-update-slice":
        return held.instructions[root.operands[1]].bytes
    if root.opcode == "fusion":
        inner = program.computations[root.called[0]]
        return _update(program, inner, inner.root) if inner.root.opcode != "tuple" else root.bytes
    return root.bytes

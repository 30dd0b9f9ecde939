"""Plans as tables for people. 100 columns."""

from collections.abc import Iterable

from transformer.planning.collectives import Exchange
from transformer.planning.here import Here
from transformer.planning.memory import Memory
from transformer.planning.plan import Plan
from transformer.planning.search import Result, describe

_KINDS = {
    "parameters": "parameters",
    "optimizer": "optimizer state",
    "average": "moving average",
    "batch": "batch",
    "temporaries": "activations, gradients, work space",
    "outputs": "results",
    "program": "program",
}

# Rows of the table of memory traffic.
_SHOWN = 12


def table(plan: Plan) -> str:
    """A plan, section by section."""
    memory = _memory(plan.memory, plan.chip.hbm_bytes)
    sections = [_header(plan), memory, _work(plan), _traffic(plan), _messages(plan), _time(plan)]
    return "\n\n".join(sections) + "\n"


def _header(plan: Plan) -> str:
    mesh = " x ".join(f"{axis}={size}" for axis, size in plan.mesh.items() if size > 1) or "one device"
    return "\n".join(
        [
            f"{plan.topology}: {plan.chips} chips, mesh {mesh}",
            f"{plan.parameters:,} parameters; batch {plan.batch} (rows x lengths), {plan.tokens:,} target tokens",
        ]
    )


def here(plan: Here) -> str:
    """Memory on this machine."""
    parts = f" in {plan.parts} parts" if plan.parts > 1 else ""
    head = f"{plan.devices}: {plan.parameters:,} parameters; batch {plan.batch} (rows x lengths){parts}"
    memory = _memory(plan.memory, plan.available, "fits" if plan.fits else "does not fit")
    return f"{head}\n\n{memory}\n"


def _memory(memory: Memory, limit: float, verdict: str = "fits") -> str:
    lines = [f"{_KINDS[name]:<36}{size_text(size):>12}" for name, size in vars(memory).items() if size]
    lines.append(f"{'together':<36}{size_text(memory.total):>12}  of {size_text(limit)}: {verdict}")
    return _section("Memory of a device", lines)


def _work(plan: Plan) -> str:
    overhead = plan.flops * plan.devices / plan.model_flops
    return _section(
        "Work of a device in a step",
        [
            f"{'products':<36}{plan.flops / 1e12:>12.4g}  TFLOP, {overhead:.2f} times what the model needs",
            f"{'memory traffic':<36}{plan.hbm_bytes / 1e9:>12.4g}  GB",
            *(f"not among the products, nobody says how many: {_short(source)}" for source in plan.uncounted),
        ],
    )


def _traffic(plan: Plan) -> str:
    head = f"{'times':>5}{'traffic':>12}{'waited for':>14}  what"
    lines = [
        f"{each.times:>5}{each.bytes / 1e9:>9.3f} GB{_ms(each.waited):>14}  {each.arrays}; {_short(each.source)}"
        for each in plan.traffic[:_SHOWN]
    ]
    rest = plan.hbm_bytes - sum(each.bytes for each in plan.traffic[:_SHOWN])
    return _section("What moves most of it", [head, *lines, f"{'':>5}{rest / 1e9:>9.3f} GB{'':>14}  all the rest"])


def _messages(plan: Plan) -> str:
    if not plan.exchanges:
        return _section("Collectives of a device in a step", ["none"])
    head = f"{'kind':<20}{'over':<6}{'among':>6}{'times':>7}{'sent':>14}{'at least':>12}  what"
    lines = [
        f"{each.kind:<20}{each.network:<6}{each.group_size:>6}{each.times:>7}"
        f"{each.bytes / 1e6:>11.3f} MB{each.seconds * 1e3:>9.3f} ms  {each.arrays}; {each.source}"
        for each in grouped(plan.exchanges)
    ]
    return _section("Collectives of a device in a step", [head, *lines])


def grouped(found: Iterable[Exchange]) -> list[Exchange]:
    """Those alike added up, the longest first. Of where they come from, the last words."""
    sums: dict[tuple, Exchange] = {}
    for each in found:
        source = _short(each.source)
        key = each.kind, each.network, each.group_size, each.arrays, source
        before = sums.get(key)
        sums[key] = Exchange(
            each.kind,
            each.network,
            each.group_size,
            each.arrays,
            each.times + (before.times if before else 0),
            each.bytes + (before.bytes if before else 0.0),
            each.seconds + (before.seconds if before else 0.0),
            source,
        )
    return sorted(sums.values(), key=lambda each: -each.seconds)


def _short(source: str) -> str:
    """`jit(step)/transpose(jvp())/while/body/closed_call/reduce_sum` -> `backward, layers: reduce_sum`."""
    if not source:
        return "(made by the compiler)"
    words = source.split("/")
    if "transpose(jvp())" in words:
        stage = "backward"
    elif "jvp()" in words:
        stage = "forward"
    else:
        stage = "update"
    inside = ", in a loop" if "while" in words else ""
    if words[-1] == "pallas_call" and len(words) > 1:
        return f"{stage}{inside}: {words[-2]}"  # the kernel's name
    return f"{stage}{inside}: {' '.join(words[-2:]) if '->' in source else words[-1]}"


def _time(plan: Plan) -> str:
    times = plan.roofline
    lines = [
        f"{'compute':<36}{_ms(times.compute):>12}",
        f"{'memory':<36}{_ms(times.memory):>12}",
        f"{'compute and memory, in turn':<36}{_ms(times.chip):>12}",
        f"{'messages within a slice (ICI)':<36}{_ms(times.ici):>12}",
        f"{'messages between slices (DCN)':<36}{_ms(times.dcn):>12}",
        f"{'step, all of it overlapping':<36}{_ms(times.step):>12}  bound by {times.bound}; MFU at most {plan.mfu:.1%}",
        f"{'step, no message hidden':<36}{_ms(times.unhidden):>12}  MFU {plan.mfu_at(times.unhidden):.1%}",
        f"{'target tokens a second':<36}{plan.tokens_per_second:>12,.0f}  at most",
        f"{f'{plan.steps:,} steps':<36}{plan.hours:>12.2f}  hours at least, {plan.hours * plan.chips:,.1f} chip-hours",
    ]
    return _section("Time, by the roofline: a lower bound", lines)


def ranking(results: list[Result]) -> str:
    """What a search found, the fastest first, then what does not work and why."""
    fitting = [result for result in results if result.plan is not None]
    failed = [result for result in results if result.plan is None]
    head = f"{'tokens/s':>12}{'step':>12}{'MFU':>7}  {'bound':<8}{'memory':>11}  settings"
    lines = [
        f"{plan.tokens_per_second:>12,.0f}{_ms(plan.roofline.step):>12}{plan.mfu:>7.1%}  {plan.roofline.bound:<8}"
        f"{size_text(plan.memory.total):>11}  {describe(result.candidate)}"
        for result in fitting
        for plan in [result.plan]
    ]
    sections = [_section("Those that fit, by target tokens a second at most", [head, *lines] if lines else ["none"])]
    if failed:
        sections.append(
            _section("Those that do not work", [f"{describe(each.candidate)}: {each.reason}" for each in failed])
        )
    return "\n\n".join(sections) + "\n"


def _section(title: str, lines: list[str]) -> str:
    return "\n".join([title, *(f"  {line}" for line in lines)])


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3f} ms"


def size_text(size: float) -> str:
    """In the largest unit of which there is one."""
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= scale:
            return f"{size / scale:.2f} {unit}"
    return f"{size:.0f} B"

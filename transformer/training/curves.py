"""A picture of a run: what metrics.jsonl holds, as small curves over the steps.

Matplotlib is imported when a picture is drawn (it takes a second), and draws into memory: no display is ever opened.
"""

import dataclasses
import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from transformer.training import storage
from transformer.training.storage import Place

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INK, _FAINT, _GRID = "#222222", "#9a9a9a", "#e6e6e6"
_TRAINING, _VALIDATION, _PADDING = "#4a7ab5", "#c8502a", "#c3c9d1"
# With fewer points than this each gets a dot: one alone would draw no line.
_DOTS_BELOW = 40


@dataclasses.dataclass(frozen=True)
class _Curve:
    """One field of the log. `best` picks the value that is marked."""

    field: str
    label: str
    colour: str
    best: Callable[..., float] | None = None


@dataclasses.dataclass(frozen=True)
class _Panel:
    """Curves that share a scale. `form` writes a marked value, `ticks` one of the scale."""

    title: str
    curves: tuple[_Curve, ...]
    ticks: str
    form: str = ""
    from_zero: bool = True


_PANELS = (
    _Panel(
        "Loss (nats a token)",
        (_Curve("train/loss", "training", _TRAINING), _Curve("val/loss", "validation", _VALIDATION, min)),
        ticks="{x:g}",
        form="{:.3f}",
        from_zero=False,
    ),
    _Panel(
        "Accuracy (next token)",
        (_Curve("train/accuracy", "training", _TRAINING), _Curve("val/accuracy", "validation", _VALIDATION, max)),
        ticks="{x:g}",
        form="{:.3f}",
    ),
    _Panel("BLEU (validation)", (_Curve("val/bleu", "validation", _VALIDATION, max),), ticks="{x:g}", form="{:.1f}"),
    _Panel("Learning rate", (_Curve("train/learning_rate", "training", _TRAINING),), ticks="{x:.2g}"),
    _Panel("Gradient norm", (_Curve("train/gradient_norm", "training", _TRAINING),), ticks="{x:g}"),
    _Panel(
        "Target tokens a second",
        (
            _Curve("time/padded_tokens_per_s", "with padding", _PADDING),
            _Curve("time/tokens_per_s", "without", _TRAINING),
        ),
        ticks="{x:,.0f}",
    ),
)

# In the place of BLEU, where a language model was measured.
_BITS = _Panel(
    "Bits a byte (validation)",
    (_Curve("val/bits_per_byte", "validation", _VALIDATION, min),),
    ticks="{x:g}",
    form="{:.3f}",
    from_zero=False,
)


def draw(records: Sequence[Mapping[str, Any]], path: Place, title: str) -> None:
    """Draws the lines of a metrics log into a PNG at `path`; what was never logged has a panel that says so."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 6.6), dpi=110, layout="constrained", facecolor="white")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12, hspace=0.04)
    figure.suptitle(title, x=0.012, ha="left", fontsize=14, fontweight="bold", color=_INK, parse_math=False)
    last_step = max((record["step"] for record in records), default=1)
    of_language = any(_BITS.curves[0].field in record for record in records)
    panels = [_BITS if of_language and "BLEU" in panel.title else panel for panel in _PANELS]
    for axes, panel in zip(figure.subplots(2, 3).flat, panels, strict=True):
        axes.set_title(panel.title, loc="left", fontsize=11, color=_INK)
        drawn = [_draw_curve(axes, records, curve, panel.form) for curve in panel.curves]
        if any(drawn):
            _style(axes, panel, last_step)
        else:
            axes.set_axis_off()
            axes.text(0.5, 0.5, "not measured", ha="center", va="center", color=_FAINT, transform=axes.transAxes)
        if sum(drawn) > 1:
            axes.legend(frameon=False, fontsize=9, labelcolor=_INK)
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    storage.write(path, picture.getvalue())


def _draw_curve(axes: "Axes", records: Sequence[Mapping[str, Any]], curve: _Curve, form: str) -> bool:
    """Draws one field and marks its best value; False when no finite value of it was logged."""
    points = [(record["step"], record[curve.field]) for record in records if record.get(curve.field) is not None]
    if not points:
        return False
    steps, values = zip(*points, strict=True)
    marker = "o" if len(points) < _DOTS_BELOW else None
    axes.plot(steps, values, color=curve.colour, linewidth=1.8, marker=marker, markersize=3.5, label=curve.label)
    if curve.best is not None:
        value = curve.best(values)
        _mark(axes, steps[values.index(value)], value, form, curve)
    return True


def _mark(axes: "Axes", step: int, value: float, form: str, curve: _Curve) -> None:
    """A ring around the best value, and the value on the side where the curve is not."""
    from matplotlib.patheffects import withStroke

    axes.plot([step], [value], color=curve.colour, marker="o", markersize=7, markerfacecolor="white")
    axes.annotate(
        form.format(value),
        (step, value),
        xytext=(0, 9 if curve.best is max else -16),
        textcoords="offset points",
        ha="center",
        fontsize=9,
        fontweight="bold",
        color=curve.colour,
        path_effects=[withStroke(linewidth=3, foreground="white")],
    )


def _style(axes: "Axes", panel: _Panel, last_step: int) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_FAINT)
    axes.tick_params(colors=_INK, labelsize=9, length=3)
    axes.grid(axis="y", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel("step", fontsize=9, color=_INK)
    axes.set_xlim(0, last_step * 1.05)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.set_major_formatter(panel.ticks)
    # Room for the marked value beyond the curve.
    low, high = axes.get_ylim()
    room = 0.08 * (high - low)
    axes.set_ylim(0 if panel.from_zero else low - room, high + room)

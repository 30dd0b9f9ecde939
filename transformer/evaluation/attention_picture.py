"""A picture of where the model looks: the attention of a translated sentence over its source, head by head.

Scripts that Matplotlib's own font lacks (Chinese, Japanese, Korean) come out as boxes.
Matplotlib is imported when a picture is drawn (it takes a second), and draws into memory: no display is ever opened.
Letters: L layers, N heads, T target pieces, S source pieces.
"""

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INK, _FAINT, _MARK = "#222222", "#9a9a9a", "#c8502a"
# Inches for one piece in a panel with labels and in one without, and for the labels themselves.
_CELL, _SMALL_CELL, _LABELS = 0.33, 0.14, 1.0


def draw(
    weights_LNTS: np.ndarray,
    source_pieces: Sequence[str],
    target_pieces: Sequence[str],
    path: Path,
    *,
    title: str,
    layer: int = -1,
    highlight: range | None = None,
) -> None:
    """Draws the attention of one layer into a PNG at `path`: the mean over its heads large, every head small.

    Args:
      weights_LNTS: attention weights; row t is what was looked at while target piece t was being chosen.
      source_pieces: S labels, for all that is attended to (the end of the sentence too).
      target_pieces: T labels: the pieces that come out, not the decoder's inputs.
      path: where the PNG goes; any path that can write bytes, one in an object store too.
      title: above everything.
      layer: whose heads are drawn; -1 is the last.
      highlight: target rows that are framed, e.g. range(5, 6) for the separable prefix that ends a German clause. A
        last panel then says where they look in every layer.

    Raises:
      ValueError: when the labels do not fit the weights, or the highlighted rows are none of them.
    """
    from matplotlib.figure import Figure

    _check(weights_LNTS, source_pieces, target_pieces, highlight)
    layers, heads, targets, sources = weights_LNTS.shape
    layer %= layers
    head_rows = max(rows for rows in range(1, math.isqrt(heads) + 1) if heads % rows == 0)
    head_columns = heads // head_rows

    widths = [max(4.0, _LABELS + sources * _CELL), max(3.0, head_columns * min(3.0, 0.2 + sources * _SMALL_CELL))]
    heights = [_LABELS + max(targets * _CELL, head_rows * 1.4)]
    if highlight is not None:
        heights.append(0.7 + layers * _CELL)
    size = (sum(widths) + 0.6, sum(heights) + 0.8)
    figure = Figure(figsize=size, dpi=120, layout="constrained", facecolor="white")
    figure.suptitle(title, fontsize=13, fontweight="bold", color=_INK, parse_math=False)
    grid = figure.add_gridspec(len(heights), 2, width_ratios=widths, height_ratios=heights)

    mean = figure.add_subplot(grid[0, 0])
    _panel(mean, weights_LNTS[layer].mean(axis=0), f"Layer {layer + 1} of {layers}, mean of its heads", highlight)
    _label(mean, source_pieces, target_pieces, highlight)
    scale = figure.colorbar(mean.images[0], ax=mean, fraction=0.03, pad=0.01, ticks=(0, 0.1, 0.25, 0.5, 1))
    scale.ax.tick_params(labelsize=8, length=2, labelcolor=_INK)
    scale.outline.set_visible(False)
    head_grid = grid[0, 1].subgridspec(head_rows, head_columns)
    for head in range(heads):
        axes = figure.add_subplot(head_grid[divmod(head, head_columns)])
        _panel(axes, weights_LNTS[layer, head], f"head {head + 1}", highlight)
    if highlight is not None:
        rows_LNS = weights_LNTS[:, :, highlight].mean(axis=2)
        _by_layer(figure.add_subplot(grid[1, 0]), rows_LNS, source_pieces)
        _in_words(figure.add_subplot(grid[1, 1]), rows_LNS, source_pieces, [target_pieces[t] for t in highlight])
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    path.write_bytes(picture.getvalue())


def _check(weights_LNTS: np.ndarray, source_pieces, target_pieces, highlight: range | None) -> None:
    _, _, targets, sources = weights_LNTS.shape
    if (targets, sources) != (len(target_pieces), len(source_pieces)):
        raise ValueError(
            f"Weights of {targets} target and {sources} source pieces, "
            f"but {len(target_pieces)} and {len(source_pieces)} labels."
        )
    if highlight is not None and not (0 <= highlight.start < highlight.stop <= targets and highlight.step == 1):
        raise ValueError(f"highlight = {highlight}: choose rows among the {targets} target pieces.")


def _panel(axes: "Axes", weights: np.ndarray, title: str, highlight: range | None) -> None:
    """A heat map, without labels, the highlighted rows framed."""
    from matplotlib.colors import PowerNorm
    from matplotlib.patches import Rectangle

    # Darkness goes by the square root: a weight of 0.1 is still seen beside one of 1.
    axes.imshow(weights, cmap="Blues", norm=PowerNorm(0.5, 0, 1), aspect="auto", interpolation="nearest")
    axes.set_title(title, fontsize=9, color=_INK)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_color(_FAINT)
    if highlight is not None:
        frame = {"fill": False, "edgecolor": _MARK, "linewidth": 1.5, "clip_on": False}
        axes.add_patch(Rectangle((-0.5, highlight.start - 0.5), weights.shape[1], len(highlight), **frame))


def _label(axes: "Axes", columns: Sequence[str], rows: Sequence[str], highlight: range | None) -> None:
    # Dollars in a sentence are money, not the start of a formula.
    plain = {"fontsize": 9, "parse_math": False}
    axes.set_xticks(range(len(columns)), columns, rotation=45, ha="right", rotation_mode="anchor", **plain)
    axes.set_yticks(range(len(rows)), rows, **plain)
    axes.tick_params(length=0, labelcolor=_INK)
    for row in highlight or ():
        axes.get_yticklabels()[row].set(color=_MARK, fontweight="bold")


def _by_layer(axes: "Axes", rows_LNS: np.ndarray, source_pieces: Sequence[str]) -> None:
    """The highlighted rows in every layer, with the weights that matter as numbers."""
    weights_LS = rows_LNS.mean(axis=1)
    _panel(axes, weights_LS, "The framed row in every layer, mean of its heads", None)
    _label(axes, source_pieces, [f"layer {layer + 1}" for layer in range(len(weights_LS))], None)
    for (layer, piece), weight in np.ndenumerate(weights_LS):
        if weight >= 0.1:
            colour = "white" if weight > 0.35 else _INK
            axes.text(piece, layer, f"{weight:.1f}".lstrip("0"), ha="center", va="center", fontsize=8, color=colour)


def _in_words(axes: "Axes", rows_LNS: np.ndarray, source_pieces: Sequence[str], pieces: Sequence[str]) -> None:
    """Which head looks hardest, and at what."""
    layer, head, piece = np.unravel_index(rows_LNS.argmax(), rows_LNS.shape)
    axes.set_axis_off()
    text = (
        f"“{_words(pieces)}” looks hardest at “{_words([source_pieces[piece]])}”:\n"
        f"weight {rows_LNS.max():.2f} in head {head + 1} of layer {layer + 1}"
    )
    where = {"ha": "center", "va": "center", "transform": axes.transAxes}
    axes.text(0.5, 0.5, text, fontsize=11, color=_MARK, parse_math=False, **where)


def _words(pieces: Sequence[str]) -> str:
    """Pieces as text; SentencePiece marks the start of a word by U+2581."""
    return "".join(pieces).replace("\u2581", " ").strip()

import warnings

import numpy as np
import pytest
from matplotlib.image import imread

from transformer.evaluation.attention_picture import draw

SOURCE = ["\u2581I", "\u2581get", "\u2581up", "\u2581for", "\u2581$", "5", ".", "</s>"]
TARGET = ["\u2581Ich", "\u2581stehe", "\u2581auf", ".", "$", "</s>"]
ORANGE = np.array([0xC8, 0x50, 0x2A]) / 255


def weights(layers, heads):
    logits = np.random.default_rng(0).normal(size=(layers, heads, len(TARGET), len(SOURCE)))
    return np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)


def orange_rows(path):
    """The heights at which the mark's colour is found."""
    image = imread(path)[:, :, :3]
    return np.flatnonzero((np.abs(image - ORANGE) < 0.02).all(axis=2).any(axis=1))


@pytest.mark.parametrize(("layers", "heads"), [(1, 1), (2, 7)])
def test_draws_any_number_of_heads_without_warnings(tmp_path, layers, heads):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw(weights(layers, heads), SOURCE, TARGET, tmp_path / "a.png", title="$5 and $6", highlight=range(2, 3))
    image = imread(tmp_path / "a.png")
    assert min(image.shape[:2]) > 300 and image.std() > 0


def test_the_highlight_marks_its_row(tmp_path):
    draw(weights(1, 1), SOURCE, TARGET, tmp_path / "none.png", title="run")
    assert not orange_rows(tmp_path / "none.png").size
    heights = []
    for row in (0, 4):
        draw(weights(1, 1), SOURCE, TARGET, tmp_path / "row.png", title="run", highlight=range(row, row + 1))
        heights.append(orange_rows(tmp_path / "row.png").min())
    assert heights[0] < heights[1]


def test_the_layer_asked_for_is_drawn(tmp_path):
    both, second = weights(2, 1), weights(2, 1)[1:]
    draw(both, SOURCE, TARGET, tmp_path / "0.png", title="run", layer=0)
    draw(both, SOURCE, TARGET, tmp_path / "1.png", title="run")
    draw(np.concatenate([both[:1] * 0, second]), SOURCE, TARGET, tmp_path / "same.png", title="run", layer=1)
    first, last, same = (imread(tmp_path / f"{name}.png") for name in ("0", "1", "same"))
    assert (last == same).all() and (last != first).any()


@pytest.mark.parametrize("rows", [range(5, 7), range(2, 2), range(-1, 1), range(0, 4, 2)])
def test_rows_that_are_none_are_refused(tmp_path, rows):
    with pytest.raises(ValueError, match="among the 6 target pieces"):
        draw(weights(1, 1), SOURCE, TARGET, tmp_path / "a.png", title="run", highlight=rows)


def test_labels_must_fit_the_weights(tmp_path):
    with pytest.raises(ValueError, match="6 target and 8 source pieces, but 6 and 7 labels"):
        draw(weights(1, 1), SOURCE[:-1], TARGET, tmp_path / "a.png", title="run")

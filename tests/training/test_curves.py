import subprocess
import sys

import numpy as np
import pytest
from matplotlib.image import imread

from transformer.training import curves

STEPS = range(10, 110, 10)
FULL = [
    {
        "step": step,
        "train/loss": 5 - step / 50,
        "train/accuracy": step / 200,
        "train/learning_rate": 1e-3,
        "train/gradient_norm": 1.0,
        "time/tokens_per_s": 5000.0,
        "time/padded_tokens_per_s": 6000.0,
    }
    | ({"val/loss": 4 - step / 60, "val/accuracy": step / 250, "val/bleu": step / 5} if step % 50 == 0 else {})
    for step in STEPS
]
WITHOUT_BLEU = [{name: value for name, value in record.items() if name != "val/bleu"} for record in FULL]


@pytest.mark.parametrize(
    "records",
    [FULL[:1], [{"step": 1, "train/loss": None}], []],
    ids=["one point", "nothing finite", "nothing"],
)
def test_draws_a_picture_of_any_log(tmp_path, records):
    curves.draw(records, tmp_path / "curves.png", title="cost $1 or $2")
    image = imread(tmp_path / "curves.png")
    assert image.shape[0] > 500 and image.shape[1] > 1000
    assert image.std() > 0


def bleu_is_drawn(path):
    """Whether the colour of validation is found in the upper right panel."""
    image = imread(path)[:, :, :3]
    rows, columns, _ = image.shape
    panel = image[: rows // 2, columns * 2 // 3 :]
    return bool((np.abs(panel - np.array([0xC8, 0x50, 0x2A]) / 255) < 0.02).all(axis=2).any())


def test_bleu_is_drawn_where_it_was_measured(tmp_path):
    curves.draw(FULL, tmp_path / "full.png", title="run")
    curves.draw(WITHOUT_BLEU, tmp_path / "without.png", title="run")
    assert bleu_is_drawn(tmp_path / "full.png")
    assert not bleu_is_drawn(tmp_path / "without.png")


def test_matplotlib_is_loaded_late_and_opens_no_display(tmp_path):
    program = f"""
import pathlib, sys
from transformer.training import curves
from transformer.evaluation import attention_picture
assert "matplotlib" not in sys.modules
curves.draw([], pathlib.Path({str(tmp_path / "curves.png")!r}), title="run")
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)

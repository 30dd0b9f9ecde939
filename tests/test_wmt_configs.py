"""The paper's runs, shrunken: two steps on WMT sets that TFDS wrote, read and trained on without TensorFlow."""

import json
import math
from pathlib import Path

import pytest
import tiny_run
from tiny_tfds import write_wmt14

from transformer.cli import config_files
from transformer.config import Config


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wmt14")
    pairs = tiny_run.pairs()
    for language in ("de", "fr"):
        write_wmt14(folder, language, {"train": pairs[:-40], "validation": pairs[-40:-20], "test": pairs[-20:]})
    return folder


def shrunken(name: str, data_dir: Path) -> Config:
    """The config of that name: its text, precision, schedule and averaging, but a few thousand parameters."""
    config = config_files.load(name)
    config.data.data_dir = str(data_dir)
    config.data.cache_dir = str(data_dir / "cache")
    config.data.batch_tokens = 256
    config.data.max_length = 16
    config.data.num_buckets = 1
    config.tokenizer.vocab_size = 100
    config.model.d_model, config.model.d_ff, config.model.num_heads = 16, 32, 2
    config.model.num_encoder_layers = config.model.num_decoder_layers = 1
    config.training.steps = 2
    config.training.log_every = 1
    config.evaluation.bleu_sentences = 0
    config.evaluation.metric = "loss"
    return config


@pytest.mark.parametrize("name", ["wmt14_en_de_base", "wmt14_en_de_big", "wmt14_en_fr_big"])
def test_two_steps(name, data_dir, tmp_path):
    tiny_run.train_steps(shrunken(name, data_dir), tmp_path)
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [1, 2]
    assert all(math.isfinite(record["train/loss"]) for record in records)
    # Validated, on the set's own validation split.
    assert math.isfinite(records[-1]["val/loss"])

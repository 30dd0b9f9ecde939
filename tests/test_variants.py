"""Any two variants go together, in training, packed, sharded and decoding; or the config says why not."""

import importlib.util
import sys
from pathlib import Path

import jax
import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


def load():
    """The benchmark that makes the table in docs/variants.md."""
    sys.path.insert(0, str(FOLDER))
    try:
        spec = importlib.util.spec_from_file_location("variants", FOLDER / "variants.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules["variants"] = module
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(FOLDER))


variants = load()
COMBINATIONS = variants.combinations()


def test_every_pair_is_refused_or_tried():
    tried = [pair for pair in variants.pairs() if any(pair.items() <= choice.items() for choice in COMBINATIONS)]
    refused = {pair["model"]: pair["mask"] for pair in variants.pairs() if pair not in tried}
    assert refused == {"encoder-decoder": "prefix"}


@pytest.mark.parametrize(
    "fields",
    [
        {"mask", "attention_window"},
        {"num_kv_heads", "d_v"},
        {"qk_norm", "logit_soft_cap"},
        {"logit_soft_cap", "attention_dropout"},
        {"rotary_scaling", "attention_chunk"},
        {"attention_window", "attention_chunk"},
        {"biases", "normalization"},
        {"biases", "activation"},
        {"tied_embeddings", "activation"},
    ],
    ids=lambda fields: " and ".join(sorted(fields)),  # in the order that every worker sees
)
def test_what_can_stand_together_is_a_pair(fields):
    """Values of one dimension never meet, so each dimension must be of values that exclude each other."""
    assert any(fields <= changed(choice) for choice in COMBINATIONS)


def changed(choice: dict[str, str]) -> set[str]:
    """The fields of the config that a choice sets."""
    return {field for dimension, value in choice.items() for field in variants.DIMENSIONS[dimension][value]}


def with_every_value() -> list[int]:
    """Few of the combinations, which between them have every value once: those that are tried on several devices."""
    missing = {(dimension, value) for dimension, values in variants.DIMENSIONS.items() for value in values}
    found = []
    while missing:
        best = max(range(len(COMBINATIONS)), key=lambda number: len(missing & COMBINATIONS[number].items()))
        missing -= COMBINATIONS[best].items()
        found.append(best)
    return found


SHARDED = with_every_value()


@pytest.mark.parametrize("number", range(len(COMBINATIONS)))
def test_a_combination_works(number):
    """On several devices the others are tried by the benchmark, in minutes."""
    found = variants.check(COMBINATIONS[number], jax.jit, sharded=number in SHARDED)
    assert found.works, (COMBINATIONS[number], found)

"""Every config of the project loads, validates and builds; those of the paper have the paper's values."""

import ast

import jax.numpy as jnp
import pytest

from transformer import config as config_module
from transformer.cli import config_files
from transformer.config import Config, ModelConfig
from transformer.data import corpora
from transformer.data.tokenizer_training import train_on_documents
from transformer.model.blueprint import Blueprint, count
from transformer.training.optimizer import make_schedule

NAMES = list(config_files.summaries())
# Table 3 (and section 6.1 for English-French): d_model, h, d_ff, dropout, steps, checkpoints averaged, vocabulary,
# parameters in millions.
PAPER = {
    "wmt14_en_de_base": (512, 8, 2048, 0.1, 100_000, 5, 37_000, 65),
    "wmt14_en_de_big": (1024, 16, 4096, 0.3, 300_000, 20, 37_000, 213),
    "wmt14_en_fr_big": (1024, 16, 4096, 0.1, 300_000, 20, 32_000, 213),
}

# Those for pods, which are not the paper's: d_model, h, d_ff, layers of each stack, vocabulary, parameters, and the
# chips that share the rows of a batch.
PODS = {
    "wmt14_en_de_big_pod": (1024, 16, 4096, 6, 37_120, 214.3e6, 256),
    "wmt14_en_de_1b": (2048, 16, 8192, 8, 32_768, 1.007e9, 64),
    "wmt14_en_de_10b": (4096, 32, 16_384, 21, 32_768, 10.0e9, 128),
}


# Language models: layers, d_model, heads, heads of keys and values, d_ff, parameters.
LANGUAGE_MODELS = {
    "lm_1b": (16, 2048, 32, 8, 8192, 1.24e9),
    "lm_8b": (32, 4096, 32, 8, 14_336, 8.03e9),
}


def load(name: str) -> Config:
    arguments = {"multi30k_en_de": ":some/folder", "shakespeare_char": ":input.txt", "shakespeare_modern": ":input.txt"}
    return config_files.load(name + arguments.get(name, ""))


def parameters(config: Config) -> int:
    return count(Blueprint.of(config.model, config.tokenizer.vocab_size, config.tokenizer.vocab_size).shapes())


@pytest.mark.parametrize("name", NAMES)
def test_loads_validates_builds_and_survives_json(name):
    config = config_module.validate(load(name))
    assert parameters(config) > 0
    assert config_module.from_json(config_module.to_json(config)) == config


@pytest.mark.parametrize("name", LANGUAGE_MODELS)
def test_large_language_models_have_the_shapes_they_say(name):
    layers, d_model, heads, key_value_heads, d_ff, expected = LANGUAGE_MODELS[name]
    config = load(name)
    model = config.model
    shape = (model.num_decoder_layers, model.d_model, model.num_heads, model.key_value_heads, model.d_ff)
    assert shape == (layers, d_model, heads, key_value_heads, d_ff)
    assert parameters(config) == pytest.approx(expected, rel=0.01)


def test_the_small_language_model_is_tried_at_once():
    """Without flags it is trained on the phrasebook, of which a part already has as many pieces as it wants."""
    config = load("lm_small")
    (name,) = config.data.train
    documents = corpora.parse(f"{name}:4000", config.data).documents
    assert train_on_documents(documents, config.tokenizer).source.size == config.tokenizer.vocab_size


@pytest.mark.parametrize("name", NAMES)
def test_averages_are_of_evenly_spaced_checkpoints(name):
    """Every validation writes a checkpoint too, and so does the last step."""
    config = load(name)
    checkpoint, steps = config.checkpoint, config.training.steps
    if not checkpoint.average:
        return
    saved = sorted({*range(0, steps + 1, checkpoint.every), *range(0, steps + 1, config.evaluation.every), steps})
    averaged = saved[-checkpoint.average :]
    assert averaged == [steps - checkpoint.every * back for back in reversed(range(checkpoint.average))]


@pytest.mark.parametrize("name", NAMES)
def test_docstring_says_hardware_and_expected_score(name):
    text = ast.get_docstring(ast.parse((config_files.folder() / f"{name}.py").read_text()))
    assert "Hardware:" in text
    assert "Expected" in text


@pytest.mark.parametrize("name", PAPER)
def test_values_of_the_paper(name):
    config = load(name)
    d_model, heads, d_ff, dropout, steps, averaged, vocabulary, _ = PAPER[name]
    model, optimizer, data = config.model, config.optimizer, config.data
    assert (model.d_model, model.num_heads, model.d_ff, model.dropout) == (d_model, heads, d_ff, dropout)
    assert (model.num_encoder_layers, model.num_decoder_layers) == (6, 6)
    assert (model.key_size, model.value_size) == (64, 64)
    assert (model.norm, model.positions, model.activation, model.tied_embeddings) == (
        "post",
        "sinusoidal",
        "relu",
        "all",
    )
    assert (optimizer.name, optimizer.beta1, optimizer.beta2, optimizer.epsilon) == ("adam", 0.9, 0.98, 1e-9)
    assert (optimizer.weight_decay, optimizer.clip_norm) == (0.0, 0.0)
    assert (config.training.steps, config.training.label_smoothing) == (steps, 0.1)
    assert (config.tokenizer.vocab_size, config.tokenizer.algorithm, config.tokenizer.shared) == (
        vocabulary,
        "bpe",
        True,
    )
    assert data.batch_tokens == 25_000
    assert config.checkpoint.average == averaged
    decoding = config.decoding
    assert (decoding.beam_size, decoding.length_penalty, decoding.extra_length) == (4, 0.6, 50)


@pytest.mark.parametrize("name", PAPER)
def test_learning_rate_of_the_paper(name):
    """Section 5.3, equation 3."""
    config = load(name)
    rate = make_schedule(config.optimizer, config.model.d_model, config.training.steps)
    for step in (1, 1000, 4000, 10_000, config.training.steps):
        expected = config.model.d_model**-0.5 * min(step**-0.5, step * 4000**-1.5)
        assert float(rate(jnp.asarray(step - 1))) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", PAPER)
def test_size_of_the_paper(name):
    """Table 3's column of parameters fits no single vocabulary, so it is met within 4 million."""
    assert parameters(load(name)) == pytest.approx(PAPER[name][-1] * 1e6, abs=4e6)


@pytest.mark.parametrize(
    ("name", "language"), [("wmt14_en_de_base", "de"), ("wmt14_en_de_big", "de"), ("wmt14_en_fr_big", "fr")]
)
def test_wmt_is_developed_on_2013_and_tested_on_2014(name, language):
    data = load(name).data
    corpora = [f"tfds:wmt14_translate/{language}-en:{split}" for split in ("train", "validation", "test")]
    assert [*data.train, *data.validation, *data.test] == corpora
    assert (data.source_language, data.target_language) == ("en", language)


@pytest.mark.parametrize("name", PODS)
def test_sizes_of_those_for_pods(name):
    config = config_module.validate(load(name))
    d_model, heads, d_ff, layers, vocabulary, size, chips = PODS[name]
    model = config.model
    assert (model.d_model, model.num_heads, model.d_ff) == (d_model, heads, d_ff)
    assert model.num_encoder_layers == model.num_decoder_layers == layers
    assert config.tokenizer.vocab_size == vocabulary
    assert parameters(config) == pytest.approx(size, rel=0.003)
    assert config.data.rows_multiple_of % (chips * (config.training.accumulate or 1)) == 0
    text = ast.get_docstring(ast.parse((config_files.folder() / f"{name}.py").read_text()))
    assert "NOT " in text and "paper" in text, "a run that is not the paper's says so"


def test_a_saved_config_may_hold_settings_that_did_nothing():
    """As earlier versions wrote them; of what does something nothing is lost."""
    saved = config_module.from_json('{"model": {"max_length": 128, "rotary_base": 5.0}}')
    assert saved.model == ModelConfig()
    saved = config_module.from_json('{"model": {"positions": "learned", "max_length": 300}}')
    assert saved.model.max_length == 300

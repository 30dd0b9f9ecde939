"""Preparation for a language model as a whole: tokens, tokenizers, what is scored, and what the cache keeps apart."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from sentences import make_pairs, write_sides

from transformer.config import Config, ConfigError, put, validate
from transformer.data import document_shards, documents, forms, tokenizer_training
from transformer.data.batches import WeightedStore, evaluation_batches, training_batches
from transformer.data.errors import DataError
from transformer.data.prepare import prepare

PAIRS = make_pairs(200)
TEXT = "".join(f"{source}\n\t{target} \n\n" for source, target in PAIRS)
SPLIT = int(len(TEXT) * 0.9)


@pytest.fixture
def config(tmp_path) -> Config:
    """A language model of one small file, of which a tenth is held out."""
    (tmp_path / "a.txt").write_bytes(TEXT.encode())
    config = Config()
    config.model.architecture = "language_model"
    config.evaluation.metric = "loss"
    config.data.train = (f"text:{tmp_path}/a.txt[:90%]",)
    config.data.validation = (f"text:{tmp_path}/a.txt[90%:]",)
    config.data.test = ()
    config.data.cache_dir = str(tmp_path / "cache")
    config.data.pack_length = 32
    config.data.batch_tokens = 256
    config.tokenizer.algorithm = "characters"
    config.tokenizer.vocab_size = 400
    return validate(config)


def text_of(made, store) -> list[str]:
    return made.tokenizers.target.decode([store.documents[number] for number in range(len(store))])


@pytest.mark.parametrize("algorithm", ["characters", "bytes", "bpe", "unigram"])
def test_the_text_is_there_to_the_character(config, algorithm):
    config.tokenizer.algorithm, config.tokenizer.byte_fallback = algorithm, True
    made = prepare(config)
    assert text_of(made, made.train[0].store) == [TEXT[:SPLIT]]
    held_out = made.validation
    assert text_of(made, held_out.store) == held_out.targets == [TEXT[SPLIT:]]
    assert held_out.sources == [""]
    assert held_out.target_bytes == len(TEXT[SPLIT:].encode())
    assert held_out.unknown_tokens == 0
    assert made.tokenizers.shared


def test_what_is_said_of_it(config):
    made = prepare(config)
    lines = made.summary().splitlines()
    assert lines[0] == f"vocabulary: {made.tokenizers.target.size} pieces (shared)"
    assert lines[1].endswith(f"a.txt[:90%]: kept 1 of 1 documents; {SPLIT:,} tokens")
    scored = len(TEXT) - SPLIT
    assert lines[2].endswith(f"{scored:,} tokens of {made.validation.target_bytes:,} bytes, 0 of them unknown")


def test_unknown_characters_are_counted(config, tmp_path):
    (tmp_path / "b.txt").write_text("old ☃ house ☃")
    config.data.validation = (f"text:{tmp_path}/b.txt",)
    assert prepare(config).validation.unknown_tokens == 2
    config.tokenizer.byte_fallback = True
    assert prepare(config).validation.unknown_tokens == 0


def test_prompts_are_no_part_of_what_bytes_are_counted_of(config, tmp_path):
    config.data.validation = (write_sides(tmp_path, "validation", [("old ☃", "house"), ("tree", "old ☃")]),)
    made = prepare(config)
    assert made.validation.unknown_tokens == 1
    assert made.summary().endswith("; 10 tokens of 12 bytes, 1 of them unknown")


def test_bits_per_byte_of_a_model_that_knows_nothing(config):
    """As a user of the contract: log2 of the vocabulary for every byte, and the end of the document."""
    config.tokenizer.algorithm = "bytes"
    held_out = prepare(config).validation
    batches = evaluation_batches([held_out.store], config.data)
    learned = sum(
        int(((batch["target_segments"] > 0) & (batch["target_prompt"] == 0)).sum())
        for batch in map(batches.batch, range(len(batches)))
    )
    bits_per_byte = learned * math.log(260) / math.log(2) / held_out.target_bytes
    assert bits_per_byte == pytest.approx(math.log2(260) * (1 + 1 / held_out.target_bytes))


def test_a_prefix_mask_wants_prompts(config, tmp_path):
    """Without any it would be trained as a causal one, and generate with one it has never seen."""
    config.model.mask = "prefix"
    with pytest.raises(ConfigError, match="model.mask = 'prefix': no text .* has a prompt.* Set model.mask=causal"):
        prepare(validate(config))
    config.data.train += (write_sides(tmp_path, "train", PAIRS),)
    assert any(training.store.prompt_lengths.any() for training in prepare(validate(config)).train)


def test_pairs_become_prompts_and_texts(config, tmp_path):
    config.data.train = (write_sides(tmp_path, "train", PAIRS),)
    config.data.validation = (write_sides(tmp_path, "validation", [*PAIRS[:5], ("x", "")]),)
    config.data.test = ("phrasebook:test:7",)
    made = prepare(config)
    store = made.train[0].store
    assert text_of(made, store) == [f"{source}\n{target}" for source, target in PAIRS]
    assert store.prompt_lengths.tolist() == [len(source) + 1 for source, _ in PAIRS]
    assert made.validation.sources[:5] == [f"{source}\n" for source, _ in PAIRS[:5]]
    assert made.validation.targets == [*(target for _, target in PAIRS[:5]), ""]
    # Its loss is of what has a text.
    assert len(made.validation.store) == 5 and made.validation.report.empty == 1
    assert made.validation.target_bytes == sum(len(target.encode()) for _, target in PAIRS[:5])
    assert made.test[0].name == "phrasebook:test:7" and len(made.test[0].store) == 7


def test_nothing_but_the_phrasebook_is_needed(config):
    config.data.train, config.data.validation = ("phrasebook_text:train:300",), ("phrasebook_text:validation",)
    made = prepare(config)
    batches = training_batches([WeightedStore(made.train[0].store)], config.data, seed=0)
    assert batches.statistics.documents == 300
    assert batches.batch(0)["target_prompt"].sum() == 0


def test_a_document_that_comes_in_parts_is_the_same(config, monkeypatch):
    config.data.deduplicate = True
    config.tokenizer.algorithm, config.tokenizer.byte_fallback = "bpe", True
    whole = prepare(config)
    monkeypatch.setattr(documents, "PART", 500)
    monkeypatch.setattr(document_shards, "SHARD_CHARACTERS", 900)
    config.data.cache_dir += "2"
    in_parts = prepare(config)
    assert in_parts.tokenizers.to_files() == whole.tokenizers.to_files()
    stores = [made.train[0].store for made in (whole, in_parts)]
    np.testing.assert_array_equal(stores[0].documents.tokens, stores[1].documents.tokens)
    assert stores[1].documents.offsets.tolist() == stores[0].documents.offsets.tolist()
    assert in_parts.validation.targets == whole.validation.targets


def test_long_documents_are_kept_whatever_the_longest_sentence(config):
    config.data.max_length = 8
    made = prepare(config)
    assert made.train[0].report.kept == 1 and made.train[0].report.too_long == 0


def test_second_call_does_nothing_again(config, monkeypatch):
    first = prepare(config)
    monkeypatch.setattr(document_shards, "tokenise_documents", lambda *_: pytest.fail("tokenised again"))
    monkeypatch.setattr(tokenizer_training, "train_on_documents", lambda *_: pytest.fail("trained again"))
    second = prepare(config)
    np.testing.assert_array_equal(first.train[0].store.documents.tokens, second.train[0].store.documents.tokens)


def test_the_same_text_for_both_models_is_cached_twice(config, tmp_path):
    config.data.train = config.data.validation = (write_sides(tmp_path, "train", PAIRS),)
    documents_of, pairs_of = prepare(config), prepare(_translating(config))
    assert documents_of.tokenizers.to_files() != pairs_of.tokenizers.to_files()  # only one knows the line end
    assert len(documents_of.train[0].store.documents.tokens) > len(pairs_of.train[0].store.target.tokens)
    tokenizers = documents_of.tokenizers
    assert len(prepare(_translating(config), tokenizers=tokenizers).train[0].store.source) == len(PAIRS)


@pytest.mark.parametrize(("field", "value"), [("max_length_ratio", 1.5), ("deduplicate", True)])
def test_settings_that_matter_make_another_entry(config, field, value):
    prepare(config)
    before = {path.name for path in Path(config.data.cache_dir, "tokens").iterdir()}
    setattr(config.data, field, value)
    prepare(config)
    assert {path.name for path in Path(config.data.cache_dir, "tokens").iterdir()} > before


def test_settings_that_do_not_matter_make_none(config):
    prepare(config)
    before = sorted(Path(config.data.cache_dir, "tokens").iterdir())
    config.data.max_length, config.data.pack_length, config.data.batching = 9, 64, "packing"
    prepare(config)
    assert sorted(Path(config.data.cache_dir, "tokens").iterdir()) == before


def _translating(config: Config) -> Config:
    return dataclasses.replace(config, model=dataclasses.replace(config.model, architecture="encoder_decoder"))


def test_either_model_has_its_form(config):
    assert isinstance(forms.of_config(config), forms.DocumentForm)
    assert isinstance(forms.of_config(_translating(config)), forms.PairForm)


# --- bad input, each with its message ---


def refusal(config: Config, error: type = DataError) -> str:
    with pytest.raises(error) as caught:
        prepare(validate(config))
    return str(caught.value)


@pytest.mark.parametrize("field", ["train", "validation", "test"])
def test_text_alone_for_a_translator(config, tmp_path, field):
    text = getattr(config.data, field) or config.data.validation
    config = _translating(config)
    config.data.batch_tokens = 1024
    config.data.train = config.data.validation = (write_sides(tmp_path, "pairs", PAIRS),)
    setattr(config.data, field, text)
    message = refusal(config)
    assert "is text alone, and a translator learns from pairs" in message and "model.architecture" in message
    assert not Path(config.data.cache_dir, "tokens").exists() or not list(
        Path(config.data.cache_dir, "tokens").iterdir()
    )


@pytest.mark.parametrize("field", ["train", "validation"])
def test_nothing_left(config, tmp_path, field):
    (tmp_path / "empty.txt").write_text("\n\n\n")
    setattr(config.data, field, (f"text:lines:{tmp_path}/empty.txt",))
    config.tokenizer.algorithm = "bytes"
    assert "kept 0 of 3 documents; dropped: 3 empty. Check that the files were written" in refusal(config)


def test_only_duplicates_left(config):
    config.data.deduplicate = True
    config.data.train *= 2
    assert "corpora before it hold the same documents" in refusal(config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokenizer.shared": False}, "config.tokenizer.shared = False: makes two vocabularies"),
        (
            {"tokenizer.model": "a.model", "tokenizer.target_model": "b.model"},
            "config.tokenizer.target_model = 'b.model': makes two vocabularies, and a language model has one. Leave it",
        ),
        ({"tokenizer.algorithm": "bpe", "tokenizer.vocab_size": 5}, "Set it above 5"),
        (
            {"data.batch_tokens": 100},
            "data.batch_tokens = 100: holds fewer than .* 8 rows of 32 tokens. Raise it to 256",
        ),
        ({"data.lengths_multiple_of": 5}, "data.pack_length = 32: is no multiple of data.lengths_multiple_of = 5"),
        (
            {"model.positions": "learned", "model.max_length": 16},
            "model.max_length = 16: learned positions end before data.pack_length = 32",
        ),
    ],
)
def test_settings_that_cannot_be(config, changes, message):
    for name, value in changes.items():
        config = put(config, name, value)
    with pytest.raises(ConfigError, match=message):
        validate(config)


def test_rows_need_not_hold_the_longest_sentence(config):
    config.data.max_length, config.model.positions, config.model.max_length = 1000, "learned", 32
    assert config.data.max_length > config.data.pack_length
    assert validate(config) is config


@pytest.mark.parametrize(
    ("changes", "size"),
    [
        ({"algorithm": "bytes"}, 260),
        ({"algorithm": "bytes", "size_multiple_of": 64}, 320),
        ({"algorithm": "characters"}, None),
        ({"algorithm": "bpe"}, 400),
        ({"model": "a.model"}, None),
    ],
)
def test_size_that_the_config_tells(config, changes, size):
    tokenizer = dataclasses.replace(config.tokenizer, **changes)
    assert tokenizer.known_size == size
    if size is not None:
        config.tokenizer = dataclasses.replace(tokenizer, byte_fallback=True)
        assert prepare(config).tokenizers.target.size == size

"""Starting from another run: what is taken over under which name, what is refused, and what becomes of embeddings."""

import dataclasses
import io
import re
import types

import jax
import numpy as np
import pytest
import sentencepiece
import tiny_run
from tiny_model import blueprint_of, named, tiny

from transformer import sharding
from transformer.config import Config, ConfigError, MeshConfig, TransferConfig
from transformer.data.character_tokenizer import describe
from transformer.data.tokenizer import Tokenizers, from_bytes
from transformer.data.tokenizer_training import train as train_tokenizers
from transformer.model.blueprint import Blueprint
from transformer.training import leaves
from transformer.training.new_vocabulary import Correspondence
from transformer.training.origin import Origin
from transformer.training.run import Run
from transformer.training.saved_run import choose
from transformer.training.taken_over import Taken, warn_of_what_stays
from transformer.training.trainable import Trainable
from transformer.training.workdir import Workdir


def plan(old: dict, new: dict, **transfer) -> dict[str, Taken]:
    """By the shapes of two models alone."""
    saved = types.SimpleNamespace(shapes=lambda: leaves.named(blueprint_of(tiny(**old)).shapes()), path="old/5")
    return Origin(TransferConfig(init_from="old", **transfer), saved, None).plan(blueprint_of(tiny(**new)))


LANGUAGE_MODEL = {"architecture": "language_model", "norm": "pre"}
PRE = {"norm": "pre"}


# --- which parameter from which ---


def test_all_parameters_of_the_same_model_are_taken_over():
    names = leaves.named(blueprint_of(tiny()).shapes())
    assert plan({}, {}) == {name: Taken(name, None) for name in names}


def test_a_decoder_becomes_a_language_model():
    found = plan(PRE, LANGUAGE_MODEL, init_only=("*",))
    assert set(found) == set(leaves.named(blueprint_of(tiny(**LANGUAGE_MODEL)).shapes()))
    assert all(taken == Taken(name, None) for name, taken in found.items())


def test_a_language_model_becomes_encoder_and_decoder():
    rename = ("encoder*=decoder*", "cross_attention=self_attention", "source_embedding=target_embedding")
    fresh = ("cross_attention_residual", "output/table")
    new = PRE | {"tied_embeddings": "none"}
    found = plan(LANGUAGE_MODEL, new, init_rename=rename, init_fresh=fresh)
    everything = set(leaves.named(blueprint_of(tiny(**new)).shapes()))
    assert {name for name in everything - set(found) if "cross_attention_residual" not in name} == {"output/table"}
    assert found["encoder/layers/self_attention/query"].source == "decoder/layers/self_attention/query"
    assert found["decoder/layers/cross_attention/key"].source == "decoder/layers/self_attention/key"
    assert found["encoder_norm/scale"].source == "decoder_norm/scale"
    assert found["source_embedding/table"].source == found["target_embedding/table"].source == "target_embedding/table"


def test_some_layers():
    deeper = {"num_encoder_layers": 3}
    found = plan({}, deeper, init_fresh=("encoder:2",))
    assert found["encoder/layers/self_attention/query"] == Taken("encoder/layers/self_attention/query", (0, 1))
    assert found["decoder/layers/self_attention/query"].layers is None
    assert {taken.layers for taken in plan(deeper, {}, init_only=("encoder",)).values()} == {(0, 1)}
    assert {taken.layers for taken in plan({}, {}, init_only=("encoder:1",)).values()} == {(1,)}


def test_what_is_fresh_here_may_be_anything_there():
    wider = {"d_ff": 32}
    assert not [name for name in plan({}, wider, init_fresh=("feed_forward",)) if "feed_forward/" in name]
    assert plan({"num_encoder_layers": 3}, {}, init_fresh=("encoder",))


def test_the_size_of_the_vocabulary_does_not_matter():
    saved = types.SimpleNamespace(shapes=lambda: leaves.named(blueprint_of(tiny()).shapes()), path="old/5")
    assert Origin(TransferConfig(init_from="old"), saved, None).plan(Blueprint.of(tiny(), 1, 1))


@pytest.mark.parametrize(
    ("old", "new", "transfer", "lines"),
    [
        ({}, {"d_ff": 32}, {}, [r"encoder/layers/feed_forward/inner +\[2, 16, 32\] +is \[2, 16, 24\] there"]),
        (LANGUAGE_MODEL, PRE, {}, [r"encoder/layers/self_attention/query .* is not there", "encoder_norm/scale"]),
        (PRE, LANGUAGE_MODEL, {}, [r"encoder_norm/scale +\[16\] +is there, but nothing here takes over"]),
        ({}, {"num_encoder_layers": 3}, {}, [r"encoder/layers/self_attention/query .* has no layer 2 there"]),
        (
            {"num_encoder_layers": 3},
            {},
            {},
            [r"encoder/layers/self_attention/query .* is there, but layers \[2\] nothing here takes over"],
        ),
        (
            {},
            {},
            {"init_rename": ("decoder=stack",)},
            [r"self_attention/query .* \(stack/layers/self_attention/query\)"],
        ),
        ({}, {"d_model": 32}, {}, [r"target_embedding/table +\[40, 32\] +is \[40, 16\] there"]),
    ],
)
def test_what_does_not_fit_is_refused_with_a_table(old, new, transfer, lines):
    with pytest.raises(ConfigError, match="config.transfer.init_from = 'old': not all .* old/5") as refusal:
        plan(old, new, **transfer)
    assert "init_fresh" in str(refusal.value)
    for line in lines:
        refusal.match(f"\n  .*{line}")


@pytest.mark.parametrize(
    ("transfer", "message"),
    [
        ({"init_from": "nowhere"}, "transfer.init_from = 'nowhere': .*holds no checkpoint.* Name a trained run's"),
        ({"init_from": "."}, "transfer.init_from = '.': .*holds no checkpoint"),
        ({"init_checkpoint": "7"}, r"transfer.init_checkpoint = '7': .*has no step 7. It has \[48, 60, 72\]"),
        ({"init_checkpoint": "worst"}, "transfer.init_checkpoint = 'worst': "),
        ({"init_only": ("endocer",)}, "transfer.init_only = 'endocer': .* Did you mean encoder"),
        ({"init_fresh": ("encoder:1",)}, "transfer.init_fresh = 'encoder:1': .* has no layer 1"),
        ({"init_rename": ("encoder",)}, "transfer.init_rename = 'encoder': is no pair"),
        (
            {"init_rename": ("cros_attention=self_attention",)},
            "transfer.init_rename = 'cros_attention=self_attention': no parameter .* Did you mean cross_attention",
        ),
    ],
)
def test_what_is_not_there_is_told_before_the_data_is_read(tmp_path, monkeypatch, transfer, message):
    monkeypatch.chdir(tmp_path)
    config = tiny_run.config(tmp_path)
    config.data.train = ("lines:nowhere.en:nowhere.de",)
    config.transfer = TransferConfig(**{"init_from": str(tiny_run.trained())} | transfer)
    with tiny_run.on_devices(1), pytest.raises(ConfigError, match=message):
        Run.open(config, Workdir(tmp_path / "workdir"))


# --- what a run starts with ---


def started(config: Config, workdir, devices: int = 1) -> tuple[Run, dict[str, np.ndarray]]:
    """A run and the parameters before its first step."""
    with tiny_run.on_devices(devices):
        run = Run.open(config, Workdir(workdir))
        with jax.set_mesh(run.mesh), run.open_checkpoints() as checkpoints:
            return run, named(jax.device_get(run.start(checkpoints).params))


@pytest.mark.parametrize("devices", [1, 8])
def test_a_run_starts_with_the_parameters_and_the_vocabulary_of_another(tmp_path, devices):
    config = tiny_run.config(tmp_path)
    config.transfer.init_from = str(tiny_run.trained())
    config.tokenizer.vocab_size = 90  # unused
    if devices == 8:
        config.mesh = MeshConfig(data=2, fsdp=2, tensor=2)
    run, params = started(config, tmp_path / "workdir", devices)
    saved = choose(Workdir(tiny_run.trained()))
    expected = named(saved.restore_on_host())
    assert params.keys() == expected.keys()
    for name, array in params.items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)
    assert run.prepared.tokenizers.to_files() == saved.metadata.tokenizer_files


def test_a_new_vocabulary_keeps_the_embeddings_of_shared_pieces(tmp_path, caplog):
    config = tiny_run.config(tmp_path)
    config.transfer.init_from, config.transfer.vocabulary = str(tiny_run.trained()), "new"
    config.tokenizer.vocab_size = 120
    run, params = started(config, tmp_path / "workdir")
    saved = choose(Workdir(tiny_run.trained()))
    old = Tokenizers.from_files(saved.metadata.tokenizer_files).source
    new, before = run.prepared.tokenizers.source, named(saved.restore_on_host())["target_embedding/table"]
    assert new.size == 120 != old.size
    ids = {piece: number for number, piece in enumerate(old.pieces(range(old.size)))}
    shared = [number for number, piece in enumerate(new.pieces(range(120))) if piece in ids]
    assert len(shared) > 60
    for number, piece in zip(shared, new.pieces(shared), strict=True):
        np.testing.assert_array_equal(params["target_embedding/table"][number], before[ids[piece]])
    assert f"target_embedding/table: {len(shared)} of 120 pieces are the same" in caplog.text


def test_what_is_not_taken_over_is_as_in_a_new_run(tmp_path):
    config = tiny_run.config(tmp_path)
    config.model.num_encoder_layers = 2
    fresh = started(config, tmp_path / "fresh")[1]
    transfer = {"init_from": str(tiny_run.trained()), "init_fresh": ("encoder:1", "decoder/*/feed_forward")}
    params = started(dataclasses.replace(config, transfer=TransferConfig(**transfer)), tmp_path / "workdir")[1]
    old = named(choose(Workdir(tiny_run.trained())).restore_on_host())
    for name, array in params.items():
        if name.startswith("encoder/"):
            expected = np.concatenate([old[name], fresh[name][1:]])
        else:
            expected = fresh[name] if name.startswith("decoder/layers/feed_forward/") else old[name]
        np.testing.assert_array_equal(array, expected, err_msg=name)


STAYING = "stay as they are initialised: "


@pytest.mark.parametrize(
    ("transfer", "staying"),
    [
        ({}, None),
        ({"lora_rank": 2}, None),
        ({"lora_rank": 2, "vocabulary": "new"}, "target_embedding/table."),
        ({"train_only": ("target_embedding",), "vocabulary": "new"}, None),
        ({"init_fresh": ("target_embedding",), "freeze": ("target_embedding",)}, "target_embedding/table."),
        ({"init_fresh": ("inner",), "lora_rank": 2, "train_only": ("decoder/*/*/inner",)}, "encoder/.*/inner."),
    ],
)
def test_what_stays_as_chance_made_it_is_named(tmp_path, caplog, transfer, staying):
    config = tiny_run.config(tmp_path)
    config.transfer = TransferConfig(init_from=str(tiny_run.trained()), **transfer)
    if config.transfer.vocabulary == "new":
        config.tokenizer.vocab_size = 120
    with tiny_run.on_devices(1):
        Run.open(config, Workdir(tmp_path / "workdir"))
    if staying is None:
        assert STAYING not in caplog.text
    else:
        assert re.search(f"{STAYING}{staying}$", caplog.text, re.MULTILINE)


def test_of_a_stack_layers_that_are_fresh_and_frozen_are_named(caplog):
    trainable = Trainable.of(TransferConfig(freeze=("encoder:0", "decoder:1")), blueprint_of(tiny()))
    warn_of_what_stays(trainable, plan({}, {}, init_fresh=("layers:1",)))
    named_there = caplog.text.rpartition(STAYING)[2]
    assert "decoder/layers/feed_forward/inner," in named_there
    assert "encoder" not in named_there and "embedding" not in named_there


def test_settings_that_no_shape_shows_are_named(tmp_path, caplog):
    config = tiny_run.config(tmp_path)
    config.transfer.init_from = str(tiny_run.trained())
    config.model.activation, config.model.dropout, config.model.d_k = "gelu", 0.5, 8
    with tiny_run.on_devices(1):
        Run.open(config, Workdir(tmp_path / "workdir"))
    warnings = [record.getMessage() for record in caplog.records if "compute something else" in record.getMessage()]
    assert len(warnings) == 1
    assert warnings[0].startswith("config.model.activation is 'gelu', in /")
    assert "it was 'relu'" in warnings[0]


# --- vocabularies ---


@pytest.fixture(scope="module")
def vocabularies() -> tuple:
    """An old and a new tokenizer, of overlapping text."""
    config = Config().tokenizer
    found = []
    for size, texts in ((24, ["the cat sat", "a hat that sat"]), (36, ["the cat naps", "that nap saps a chat"])):
        pairs = [(text, text) for text in texts] * 10
        tokenizer = dataclasses.replace(config, vocab_size=size)
        found.append(train_tokenizers(lambda pairs=pairs: iter(pairs), len(pairs), tokenizer).source)
    return tuple(found)


def test_pieces_are_matched_by_their_spelling_or_written_with_old_ones(vocabularies):
    old, new = vocabularies
    found = Correspondence.of(old, new)
    old_pieces, new_pieces = old.pieces(range(old.size)), new.pieces(range(new.size))
    for number, same in enumerate(found.same_V):
        assert old_pieces[same] == new_pieces[number] if same >= 0 else new_pieces[number] not in old_pieces
    assert set(found.parts) == set(np.flatnonzero(found.same_V < 0))
    assert found.same_V[:4].tolist() == [0, 1, 2, 3]
    written = {new_pieces[number]: old.pieces(parts) for number, parts in found.parts.items()}
    known = set("".join(old_pieces[4:]))
    whole = {piece: "".join(parts) for piece, parts in written.items() if set(piece) <= known}
    assert whole
    assert all(text.lstrip("\u2581") == piece.lstrip("\u2581") for piece, text in whole.items())
    assert written["p"] == []  # a letter that the old one does not know; not the space before it


def test_special_pieces_are_the_same_whatever_they_are_called(vocabularies):
    content = io.BytesIO()
    names = {"pad_piece": "[PAD]", "bos_piece": "[CLS]", "eos_piece": "[SEP]", "unk_piece": "[UNK]"}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["the cat sat", "a hat that sat"] * 10),
        **names,
        **{"model_writer": content, "vocab_size": 12, "pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3},
    )
    other = from_bytes(content.getvalue())
    assert other.pieces()[:4] == list(names.values())
    assert Correspondence.of(vocabularies[0], other).same_V[:4].tolist() == [0, 1, 2, 3]
    assert Correspondence.of(other, vocabularies[0]).same_V[:4].tolist() == [0, 1, 2, 3]


def test_characters_and_pieces_share_letters_and_the_space(vocabularies):
    characters, pieces = from_bytes(describe(["the cat"], with_bytes=False)), vocabularies[0]
    found = Correspondence.of(pieces, characters)
    for number, letter in enumerate(characters.pieces()):
        assert pieces.pieces()[found.same_V[number]] == letter.replace(" ", "\u2581")
    back = Correspondence.of(characters, pieces)
    assert back.same_V[pieces.pieces().index("\u2581")] == characters.pieces().index(" ")
    assert back.parts[pieces.pieces().index("\u2581the")] == characters.encode(["the"])[0]


def test_embeddings_of_new_pieces(vocabularies):
    old, new = vocabularies
    found = Correspondence.of(old, new)
    rng = np.random.default_rng(0)
    old_WD, fresh_VD = rng.standard_normal((old.size, 3)), rng.standard_normal((new.size, 3))
    by_parts, by_chance = (found.table(old_WD, fresh_VD, choice) for choice in ("parts", "fresh"))
    for number in range(new.size):
        if found.same_V[number] >= 0:
            np.testing.assert_array_equal(by_parts[number], old_WD[found.same_V[number]])
            np.testing.assert_array_equal(by_chance[number], old_WD[found.same_V[number]])
        else:
            parts = found.parts[number] or list(range(old.size))
            np.testing.assert_allclose(by_parts[number], np.mean([old_WD[part] for part in parts], axis=0))
            np.testing.assert_array_equal(by_chance[number], fresh_VD[number])


def test_two_vocabularies_where_the_model_wants_one(vocabularies):
    two = Tokenizers(*vocabularies)
    origin = Origin(TransferConfig(init_from="old"), None, two)
    with pytest.raises(ConfigError, match="model.tied_embeddings = 'all': needs one vocabulary, .* has two.*=output"):
        origin.vocabulary(tiny())
    assert origin.vocabulary(tiny(tied_embeddings="none")) is two
    assert origin.vocabulary(tiny(architecture="language_model")) == Tokenizers(two.target, two.target)
    assert Origin(TransferConfig(init_from="old", vocabulary="new"), None, two).vocabulary(tiny()) is None


def test_a_language_model_takes_the_decoder_on_a_mesh():
    """Of a trained encoder-decoder, whose output is then the same wherever only the decoder's parameters count."""
    saved = choose(Workdir(tiny_run.trained()))
    origin = Origin.open(TransferConfig(init_from=str(tiny_run.trained()), init_only=("*",)))
    model = dataclasses.replace(saved.config.model, architecture="language_model")
    size = origin.tokenizers.target.size
    blueprint = Blueprint.of(model, size, size)
    mesh = sharding.make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    with jax.set_mesh(mesh):
        params = origin.take_over(blueprint.init(0, model, mesh), blueprint, origin.vocabulary(model))
    wanted, expected = named(blueprint.shardings(mesh)), named(saved.restore_on_host())
    for name, array in named(params).items():
        assert array.sharding.is_equivalent_to(wanted[name], array.ndim)
        np.testing.assert_array_equal(array, expected[name])

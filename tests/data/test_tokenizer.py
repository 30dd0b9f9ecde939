"""Tokenizers: round trips, special ids, and models that cannot be used."""

import io

import numpy as np
import pytest
import sentencepiece
from sentences import make_pairs

from transformer.config import ConfigError, TokenizerConfig
from transformer.data.tokenizer import BOS, EOS, PAD, UNK, Tokenizer, Tokenizers, from_bytes, read_given
from transformer.data.tokenizer_training import train

PAIRS = make_pairs(300)


def trained(**changes) -> Tokenizers:
    config = TokenizerConfig(**{"vocab_size": 80, "character_coverage": 1.0} | changes)
    return train(lambda: iter(PAIRS), len(PAIRS), config)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return trained().source


@pytest.mark.parametrize("algorithm", ["bpe", "unigram"])
def test_round_trip(algorithm):
    tokenizer = trained(algorithm=algorithm).target
    texts = [target for _, target in PAIRS]
    ids = tokenizer.encode(texts)
    assert tokenizer.decode(ids) == texts
    assert tokenizer.decode([np.array(sentence, np.uint16) for sentence in ids]) == texts
    assert all(max(PAD, BOS, EOS, UNK) < token < tokenizer.size for sentence in ids for token in sentence)


def test_german_quotes_dashes_and_letters_survive():
    texts = ["„Straße“ ‚grün‘ – »Ä« «Ö» ẞ’s “ü”"]
    pairs = [*PAIRS, *zip(texts, texts, strict=True)]
    tokenizer = train(lambda: iter(pairs), len(pairs), TokenizerConfig(vocab_size=80, character_coverage=1.0)).source
    assert tokenizer.decode(tokenizer.encode(texts)) == texts


def test_special_ids_end_or_leave_the_text(tokenizer):
    ids = tokenizer.encode(["old house"])[0]
    decorated = [[BOS, *ids, EOS, *ids], [PAD, *ids, PAD, PAD], [EOS, *ids], []]
    assert tokenizer.decode(decorated) == ["old house", "old house", "", ""]


def test_special_ids_cannot_be_written_as_text(tokenizer):
    assert not {PAD, BOS, EOS} & set(tokenizer.encode(["<s> house </s> <pad>"])[0])


def test_unknown_characters(tokenizer):
    assert UNK in tokenizer.encode(["日本"])[0]
    assert UNK not in trained(byte_fallback=True, vocab_size=400).source.encode(["日本"])[0]


def test_line_ends_cannot_be_produced():
    tokenizer = trained(byte_fallback=True, vocab_size=400).source
    line_ends = [tokenizer._processor.piece_to_id(f"<0x0{digit}>") for digit in "AD"]
    house = tokenizer.encode(["house"])[0]
    assert tokenizer.decode_lines([[*house, *line_ends, *house]])[0] == "house   house"


@pytest.mark.parametrize("changes", [{}, {"byte_fallback": True, "vocab_size": 400}, {"algorithm": "unigram"}])
def test_decoding_is_that_of_sentencepiece(changes):
    tokenizer = trained(**changes).source
    rng = np.random.default_rng(0)
    # Of bytes that are no text it makes other replacements.
    ordinary = [token for token in range(UNK + 1, tokenizer.size) if not tokenizer._processor.is_byte(token)]
    for _ in range(200):
        ids = rng.choice(ordinary, rng.integers(0, 9)).tolist()
        assert tokenizer.decode([ids]) == [tokenizer._processor.decode(ids)]
    for text in ("日本 ½", "  old ", "\u200b"):
        ids = tokenizer.encode([text])[0]
        assert tokenizer.decode([ids])[0] == tokenizer._processor.decode(ids).removeprefix(" ")


@pytest.mark.parametrize("removed", [True, False])
@pytest.mark.parametrize("prefix", [True, False])
def test_spaces_at_the_beginning_are_treated_as_by_sentencepiece(removed, prefix):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(source for source, _ in PAIRS),
        model_writer=model,
        vocab_size=60,
        minloglevel=2,
        remove_extra_whitespaces=removed,
        add_dummy_prefix=prefix,
        **{"pad_id": PAD, "bos_id": BOS, "eos_id": EOS, "unk_id": UNK},
    )
    tokenizer = from_bytes(model.getvalue())
    space = tokenizer.pieces().index("\u2581")
    (word,) = {token for token, piece in enumerate(tokenizer.pieces()) if piece == "s"}
    for ids in ([space, word, space], [space, space, word], [word, space, space, word], [space]):
        assert tokenizer.decode([ids]) == [tokenizer._processor.decode(ids)]


def test_text_comes_token_by_token():
    tokenizer = trained(byte_fallback=True, vocab_size=400).source
    for text in ("old Haus 日本", "日", ""):
        ids, stream = tokenizer.encode([text])[0], tokenizer.stream()
        said = [stream.add(token) for token in [*ids, EOS, *ids]]
        assert "".join(said) + stream.end() == tokenizer.decode([ids])[0] == text
        assert "\ufffd" not in "".join(said)


def test_pieces(tokenizer):
    assert tokenizer.pieces() == tokenizer.pieces(range(tokenizer.size))
    pieces = tokenizer.pieces(np.array(tokenizer.encode(["old house"])[0]))
    assert "".join(pieces) == "\u2581old\u2581house"
    assert tokenizer.pieces([PAD, BOS, EOS, UNK]) == ["<pad>", "<s>", "</s>", "<unk>"]


def test_smallest_type(tokenizer):
    assert tokenizer.dtype == np.uint16


@pytest.mark.parametrize("shared", [True, False])
def test_files_round_trip(shared):
    tokenizers = trained(shared=shared)
    files = tokenizers.to_files()
    again = Tokenizers.from_files(files)
    assert set(files) == ({"source.model"} if shared else {"source.model", "target.model"})
    assert tokenizers.shared == again.shared == (again.source is again.target) == shared
    assert again.to_files() == files
    assert again.target.encode(["Straße"]) == tokenizers.target.encode(["Straße"])


def test_given_models(tmp_path):
    files = trained(shared=False).to_files()
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    source, target = (str(tmp_path / name) for name in ("source.model", "target.model"))
    assert read_given(TokenizerConfig(model=source)).shared
    assert read_given(TokenizerConfig(model=source, target_model=target)).to_files() == files
    (tmp_path / "bytes.json").write_bytes(trained(algorithm="bytes").source.model_bytes)
    assert read_given(TokenizerConfig(model=str(tmp_path / "bytes.json"))).target.size == 260


# --- bad input, each with its message ---


def refusal(**given) -> str:
    with pytest.raises(ConfigError) as caught:
        read_given(TokenizerConfig(**given))
    return str(caught.value)


def test_given_model_that_is_missing(tmp_path):
    message = refusal(model=str(tmp_path / "no.model"))
    assert "config.tokenizer.model" in message and "no.model" in message and "No such file" in message


@pytest.mark.parametrize("damage", [lambda model: b"", lambda model: b"text, no model", lambda model: model[:-300]])
def test_given_model_that_is_damaged(tmp_path, tokenizer, damage):
    good, bad = tmp_path / "good.model", tmp_path / "bad.model"
    good.write_bytes(tokenizer.model_bytes)
    bad.write_bytes(damage(tokenizer.model_bytes))
    message = refusal(model=str(good), target_model=str(bad))
    assert f"config.tokenizer.target_model = {str(bad)!r}: is not a SentencePiece model, or a damaged one" in message


def test_given_model_with_other_special_ids(tmp_path):
    # SentencePiece's own defaults: no padding, unknown first.
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(source for source, _ in PAIRS), model_writer=model, vocab_size=60, minloglevel=2
    )
    path = tmp_path / "other.model"
    path.write_bytes(model.getvalue())
    message = refusal(model=str(path))
    assert "has the ids pad -1, bos 1, eos 2, unk 0 instead of 0, 1, 2, 3" in message and "--pad_id=0" in message

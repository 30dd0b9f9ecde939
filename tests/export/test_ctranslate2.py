"""What is exported gives in CTranslate2 the numbers that the model gives here, and what would not is refused.

Letters: B sentences, T target length, V vocabulary.
"""

import dataclasses
import functools
import io
import sys
from pathlib import Path

import ctranslate2
import exported_run
import jax
import numpy as np
import pytest
import sentencepiece
import tiny_model
import tiny_run

from transformer.config import Config, ConfigError, DecodingConfig, ModelConfig, TokenizerConfig
from transformer.data import tokenizer_training
from transformer.data.sentencepiece_tokenizer import SentencePieceTokenizer
from transformer.data.tokenizer import BOS, EOS, Tokenizers
from transformer.export import ctranslate2 as export
from transformer.export.errors import ExportError
from transformer.model.blueprint import Blueprint
from transformer.model.products import float32_product
from transformer.training import saved_run
from transformer.training.workdir import Workdir

VARIANTS = {name: tiny_model.VARIANTS[name] for name in ("paper", "post_learned", "post_none", "pre_sinusoidal")} | {
    "modern": tiny_model.VARIANTS["modern"] | {"qk_norm": False},
    "pre_t2t_geglu": {"norm": "pre", "positions": "sinusoidal_t2t", "activation": "geglu"},
    "post_shaw_grouped": {"positions": "shaw", "shaw_distance": 2, "num_heads": 4, "num_kv_heads": 2, "d_k": 3},
    "rotary_base": {"positions": "rotary", "rotary_base": 50.0, "d_k": 6, "d_v": 4},
    "rotary_linear": {"positions": "rotary", "rotary_scaling": "linear", "rotary_factor": 3.0},
    "rotary_ntk": {"norm": "pre", "positions": "rotary", "rotary_scaling": "ntk", "rotary_factor": 3.0},
}


@functools.cache
def tokenizers(*, shared: bool = True) -> Tokenizers:
    config = TokenizerConfig(vocab_size=60, character_coverage=1.0, shared=shared)
    return tokenizer_training.train(lambda: iter(tiny_run.pairs()), len(tiny_run.pairs()), config)


def exported(model: ModelConfig, folder: Path) -> tuple[ctranslate2.Translator, Blueprint, dict, Tokenizers]:
    """A model of random parameters, on both sides; its two vocabularies differ where they can."""
    both = tokenizers(shared=model.tied_embeddings == "all")
    blueprint = Blueprint.of(model, both.source.size, both.target.size)
    params = tiny_model.random_params(blueprint)
    export.write(Config(model=model), both, params, folder, "a test")
    return ctranslate2.Translator(str(folder), compute_type="float32", intra_threads=1), blueprint, params, both


def log_probabilities(blueprint: Blueprint, params: dict, sources: list[list[int]], targets: list[list[int]]):
    """Of each target's tokens and its end."""

    def padded(rows: list[list[int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        width = max(map(len, rows))
        tokens = np.array([[*row, *[0] * (width - len(row))] for row in rows], np.int32)
        inside = np.array([[1] * len(row) + [0] * (width - len(row)) for row in rows], np.int32)
        return tokens, inside, np.broadcast_to(np.arange(width, dtype=np.int32), tokens.shape) * inside

    batch = {}
    sides = {"source": [[*row, EOS] for row in sources], "target": [[BOS, *row] for row in targets]}
    for side, rows in sides.items():
        tokens, batch[f"{side}_segments"], batch[f"{side}_positions"] = padded(rows)
        batch["source" if side == "source" else "target_inputs"] = tokens

    @tiny_model.jax.jit
    def forward(params, batch):
        model = blueprint.bind(params)
        logits_BTV = float32_product("BTD,VD->BTV", model(batch), model.output_table(), "float32")
        return jax.nn.log_softmax(logits_BTV, axis=-1)

    found_BTV = np.asarray(forward(params, batch))
    ended = [[*row, EOS] for row in targets]
    return [found_BTV[number, range(len(row)), row] for number, row in enumerate(ended)]


def differences(translator: ctranslate2.Translator, blueprint: Blueprint, params: dict, both: Tokenizers) -> float:
    """The largest between log-probabilities of tokens, here and there, of translations of several lengths."""
    pairs = tiny_run.pairs()[::90]
    sources = both.source.encode([source for source, _ in pairs])
    targets = both.target.encode([target for _, target in pairs])
    assert len({len(row) for row in sources}) > 1
    expected = log_probabilities(blueprint, params, sources, targets)
    scored = translator.score_batch(list(map(both.source.pieces, sources)), list(map(both.target.pieces, targets)))
    return max(np.abs(np.array(theirs.log_probs) - mine).max() for mine, theirs in zip(expected, scored, strict=True))


@pytest.mark.parametrize("name", VARIANTS)
def test_every_token_is_as_probable_as_here(tmp_path, name):
    assert differences(*exported(tiny_model.tiny(**VARIANTS[name]), tmp_path / "out")) < 1e-4


def test_norms_add_the_same_to_a_variance_of_nothing(tmp_path, monkeypatch):
    def small(blueprint: Blueprint) -> dict:
        params = random_params(blueprint)
        params["target_embedding"]["table"] *= 1e-3
        return params

    random_params = tiny_model.random_params
    monkeypatch.setattr(tiny_model, "random_params", small)
    assert differences(*exported(tiny_model.tiny(positions="none"), tmp_path / "out")) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_greedy_translations_of_runs_of_every_variant(tmp_path, name):
    (tmp_path / "data").mkdir()
    config = tiny_run.config(tmp_path / "data")
    for field, value in VARIANTS[name].items():
        setattr(config.model, field, value)
    if config.model.tied_embeddings != "all":
        config.tokenizer.shared, config.tokenizer.vocab_size = False, 60
    tiny_run.train_steps(config, tmp_path / "run")
    saved = saved_run.choose(Workdir(tmp_path / "run"))
    both = Tokenizers.from_files(saved.metadata.tokenizer_files)
    export.write(saved.config, both, saved.restore_on_host(), tmp_path / "out", saved.name)
    share = exported_run.same_greedy(tmp_path / "run", tmp_path / "out")
    print(f"{name}: {share:.2%} of {len(tiny_run.pairs())} greedy translations are the same")
    assert share >= 0.99


def test_the_usage_of_learned_positions_stays_within_their_table(tmp_path, monkeypatch, capsys):
    exported(tiny_model.tiny(positions="learned"), tmp_path / "out")
    monkeypatch.chdir(tmp_path / "out")
    lines = Path("README.txt").read_text("utf-8").splitlines()
    program = "".join(f"{line[4:]}\n" for line in lines if line.startswith("    "))
    exec(program.replace("A sentence.", "anna is very kind " * 10), {})
    assert capsys.readouterr().out.startswith("['")
    with pytest.raises(RuntimeError, match="No position encodings"):
        exec(program.replace("A sentence.", "anna is very kind " * 10).replace("max_input_length=16,", ""), {})


# --- refused ---


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"architecture": "language_model"}, "only translation models are"),
        ({"attention": "mine:Own"}, "no code for classes of others"),
        ({"positions": "t5"}, "one table of biases for all layers"),
        ({"positions": "alibi"}, "know nothing of ALiBi"),
        ({"attention_window": 3}, "every position see all others"),
        ({"attention_chunk": 3}, "every position see all others"),
        ({"logit_soft_cap": 2.0}, "no soft cap"),
        ({"qk_norm": True}, "attention to the source"),
        ({"positions": "rotary", "d_k": 4, "d_v": 6}, "a d_k of 4 filled up"),
    ],
)
def test_what_would_be_another_model_is_refused_by_name(tmp_path, changes, reason):
    config = Config(model=tiny_model.tiny(**changes))
    field = list(changes)[-1]
    with pytest.raises(ConfigError, match=reason) as refused:
        export.write(config, tokenizers(), {}, tmp_path / "out", "a test")
    assert (refused.value.field, refused.value.value) == (f"model.{field}", changes[field])
    assert not list(tmp_path.iterdir())


def test_every_field_of_the_model_is_exported_or_refused_or_of_training():
    """A new one has to be put somewhere: among the variants above, or into one of these."""
    refused = {"architecture", "attention", "attention_window", "attention_chunk", "logit_soft_cap", "qk_norm"}
    of_refused = {"t5_buckets", "t5_max_distance", "mask"}
    of_training = {"dropout", "attention_dropout", "kernel", "dtype", "remat", "unroll"}
    sizes = {"d_model", "d_ff", "num_encoder_layers", "num_decoder_layers", "max_length"}
    written = {field for changes in VARIANTS.values() for field in changes if field not in refused}
    fields = {field.name for field in dataclasses.fields(ModelConfig)}
    assert fields == written | refused | of_refused | of_training | sizes


def test_other_vocabularies_are_refused(tmp_path):
    config = TokenizerConfig(algorithm="characters")
    characters = tokenizer_training.train(lambda: iter(tiny_run.pairs()), len(tiny_run.pairs()), config)
    with pytest.raises(ExportError, match="characters or bytes.*tokenizer.algorithm=bpe"):
        export.check(Config(), characters)


def test_two_vocabularies_with_other_names_of_special_pieces_are_refused():
    content = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["anna is very kind"] * 10),
        model_writer=content,
        vocab_size=16,
        **{"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3, "eos_piece": "<end>", "minloglevel": 2},
    )
    both = Tokenizers(SentencePieceTokenizer(content.getvalue()), tokenizers().target)
    with pytest.raises(ExportError, match="<unk>, <s>, <end> and the target's <unk>, <s>, </s>"):
        export.check(Config(model=tiny_model.tiny(tied_embeddings="none")), both)


def test_without_ctranslate2_it_says_what_to_install(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "ctranslate2"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [_Missing(), *sys.meta_path])
    with pytest.raises(ExportError, match=r"not installed\. pip install 'transformer\[ctranslate2\]'"):
        export.check(Config(), tokenizers())


class _Missing:
    def find_spec(self, name, path=None, target=None):
        if name == "ctranslate2":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def test_a_failure_while_writing_leaves_nothing(tmp_path, monkeypatch):
    def fail(*arguments):
        raise OSError("No space left on device")

    monkeypatch.setattr(export, "usage", fail)
    with pytest.raises(OSError, match="No space left"):
        exported(tiny_model.tiny(), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_the_penalty_nearest_to_ours_has_its_slope():
    def ours(n: float) -> float:
        return 0.6 * np.log((5 + n) / 6)

    n = export.TYPICAL_LENGTH
    slope = (ours(n * 1.001) - ours(n / 1.001)) / (2 * np.log(1.001))
    assert export.nearest_length_penalty(DecodingConfig(length_penalty=0.6)) == pytest.approx(slope, rel=1e-3)


def test_a_power_of_the_length_is_exported_as_it_is():
    decoding = DecodingConfig(length_penalty=0.7, length_penalty_form="power")
    assert export.nearest_length_penalty(decoding) == 0.7

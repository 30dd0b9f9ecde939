"""What is measured during training is what anyone measures afterwards with the checkpoint in hand."""

from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sacrebleu
import tiny_run

from transformer import config as config_module
from transformer.config import Config
from transformer.data.tokenizer import BOS, EOS, PAD, Tokenizers
from transformer.model.blueprint import Blueprint
from transformer.training import metrics_log, validation
from transformer.training.checkpoint import CheckpointReader
from transformer.training.run import Run
from transformer.training.saved_run import open_translator
from transformer.training.validation import Validator
from transformer.training.workdir import Workdir

LENGTH = 16  # of rows here; those of the run are shorter


def last_validation(workdir: Path) -> dict[str, float]:
    return [record for record in metrics_log.read(workdir / "metrics.jsonl") if "val/loss" in record][-1]


def lines(config: Config, side: str) -> list[str]:
    return Path(config.data.validation[0].split(":")[1 if side == "en" else 2]).read_text().splitlines()


def by_hand(workdir: Path, subtree: str = "params") -> dict[str, float]:
    """Loss, negative log-likelihood and accuracy of the last checkpoint: logits of the model, the rest in float64."""
    reader = CheckpointReader(workdir / "checkpoints")
    saved = reader.read_metadata()
    config = config_module.from_json(saved.config_json)
    tokenizer = Tokenizers.from_files(saved.tokenizer_files).source
    sources, targets = ([[*ids, EOS] for ids in tokenizer.encode(lines(config, side))] for side in ("en", "de"))

    def rows(sentences: list[list[int]]) -> np.ndarray:
        return np.array([[*sentence, *[PAD] * (LENGTH - len(sentence))] for sentence in sentences])

    positions = np.tile(np.arange(LENGTH), (len(sources), 1))
    batch = {
        "source": rows(sources),
        "source_segments": rows([[1] * len(sentence) for sentence in sources]),
        "source_positions": positions,
        "target_inputs": rows([[BOS, *sentence[:-1]] for sentence in targets]),
        "target_segments": rows([[1] * len(sentence) for sentence in targets]),
        "target_positions": positions,
    }
    blueprint = Blueprint.of(config.model, tokenizer.size, tokenizer.size)

    @jax.jit
    def logits(params):
        model = blueprint.bind(params)
        return jnp.einsum("BTD,VD->BTV", model(batch, None), model.output_table())

    logits_BTV = np.asarray(logits(reader.restore_params(saved.step, subtree=subtree)), np.float64)
    smoothing, vocab_size = config.training.label_smoothing, tokenizer.size
    losses, nlls, hits = [], [], []
    for target, padded_TV in zip(targets, logits_BTV, strict=True):
        logits_TV = padded_TV[: len(target)]
        log_probabilities_TV = logits_TV - np.log(np.exp(logits_TV).sum(axis=1, keepdims=True))
        wanted_TV = (1 - smoothing) * np.eye(vocab_size)[target] + smoothing / vocab_size
        losses += list(-(wanted_TV * log_probabilities_TV).sum(axis=1))
        nlls += list(-log_probabilities_TV[np.arange(len(target)), target])
        hits += list(logits_TV.argmax(axis=1) == target)
    return {"val/loss": np.mean(losses), "val/nll": np.mean(nlls), "val/accuracy": np.mean(hits)}


@pytest.fixture(scope="module")
def run():
    return tiny_run.trained()


@pytest.fixture(scope="module")
def averaged_run(tmp_path_factory):
    """With a moving average of the parameters, and an average of the last checkpoints at the end; packed rows."""
    folder = tmp_path_factory.mktemp("averaged")
    config = tiny_run.config(folder)
    config.data.batching, config.training.ema_decay, config.checkpoint.average = "packing", 0.8, 3
    config.training.steps, config.evaluation.every, config.checkpoint.every, config.data.test = 24, 8, 8, ()
    tiny_run.train(config, folder / "workdir")
    return folder / "workdir"


def test_loss_is_that_of_a_computation_by_hand(run):
    measured = last_validation(run)
    for name, value in by_hand(run).items():
        assert measured[name] == pytest.approx(value, rel=1e-5), name


def test_bleu_is_sacrebleu_on_what_the_translator_says(run):
    config = tiny_run.trained_config()
    count = config.evaluation.bleu_sentences
    with tiny_run.on_devices(1):
        translator = open_translator([Workdir(run)], ["last"])
    sources, references = (evenly(lines(config, side), count) for side in ("en", "de"))
    outputs = translator.translate(sources, beam_size=config.evaluation.beam_size)
    bleu = sacrebleu.corpus_bleu(outputs, [references]).score
    assert bleu > 0
    assert last_validation(run)["val/bleu"] == pytest.approx(bleu)


def test_moving_average_is_what_is_validated(averaged_run):
    measured = last_validation(averaged_run)
    averaged, plain = by_hand(averaged_run, "ema"), by_hand(averaged_run, "params")
    for name in ("val/loss", "val/nll"):
        assert measured[name] == pytest.approx(averaged[name], rel=1e-5)
        assert measured[name] != pytest.approx(plain[name], rel=1e-3)


def test_moving_average_is_averaged_and_used(averaged_run):
    reader, average = (CheckpointReader(averaged_run / name) for name in ("checkpoints", "average"))
    steps = reader.steps()[-3:]
    expected = jax.tree.map(
        lambda *leaves: np.mean(leaves, axis=0), *(reader.restore_params(s, subtree="ema") for s in steps)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), average.restore_params(), expected)
    used = open_translator([Workdir(averaged_run)])._params[0]
    jax.tree.map(np.testing.assert_array_equal, used, average.restore_params())


def evenly(values: list[str], count: int) -> list[str]:
    return [values[i * len(values) // count] for i in range(count)]


@pytest.mark.parametrize(("asked", "translated"), [(0, 0), (3, 3), (-1, 28)])
def test_number_of_sentences_translated(asked, translated, tmp_path, monkeypatch):
    """As many as asked for, or all; with none there is no BLEU."""
    seen = []

    def translate(self, sources):
        seen.extend(sources)
        return evenly(lines(config, "de"), len(sources))

    monkeypatch.setattr("transformer.training.validation.Translator.translate", translate)
    monkeypatch.setattr(Validator, "_loss", lambda self, params: {"val/loss": 1.0})
    config = tiny_run.config(tmp_path)
    config.evaluation.bleu_sentences, config.evaluation.samples = asked, 2
    run = Run.open(config, Workdir(tmp_path / "workdir"))
    validate = Validator(run.trainer, run.prepared.validation, run.prepared.tokenizers, None, run.batches.shapes)
    validation = validate(None)
    assert seen == evenly(lines(config, "en"), translated)
    assert validation.metrics == {"val/loss": 1.0} | ({"val/bleu": pytest.approx(100)} if translated else {})
    assert [sample.source for sample in validation.samples] == seen[:2]


def test_no_more_batches_are_under_way_than_may_be(monkeypatch):
    under_way, most = 0, 0

    def start(params, batch, before):
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        return before + batch

    def wait(sums):
        nonlocal under_way
        under_way -= 1

    monkeypatch.setattr(validation.jax, "block_until_ready", wait)
    monkeypatch.setattr(validation.sharding, "data_share", lambda mesh: SimpleNamespace(blocks=(0,), count=1))
    monkeypatch.setattr(validation.sharding, "to_global", lambda batch, mesh: batch)

    class Batches(list):
        def rows(self, number, blocks, count):
            return self[number]

    trainer = SimpleNamespace(mesh=None, no_loss=lambda: 0, loss_step=start)
    assert validation.loss_sums(trainer, None, Batches([1, 2, 4, 8, 16])) == 31
    assert most == validation.AHEAD

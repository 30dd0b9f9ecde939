"""What is said of a language model during a run and after it: its loss, and what it goes on with."""

import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_run

from transformer.config import Config
from transformer.data.prepare import prepare
from transformer.data.tokenizer import BOS, EOS
from transformer.training.language import Beginning, LanguageTask, beginnings, keeps, language_scores
from transformer.training.loss import LossSums
from transformer.training.run import Run
from transformer.training.workdir import Workdir

TEXT = "anna is tall, ben is not.\n\n  clara is young today\n" * 3


@pytest.fixture
def config(tmp_path) -> Config:
    """Of pairs: the English sentence and a line end are a prompt, the German one is learned."""
    config = tiny_run.config(tmp_path)
    config.model.architecture = "language_model"
    config.evaluation.metric = "loss"
    config.tokenizer.algorithm = "characters"
    config.data.pack_length, config.data.batch_tokens = 64, 512
    return config


def of_text(config: Config, folder: Path, text: str = TEXT) -> Config:
    (folder / "held_out.txt").write_text(text)
    config.data.validation, config.data.test = (f"text:{folder}/held_out.txt",), ()
    return config


def opened(config: Config, folder: Path) -> Run:
    with tiny_run.on_devices(1):
        return Run.open(config, Workdir(folder / "workdir"))


def nll_by_hand(run: Run, params) -> tuple[float, int]:
    """Of the held-out texts behind their prompts, a document at a time: nats, tokens."""
    tokenizer, held_out = run.prepared.tokenizers.source, run.prepared.validation
    model = run.trainer.blueprint.bind(params)
    total, count = 0.0, 0
    for prompt, text in zip(held_out.sources, held_out.targets, strict=True):
        prompt_ids, text_ids = tokenizer.encode([prompt, text])
        ids = [*prompt_ids, *text_ids, EOS]
        batch = {"target_inputs": [BOS, *ids[:-1]], "target_positions": range(len(ids))}
        batch |= {"target_segments": [1] * len(ids), "target_prompt": [0] * len(ids)}
        hidden_BTD = model({name: jnp.asarray([list(values)], jnp.int32) for name, values in batch.items()})
        logits_TV = np.asarray(hidden_BTD[0] @ model.output_table().T, np.float64)
        nll_T = np.log(np.exp(logits_TV).sum(axis=1)) - logits_TV[np.arange(len(ids)), ids]
        total += nll_T[len(prompt_ids) :].sum()
        count += len(ids) - len(prompt_ids)
    return total, count


def test_the_loss_is_of_texts_behind_their_prompts(config, tmp_path):
    """In nats a token, the end counted, and in bits a byte of the texts alone, as if each document were alone."""
    source, target = config.data.validation[0].removeprefix("lines:").split(":")
    for file in (source, target):  # a few lines are enough
        Path(file).write_text("".join(Path(file).read_text().splitlines(keepends=True)[:3]))
    run = opened(config, tmp_path)
    with jax.set_mesh(run.mesh):
        params = run.trainer.init().params
        found = LanguageTask(run).validate(params)
        nats, tokens = nll_by_hand(run, params)
    assert found.metrics["val/nll"] == pytest.approx(nats / tokens, rel=1e-5)
    assert found.metrics["val/perplexity"] == pytest.approx(math.exp(nats / tokens), rel=1e-4)
    texts = Path(target).read_text().splitlines()
    written = sum(len(text.encode()) for text in texts)
    assert found.metrics["val/bits_per_byte"] == pytest.approx(nats / math.log(2) / written, rel=1e-5)
    (sample,) = found.samples
    assert sample.source in Path(source).read_text().splitlines()
    assert sample.reference in texts


def test_a_model_goes_on_behind_prompts_as_it_was_trained(config):
    """With what ends them: German behind a beginning of German was never learned."""
    begun = beginnings(prepare(config).validation)
    assert begun[0] == Beginning("anna is very young\n", "anna ist sehr jung")
    assert all(beginning.prompt.endswith("\n") for beginning in begun)


def test_without_prompts_it_goes_on_with_lines(config, tmp_path):
    begun = beginnings(prepare(of_text(config, tmp_path)).validation)
    assert begun[:2] == [Beginning("anna is tall, ben is", " not."), Beginning("  clara is young tod", "ay")]


@pytest.mark.parametrize("algorithm", ["bytes", "characters", "bpe"])
def test_text_comes_back_from_tokens_made_for_it(config, tmp_path, algorithm):
    config.tokenizer.algorithm, config.tokenizer.byte_fallback, config.tokenizer.vocab_size = algorithm, True, 350
    made = prepare(of_text(config, tmp_path))
    assert keeps(made.tokenizers.source, made.validation)


def test_unknown_characters_do_not_come_back(config, tmp_path):
    made = prepare(of_text(config, tmp_path))
    assert made.validation.unknown_tokens
    assert not keeps(made.tokenizers.source, made.validation)


def test_bits_a_byte_of_text_that_tokens_do_not_hold_are_marked(config, tmp_path, caplog):
    """A translator's tokenizer makes line ends spaces, and joins these: what a model of its tokens says is of less."""
    translator = tiny_run.config(tmp_path)
    translator.tokenizer.byte_fallback, translator.tokenizer.vocab_size = True, 350
    files = prepare(translator).tokenizers.to_files()
    (tmp_path / "translator.model").write_bytes(files["source.model"])
    config.tokenizer.model = str(tmp_path / "translator.model")
    run = opened(of_text(config, tmp_path), tmp_path)
    held_out = run.prepared.validation
    assert held_out.unknown_tokens == 0
    assert not keeps(run.prepared.tokenizers.source, held_out)
    LanguageTask(run)
    assert "are too low" in caplog.text
    sums = LossSums(jnp.float32(8), jnp.float32(7), jnp.int32(1), jnp.int32(5))
    scores = language_scores(sums, held_out, kept=False)
    assert all(score.signature.endswith("|text:altered") for score in scores)
    assert not any("altered" in score.signature for score in language_scores(sums, held_out, kept=True))

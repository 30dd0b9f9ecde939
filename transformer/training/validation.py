"""What is measured on held-out text during training: the loss; of translation also BLEU, and a few to look at."""

import collections
import dataclasses
from collections.abc import Sequence

import jax
from jax.sharding import Mesh

from transformer import sharding
from transformer.config import Config
from transformer.data.batches import Batches, evaluation_batches
from transformer.data.prepare import EvaluationSet
from transformer.data.rows import Shape
from transformer.data.tokenizer import Tokenizers
from transformer.evaluation.scores import corpus_bleu
from transformer.evaluation.search import Search
from transformer.evaluation.translator import Translator
from transformer.model.blueprint import Params
from transformer.training.loss import LossSums
from transformer.training.samples import Sample
from transformer.training.step import Trainer

# Batches under way at a time. Their arrays take memory; and devices of a CPU that waited for each other in many
# programs at once have been seen to wait forever.
AHEAD = 2


@dataclasses.dataclass(frozen=True)
class Validation:
    """One validation: fields for the metrics log, and sample translations."""

    metrics: dict[str, float]
    samples: list[Sample]


class Validator:
    """Validates parameters of a run. `shapes` are those of the training batches."""

    def __init__(
        self, trainer: Trainer, held_out: EvaluationSet, tokenizers: Tokenizers, search: Search, shapes: Sequence[Shape]
    ):
        config: Config = trainer.config
        self._trainer = trainer
        self._mesh: Mesh = trainer.mesh
        self._config = dataclasses.replace(
            config, decoding=dataclasses.replace(config.decoding, beam_size=config.evaluation.beam_size)
        )
        self._tokenizers = tokenizers
        self._search = search
        self._batches = evaluation_batches([held_out.store], config.data, shapes)
        chosen = _evenly(len(held_out.sources), config.evaluation.bleu_sentences)
        self._sources = [held_out.sources[i] for i in chosen]
        self._references = [held_out.targets[i] for i in chosen]

    def __call__(self, params: Params) -> Validation:
        metrics = self._loss(params)
        if not self._sources:
            return Validation(metrics, [])
        translator = Translator(
            self._config, [self._trainer.blueprint], self._tokenizers, [params], self._mesh, self._search
        )
        outputs = translator.translate(self._sources)
        bleu = corpus_bleu(outputs, self._references, self._config.data.target_language, confidence=False)
        samples = [
            Sample(source, reference, output)
            for source, reference, output in zip(self._sources, self._references, outputs, strict=True)
        ]
        return Validation(metrics | {"val/bleu": bleu.value}, samples[: self._config.evaluation.samples])

    def _loss(self, params: Params) -> dict[str, float]:
        return mean_losses(loss_sums(self._trainer, params, self._batches))


def loss_sums(trainer: Trainer, params: Params, batches: Batches) -> LossSums:
    """The loss of parameters over all batches, each row of which one process loads."""
    share = sharding.data_share(trainer.mesh)
    total = trainer.no_loss()
    started: collections.deque[LossSums] = collections.deque()
    for number in range(len(batches)):
        batch = sharding.to_global(batches.rows(number, share.blocks, share.count), trainer.mesh)
        if len(started) == AHEAD:
            jax.block_until_ready(started.popleft())
        total = trainer.loss_step(params, batch, total)
        started.append(total)
    return total


def mean_losses(sums: LossSums) -> dict[str, float]:
    """A token's, as fields of the metrics log. Waits for the device."""
    tokens = float(sums.tokens)
    return {
        "val/loss": float(sums.loss) / tokens,
        "val/nll": float(sums.nll) / tokens,
        "val/accuracy": float(sums.correct) / tokens,
    }


def _evenly(total: int, count: int) -> list[int]:
    """`count` of the numbers below `total`, evenly spaced (a file is seldom shuffled); -1: all."""
    count = total if count == -1 else min(count, total)
    return [i * total // count for i in range(count)]

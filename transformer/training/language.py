"""Language modelling: validated and scored by the loss of held-out text, shown by a line's attention.

Letters: L layers, N heads, T tokens.
"""

import dataclasses
import itertools
import math
import shlex
from collections.abc import Callable, Sequence

import jax
import numpy as np
from absl import logging

from transformer import sharding
from transformer.data.batches import Batches, evaluation_batches
from transformer.data.evaluation_set import EvaluationSet
from transformer.data.tokenizer import BOS, Tokenizer
from transformer.decoding.sampling import Sampling
from transformer.evaluation import attention_picture
from transformer.evaluation.generator import Generator
from transformer.evaluation.measure import Score
from transformer.model.blueprint import Params
from transformer.training import processes
from transformer.training.loss import LossSums
from transformer.training.run import Run
from transformer.training.samples import Sample
from transformer.training.saved_run import SavedParams
from transformer.training.validation import Validation, loss_sums, mean_losses

PICTURED = 24  # tokens
PROMPT = 20  # characters of a line that is gone on with
LONGEST_PROMPT = 400  # characters of a document's own prompt that is gone on from
CONTINUED = 32  # tokens
LOOKED_AT = 100, 2000  # held-out texts, and characters of each, that examples are taken from


class LanguageTask:
    """See `task.Task`."""

    def __init__(self, run: Run):
        self._run = run
        self._held_out = self._batches(run.prepared.validation)
        self._scored: Params | None = None
        self._generator = Generator(
            run.config,
            run.trainer.blueprint,
            run.prepared.tokenizers.source,
            {},
            run.mesh,
        )
        if not keeps(run.prepared.tokenizers.source, run.prepared.validation):
            logging.warning(
                "Bits a byte of %s are too low: its tokens do not hold all of the text (unknown characters; of a "
                "tokenizer made for translation also line ends and spaces). Do not compare them with those of other "
                "tokenizers.",
                run.prepared.validation.name,
            )

    def validate(self, params: Params) -> Validation:
        sums = loss_sums(self._run.trainer, params, self._held_out)
        losses = mean_losses(sums)
        more = {"val/perplexity": math.exp(min(losses["val/nll"], 700.0))}
        more["val/bits_per_byte"] = bits_per_byte(sums, self._run.prepared.validation)
        return Validation(losses | more, self._continued(params))

    def score(self, saved: SavedParams, between: Callable[[], None]) -> list[Score]:
        self._scored = saved.restore(self._run.trainer.blueprint, self._run.mesh)
        scores = []
        for test in self._run.prepared.test:
            sums = loss_sums(self._run.trainer, self._scored, self._batches(test))
            scores += language_scores(sums, test, kept=keeps(self._run.prepared.tokenizers.source, test))
            between()
        return scores

    def draw(self) -> None:
        """The beginning of a held-out document, which looks at itself, in the last layer."""
        tokenizer, held_out = self._run.prepared.tokenizers.source, self._run.prepared.validation
        documents = zip(held_out.sources, held_out.targets, strict=True)
        encoded = (tokenizer.encode([prompt, text[: 8 * PICTURED]]) for prompt, text in documents)
        prompt_ids, text_ids = next(ids for ids in encoded if ids[1])
        ids = [*prompt_ids, *text_ids][:PICTURED]
        weights_LNTT = self._attention(ids, min(len(prompt_ids), PICTURED))
        if not processes.speaks():
            return
        pieces = tokenizer.pieces(ids)
        attention_picture.draw(
            weights_LNTT,
            ["(begin)", *pieces[:-1]],
            pieces,
            self._run.workdir.attention,
            title=tokenizer.decode([ids])[0],
        )

    def command(self, run: str) -> str:
        begun = beginnings(self._run.prepared.validation)
        prompt = next((beginning.prompt for beginning in begun if len(beginning.prompt.split()) > 2), "")
        return f"transformer generate {run} --prompt={shlex.quote(prompt)}"

    def _continued(self, params: Params) -> list[Sample]:
        """Beginnings of held-out text, and what the model makes of them."""
        begun = beginnings(self._run.prepared.validation)
        count = min(self._run.config.evaluation.samples, len(begun))
        chosen = [begun[i * len(begun) // count] for i in range(count)]
        prompts = [beginning.prompt for beginning in chosen]
        found = self._generator.with_params(params).generate(prompts, max_tokens=CONTINUED, sampling=Sampling(0.8))
        return [
            Sample(beginning.prompt.rstrip("\n"), beginning.rest, texts[0].text.replace("\n", "⏎ "))
            for beginning, texts in zip(chosen, found, strict=True)
        ]

    def _batches(self, text: EvaluationSet) -> Batches:
        return evaluation_batches([text.store], self._run.config.data, self._run.batches.shapes)

    def _attention(self, ids: Sequence[int], in_prompt: int) -> np.ndarray:
        """[L, N, T, T]: row t is what was looked at while token t was chosen. The first `in_prompt` are a prompt's."""
        copies = sharding.row_shards(self._run.mesh)

        def rows(values: Sequence[int]) -> np.ndarray:
            return np.tile(np.asarray(values, np.int32), (copies, 1))

        batch = {
            "target_inputs": rows([BOS, *ids[:-1]]),
            "target_segments": rows([1] * len(ids)),
            "target_positions": rows(range(len(ids))),
            "target_prompt": rows([1] * in_prompt + [0] * (len(ids) - in_prompt)),
        }
        blueprint = self._run.trainer.blueprint
        program = jax.jit(lambda params, batch: blueprint.bind(params).attention_weights(batch))
        weights_LBNTT = program(self._scored, sharding.split_rows(batch, self._run.mesh))
        return sharding.to_host(weights_LBNTT)[:, 0]


@dataclasses.dataclass(frozen=True)
class Beginning:
    """What a model is given of a text, and how it went on there."""

    prompt: str
    rest: str


def beginnings(held_out: EvaluationSet) -> list[Beginning]:
    """Where to go on, in the first of held-out documents: behind their own prompts, else behind beginnings of lines."""
    count, length = LOOKED_AT
    documents = list(itertools.islice(zip(held_out.sources, held_out.targets, strict=True), count))
    prompted = [Beginning(prompt, text) for prompt, text in documents if text and 0 < len(prompt) <= LONGEST_PROMPT]
    if prompted:
        return prompted
    lines = [line for _, text in documents for line in text[:length].splitlines() if len(line) > PROMPT]
    begun = [line[:PROMPT].rstrip() for line in lines]
    return [Beginning(prompt, line[len(prompt) :]) for prompt, line in zip(begun, lines, strict=True) if prompt]


def keeps(tokenizer: Tokenizer, text: EvaluationSet) -> bool:
    """Whether a text comes back from its tokens, as far as its first documents tell. If not, its bytes are not those
    that a loss is of."""
    count, length = LOOKED_AT
    shown = [document[:length] for document in text.targets[:count]]
    return tokenizer.decode(tokenizer.encode(shown)) == shown


def bits_per_byte(sums: LossSums, text: EvaluationSet) -> float:
    """What a byte of the text costs, so that models with other tokens can be compared."""
    return float(sums.nll) / math.log(2) / text.target_bytes


def language_scores(sums: LossSums, text: EvaluationSet, *, kept: bool) -> list[Score]:
    """The loss of a text in three units; `kept`: see `keeps`."""
    nll, tokens = float(sums.nll), int(sums.tokens)
    signature = f"tokens:{tokens}|bytes:{text.target_bytes}|unknown:{text.unknown_tokens}|ends:counted"
    signature += "" if kept else "|text:altered"
    values = {
        "Loss (nats a token)": nll / tokens,
        "Perplexity (a token)": math.exp(min(nll / tokens, 700.0)),
        "Bits a byte": bits_per_byte(sums, text),
    }
    return [Score(f"{name} of {text.name}", value, None, signature) for name, value in values.items()]

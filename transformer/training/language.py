"""Language modelling: validated and scored by the loss of held-out text, shown by a line's attention.

Letters: L layers, N heads, T tokens.
"""

import math
import shlex
from collections.abc import Callable, Sequence

import jax
import numpy as np

from transformer import sharding
from transformer.data.batches import Batches, evaluation_batches
from transformer.data.evaluation_set import EvaluationSet
from transformer.data.tokenizer import BOS
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
CONTINUED = 32  # tokens


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
            scores += language_scores(sums, test)
            between()
        return scores

    def draw(self) -> None:
        """The beginning of a held-out text, which looks at itself, in the last layer."""
        tokenizer = self._run.prepared.tokenizers.source
        text = next(text for text in self._run.prepared.validation.targets if text.strip())
        ids = tokenizer.encode([text[: 8 * PICTURED]])[0][:PICTURED]
        weights_LNTT = self._attention(ids)
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
        prompt = next((line for line in self._lines() if len(line.split()) > 2), "")[:PROMPT].rstrip()
        return f"transformer generate {run} --prompt={shlex.quote(prompt)}"

    def _continued(self, params: Params) -> list[Sample]:
        """Beginnings of held-out lines, and what the model makes of them."""
        lines = [line for line in self._lines() if len(line) > PROMPT]
        count = min(self._run.config.evaluation.samples, len(lines))
        chosen = [lines[i * len(lines) // count] for i in range(count)]
        prompts = [line[:PROMPT] for line in chosen]
        found = self._generator.with_params(params).generate(prompts, max_tokens=CONTINUED, sampling=Sampling(0.8))
        return [
            Sample(prompt, line[PROMPT:], texts[0].text.replace("\n", "⏎ "))
            for prompt, line, texts in zip(prompts, chosen, found, strict=True)
        ]

    def _lines(self) -> list[str]:
        """Of the beginning of the validation text."""
        return [line for text in self._run.prepared.validation.targets[:100] for line in text[:2000].splitlines()]

    def _batches(self, text: EvaluationSet) -> Batches:
        return evaluation_batches([text.store], self._run.config.data, self._run.batches.shapes)

    def _attention(self, ids: Sequence[int]) -> np.ndarray:
        """[L, N, T, T]: row t is what was looked at while token t was chosen."""
        copies = len(self._run.share.blocks)

        def rows(values: Sequence[int]) -> np.ndarray:
            return np.tile(np.asarray(values, np.int32), (copies, 1))

        batch = {
            "target_inputs": rows([BOS, *ids[:-1]]),
            "target_segments": rows([1] * len(ids)),
            "target_positions": rows(range(len(ids))),
            "target_prompt": rows([0] * len(ids)),
        }
        blueprint = self._run.trainer.blueprint
        program = jax.jit(lambda params, batch: blueprint.bind(params).attention_weights(batch))
        weights_LBNTT = program(self._scored, sharding.to_global(batch, self._run.mesh, ("batch", None)))
        return sharding.to_host(weights_LBNTT)[:, 0]


def bits_per_byte(sums: LossSums, text: EvaluationSet) -> float:
    """What a byte of the text costs, so that models with other tokens can be compared."""
    return float(sums.nll) / math.log(2) / text.target_bytes


def language_scores(sums: LossSums, text: EvaluationSet) -> list[Score]:
    """The loss of a text in three units."""
    nll, tokens = float(sums.nll), int(sums.tokens)
    signature = f"tokens:{tokens}|bytes:{text.target_bytes}|unknown:{text.unknown_tokens}|ends:counted"
    values = {
        "Loss (nats a token)": nll / tokens,
        "Perplexity (a token)": math.exp(min(nll / tokens, 700.0)),
        "Bits a byte": bits_per_byte(sums, text),
    }
    return [Score(f"{name} of {text.name}", value, None, signature) for name, value in values.items()]

"""Text in, text out: a trained model ready to translate. What `transformer.load` returns.

Letters: L layers, N heads, T target pieces, S source pieces.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import numpy as np
from jax.sharding import Mesh

from transformer import sharding
from transformer.config import Config, ConfigError
from transformer.data.tokenizer import BOS, EOS, Tokenizers
from transformer.evaluation.search import Search, Weights
from transformer.model.blueprint import Blueprint, Params


@dataclasses.dataclass(frozen=True)
class Hypothesis:
    """One translation. `score` is the log-probability (nats) over the length penalty: higher is better."""

    text: str
    score: float
    log_probability: float


@dataclasses.dataclass(frozen=True)
class SentenceAttention:
    """The model's attention while it writes `target_pieces` for `source_pieces`, float32; rows sum to 1.

    Row t of the decoder's arrays is what was looked at while target piece t was chosen.
    """

    source_pieces: list[str]
    target_pieces: list[str]
    encoder_LNSS: np.ndarray
    decoder_LNTT: np.ndarray
    cross_LNTS: np.ndarray


class Translator:
    """A model, or an ensemble, with its tokenizers.

    Args:
      config: the run's; `config.decoding` are the defaults of `translate`.
      blueprints: the model's shape; of an ensemble each member's.
      tokenizers: those it was trained with.
      params: the parameters of each blueprint. An ensemble's probabilities are averaged while decoding.
      mesh: where it runs.
      search: share one to compile once for several translators of the same blueprints.
    """

    def __init__(
        self,
        config: Config,
        blueprints: Sequence[Blueprint],
        tokenizers: Tokenizers,
        params: Sequence[Params],
        mesh: Mesh,
        search: Search | None = None,
    ):
        self.config = config
        self.tokenizers = tokenizers
        self._blueprints = list(blueprints)
        self._params = list(params)
        self._mesh = mesh
        self._search = Search(blueprints, mesh, config.decoding.precision) if search is None else search

    def in_precision(self, precision: str) -> "Translator":
        """The same parameters with other products: see `config.decoding.precision`."""
        decoding = dataclasses.replace(self.config.decoding, precision=precision)
        config = dataclasses.replace(self.config, decoding=decoding)
        return Translator(config, self._blueprints, self.tokenizers, self._params, self._mesh)

    def translate(
        self,
        sources: Sequence[str],
        *,
        beam_size: int | None = None,
        length_penalty: float | None = None,
        progress: Callable[[int], None] = lambda done: None,
    ) -> list[str]:
        """The best translation of each sentence, in order. An empty line stays empty.

        Args:
          sources: sentences.
          beam_size: 1 is greedy; unset: the run's `decoding.beam_size`.
          length_penalty: alpha, in the form of the run's `decoding.length_penalty_form`; unset: the run's.
          progress: called with the number of sentences finished since the last call.
        """
        found = self.hypotheses(sources, 1, beam_size=beam_size, length_penalty=length_penalty, progress=progress)
        return [best[0].text for best in found]

    def hypotheses(
        self,
        sources: Sequence[str],
        count: int,
        *,
        beam_size: int | None = None,
        length_penalty: float | None = None,
        progress: Callable[[int], None] = lambda done: None,
    ) -> list[list[Hypothesis]]:
        """The `count` best translations of each sentence, best first, with scores.

        Raises:
          TypeError: for a single string, which would be taken for a list of letters.
          ConfigError: when more are asked for than the beam holds.
        """
        if isinstance(sources, str):
            raise TypeError(f"Give a list of sentences, such as [{sources[:40]!r}], not one string.")
        settings = dataclasses.replace(self.config.decoding)
        if beam_size is not None:
            settings.beam_size = beam_size
        if length_penalty is not None:
            settings.length_penalty = length_penalty
        if not 1 <= count <= settings.beam_size:
            raise ConfigError(
                "decoding.beam_size", settings.beam_size, f"cannot give {count} translations", "Use a larger beam."
            )
        encoded = self.tokenizers.source.encode([str(source) for source in sources])
        full = [number for number, tokens in enumerate(encoded) if tokens]
        found = self._search(
            self._weights, [encoded[i] for i in full], settings, num_hypotheses=count, progress=progress
        )
        results = [[Hypothesis("", 0.0, 0.0)] for _ in sources]
        for number, outputs in zip(full, found, strict=True):
            texts = self.tokenizers.target.decode_lines([output.tokens for output in outputs])
            results[number] = [
                Hypothesis(text, output.score, output.log_probability)
                for text, output in zip(texts, outputs, strict=True)
            ]
        return results

    def attention(self, source: str, target: str | None = None) -> SentenceAttention:
        """Every head's attention for a sentence and a translation of it, the model's own unless one is given.

        Of an ensemble: that of its first member.
        """
        target = self.translate([source])[0] if target is None else target
        source_ids = [*self.tokenizers.source.encode([source])[0], EOS]
        target_ids = [*self.tokenizers.target.encode([target])[0], EOS]
        copies = sharding.row_shards(self._mesh)

        def rows(ids: Sequence[int]) -> np.ndarray:
            return np.tile(np.asarray(ids, np.int32), (copies, 1))

        batch = {
            "source": rows(source_ids),
            "source_segments": rows([1] * len(source_ids)),
            "source_positions": rows(range(len(source_ids))),
            "target_inputs": rows([BOS, *target_ids[:-1]]),
            "target_segments": rows([1] * len(target_ids)),
            "target_positions": rows(range(len(target_ids))),
        }
        with jax.set_mesh(self._mesh):
            weights = self._attention_program(self._params[0], sharding.split_rows(batch, self._mesh))
        encoder_LBNSS, decoder_LBNTT, cross_LBNTS = sharding.to_host(
            (weights.encoder_LBNSS, weights.decoder_LBNTT, weights.cross_LBNTS)
        )
        return SentenceAttention(
            self.tokenizers.source.pieces(source_ids),
            self.tokenizers.target.pieces(target_ids),
            encoder_LBNSS[:, 0],
            decoder_LBNTT[:, 0],
            cross_LBNTS[:, 0],
        )

    @functools.cached_property
    def _weights(self) -> Weights:
        return self._search.prepare(self._params)

    @functools.cached_property
    def _attention_program(self) -> Callable:
        return jax.jit(lambda params, batch: self._blueprints[0].bind(params).attention_weights(batch))

"""A language model ready to go on with text, and to say how probable a text is. What `transformer.load` returns of one.

Letters: B rows, T tokens.
"""

import copy
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from numbers import Integral

from absl import logging
from jax.sharding import Mesh

from transformer.config import Config
from transformer.data.tokenizer import EOS, Tokenizer
from transformer.decoding.sampling import Sampling
from transformer.evaluation.continuation import Continuation, Generated
from transformer.evaluation.errors import EvaluationError
from transformer.evaluation.rollout import Rollout
from transformer.evaluation.text_score import Scored, TextScorer
from transformer.model.blueprint import Blueprint, Params
from transformer.model.decoding_weights import DecodingWeights


class Generator:
    """A language model with its tokenizer.

    Args:
      config: the run's.
      blueprint: the model's shape.
      tokenizer: the one it was trained with.
      params: its parameters.
      mesh: where it runs.
    """

    def __init__(self, config: Config, blueprint: Blueprint, tokenizer: Tokenizer, params: Params, mesh: Mesh):
        self.config = config
        self.tokenizer = tokenizer
        self.rollout = Rollout(blueprint, config.model, tokenizer.size, mesh)
        # The longest text it was trained on at once.
        lengths = [config.data.pack_length] + ([] if self.rollout.longest is None else [self.rollout.longest])
        self.context = min(lengths)
        self.scorer = TextScorer(blueprint, tokenizer.size, self.context, mesh)
        self._params = params
        self._weights: DecodingWeights | None = None  # the same, as steps want them, from the first use on

    def with_params(self, params: Params) -> "Generator":
        """The same with other parameters; compiles nothing again."""
        other = copy.copy(self)
        other._params, other._weights = params, None
        return other

    # --- going on with text ---

    def generate(
        self,
        prompts: Sequence[str],
        *,
        max_tokens: int = 256,
        samples: int = 1,
        stop: Sequence[str] = (),
        sampling: Sampling | None = None,
        seed: int = 0,
        progress: Callable[[int], None] = lambda done: None,
    ) -> list[list[Generated]]:
        """`samples` continuations of every prompt, in the order given.

        The same prompt, seed and settings give the same text, whatever else is asked for at the same time: every draw
        has a key of its own, made of these, the sample's number and the token's. (Sums in another order can still tip a
        draw between two tokens that are as good as equal.)

        Args:
          max_tokens: the most of each.
          stop: strings that end a continuation, wherever tokens begin and end; they are left out.
          sampling: unset: from the model's own distribution.
          seed: any number.
          progress: called with the number of continuations finished since the last call.

        Raises:
          TypeError: for a single string, also as `stop`, which would be taken for a list of letters; for what is no
            text, no whole number, no `Sampling`.
          ValueError: for no samples, for no tokens, and for text with half a character in it.
        """
        prompts, stop = _texts("prompts", prompts), _texts("stop strings", stop)
        _check(max_tokens, sampling, seed)
        _check_whole("samples", samples, at_least=1)
        encoded = self.tokenizer.encode(prompts)
        self._warn(encoded, max_tokens)
        texts = [self._continuation(ids, stop, seed, sample) for ids in encoded for sample in range(samples)]
        for group in self.rollout.groups(texts):
            for _ in self.rollout.run(self._prepared(), group, max_tokens, sampling or Sampling()):
                pass
            progress(len(group))
        return [[text.result() for text in texts[i : i + samples]] for i in range(0, len(texts), samples)]

    def stream(
        self,
        prompt: str,
        *,
        max_tokens: int = 256,
        stop: Sequence[str] = (),
        sampling: Sampling | None = None,
        seed: int = 0,
    ) -> Iterator[str]:
        """The text of one continuation as it comes; together it is the first that `generate` gives. Never a part of a
        character, nor of a stop string.

        What is wrong is told, and warned of, by the call; the text is made as it is asked for.

        Raises:
          TypeError, ValueError: as `generate`.
        """
        if not isinstance(prompt, str):
            raise TypeError(f"prompt = {prompt!r}: give one text, a str, not {type(prompt).__name__}.")
        [prompt], stop = _texts("prompts", [prompt]), _texts("stop strings", stop)
        _check(max_tokens, sampling, seed)
        [ids] = self.tokenizer.encode([prompt])
        self._warn([ids], max_tokens)
        return self._stream(self._continuation(ids, stop, seed, 0), max_tokens, sampling or Sampling())

    def _stream(self, text: Continuation, max_tokens: int, sampling: Sampling) -> Iterator[str]:
        for _ in self.rollout.run(self._prepared(), [text], max_tokens, sampling, chunk=1):
            if certain := text.take():
                yield certain
        if certain := text.take():
            yield certain

    def _prepared(self) -> DecodingWeights:
        if self._weights is None:
            self._weights = self.rollout.prepare(self._params)
        return self._weights

    def _continuation(self, ids: Sequence[int], stop: Sequence[str], seed: int, sample: int) -> Continuation:
        own = zlib.crc32(f"{seed} {sample} {list(ids)}".encode())
        stream = self.tokenizer.stream()
        stream.add(*ids)  # a space at the beginning of a text may go, one between prompt and continuation may not
        return Continuation(ids, own, stop, stream)

    def _warn(self, encoded: Sequence[Sequence[int]], max_tokens: int) -> None:
        most = max(map(len, encoded), default=0)
        longest = self.rollout.longest
        if longest is not None and most >= longest:
            logging.warning(
                "A prompt has %d tokens, and the model sees no more than %d at once (model.max_length, learned "
                "positions): it goes on from the last %d of them.",
                most,
                longest,
                longest // 2,
            )
        elif longest is None and most + max_tokens > self.context:
            logging.log_first_n(
                logging.WARNING,
                "A prompt of %d tokens and %d more: the model was trained on %d at once (data.pack_length). What is "
                "beyond may be worse.",
                1,
                most,
                max_tokens,
                self.context,
            )

    # --- scoring text ---

    def score(
        self, texts: Sequence[str], *, overlap: int = 0, progress: Callable[[int], None] = lambda done: None
    ) -> list[Scored]:
        """The log-probability of every token of each text, and of its end.

        A text longer than the model was trained on (`config.data.pack_length`) is read in windows of that length, as in
        validation.

        Args:
          overlap: tokens that a window reads again of the one before; 0 is quickest and counts most against the model.
          progress: called with the number of tokens scored since the last call.

        Raises:
          TypeError: for a single string, which would be taken for a list of letters; for what is no text; for an
            overlap that is no whole number.
          ValueError: for text with half a character in it.
          EvaluationError: for no text at all, and for an overlap as long as a window.
        """
        texts = _texts("texts", texts)
        _check_whole("overlap", overlap)
        if not texts:
            raise EvaluationError("There is nothing to score: no text was given.")
        encoded = [[*ids, EOS] for ids in self.tokenizer.encode(texts)]
        found = self.scorer(self._params, encoded, overlap, progress)
        return [
            Scored(self.tokenizer.pieces(ids), values, len(text.encode()))
            for text, ids, values in zip(texts, encoded, found, strict=True)
        ]


# --- what is asked for ---


def _texts(what: str, given: Iterable[str]) -> list[str]:
    """A list of texts, each of which UTF-8 can hold."""
    if isinstance(given, str):
        raise TypeError(f"Give a list of {what}, such as [{given[:40]!r}], not one string.")
    if not isinstance(given, Iterable):
        raise TypeError(f"Give a list of {what}, not {type(given).__name__}.")
    texts = list(given)
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"The {what} are to be texts, and number {number} is {type(text).__name__}: {text!r:.40}.")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"Number {number} of the {what} has half a character, {text[error.start]!r} at {error.start}, which "
                'UTF-8 cannot hold. Decode it otherwise, with errors="replace" for example.'
            ) from None
    return texts


def _check(max_tokens: int, sampling: Sampling | None, seed: int) -> None:
    _check_whole("max_tokens", max_tokens, at_least=1)
    _check_whole("seed", seed)
    if not isinstance(sampling, Sampling | None):
        raise TypeError(f"sampling = {sampling!r}: give a Sampling, such as Sampling(temperature=0.8).")


def _check_whole(name: str, value: int, at_least: int | None = None) -> None:
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"{name} = {value!r}: must be a whole number.")
    if at_least is not None and value < at_least:
        raise ValueError(f"{name} = {value}: must be {at_least} or more.")

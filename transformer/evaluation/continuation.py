"""A text that grows token by token: what of it is certain, where it ends, what the model sees of it."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

from transformer.data.tokenizer import BOS, EOS, TextStream

# Why a text ended: the model ended it, a stop string came, or it has as many tokens as were asked for.
Reason = Literal["end", "stop", "limit"]


@dataclasses.dataclass(frozen=True)
class Generated:
    """A continuation, without its prompt.

    Attributes:
      text: up to the end the model chose, a stop string (left out), or the limit.
      tokens: its ids, without EOS; with a stop string also those that made it.
      log_probability: of these tokens, the end included when there is one, by the model's own distribution; nats.
      reason: "end", "stop" or "limit".
    """

    text: str
    tokens: list[int]
    log_probability: float
    reason: Reason


class Continuation:
    """One continuation as it grows.

    Args:
      prompt: its tokens.
      seed: of its draws, uint32.
      stop: strings that end it.
      stream: decodes its tokens.
    """

    def __init__(self, prompt: Sequence[int], seed: int, stop: Sequence[str], stream: TextStream):
        self.seed = seed
        self.ended = False
        # What the model sees: the prompt from BOS and the tokens since, or the last of them.
        self.visible = [BOS, *prompt]
        # All that was ever visible, which a repetition penalty looks back on.
        self.seen = set(self.visible)
        self._reason: Reason = "limit"
        self._stop = [text for text in stop if text]
        self._stream = stream
        self._text = ""
        self._taken = 0
        self._tokens: list[int] = []
        self._log_probability = 0.0

    def add(self, tokens: Sequence[int], log_probabilities: Sequence[float]) -> None:
        """What was drawn next; nothing after the end."""
        for token, log_probability in zip(tokens, log_probabilities, strict=True):
            if self.ended:
                return
            self._log_probability += log_probability
            if token == EOS:
                self._close("end")
                return
            self._tokens.append(token)
            self.visible.append(token)
            self.seen.add(token)
            self._append(self._stream.add(token))

    def close(self) -> None:
        """There are no more tokens."""
        if not self.ended:
            self._close("limit")

    def forget(self, kept: int) -> None:
        """Leaves the model only the last tokens to see."""
        self.visible = self.visible[-kept:]

    def take(self) -> str:
        """The text that is certain and was not taken before: what may be the beginning of a stop string is not."""
        certain = self._text[self._taken : len(self._text) - (0 if self.ended else self._begun_stop())]
        self._taken += len(certain)
        return certain

    def result(self) -> Generated:
        """What there is."""
        return Generated(self._text, self._tokens, self._log_probability, self._reason)

    def _close(self, reason: Reason) -> None:
        self.ended, self._reason = True, reason
        self._append(self._stream.end())

    def _append(self, text: str) -> None:
        # A stop string may have begun in the text before.
        begin = max(len(self._text) - max(map(len, self._stop), default=1) + 1, 0)
        self._text += text
        places = [place for stop in self._stop if (place := self._text.find(stop, begin)) >= 0]
        if places:
            self._text = self._text[: min(places)]
            self.ended, self._reason = True, "stop"

    def _begun_stop(self) -> int:
        """How many of the last characters are the beginning of a stop string."""
        sizes = (size for stop in self._stop for size in range(1, len(stop)) if self._text.endswith(stop[:size]))
        return max(sizes, default=0)

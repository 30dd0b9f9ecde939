"""What a search asks of a model, and what it gives back.

Shapes: B sentences, K beam slots or hypotheses, T longest output, V vocabulary.
"""

import dataclasses
from typing import Any, Protocol

import jax

Cache = Any  # a pytree only the step function looks into


class Step(Protocol):
    """One token further for every live hypothesis."""

    def __call__(
        self, tokens_BK: jax.Array, position: jax.Array, slots_BKT: jax.Array, cache: Cache
    ) -> tuple[jax.Array, Cache]:
        """Logits of the next token.

        The cache is append-only: at `position` each of the K slots writes its own column, and nothing is ever
        reordered when hypotheses change places. Instead `slots_BKT` says whose columns are whose past.

        Args:
          tokens_BK: int32, what each live hypothesis appended last; BOS at position 0.
          position: scalar int32, where those tokens stand, counted from 0.
          slots_BKT: int32; for hypothesis k and t <= position, the slot whose column at t belongs to its past;
            `slots_BKT[b, k, position] == k`. Later entries mean nothing. With one slot it is all zeros.
          cache: whatever the step function keeps.

        Returns:
          logits_BKV, float32 (log-probabilities will do; -inf forbids a token), and the cache with this position in.
          The vocabulary may be split over devices.
        """


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Hypotheses:
    """Outputs, best first: K of them for each sentence.

    Finished hypotheses (they end with EOS) come first, by score. Where fewer than K finished, the best that ran into
    the sentence's limit follow, also by score: they end without EOS. A place that not even those fill has length 0 and
    score -inf.
    """

    tokens_BKT: jax.Array  # int32, without BOS, with EOS, then padding
    lengths_BK: jax.Array  # int32, EOS counted
    scores_BK: jax.Array  # float32: log-probability over length penalty
    log_probabilities_BK: jax.Array  # float32: natural logarithm of p(tokens | source)

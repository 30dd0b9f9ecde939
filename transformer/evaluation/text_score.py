"""How probable a language model finds given text (forced decoding), in windows where it is long.

Letters: B rows, T tokens of a window, V vocabulary, C chunks of P tokens.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from transformer import sharding
from transformer.data.tokenizer import BOS
from transformer.decoding.sampling import log_probabilities
from transformer.evaluation import shapes
from transformer.evaluation.errors import EvaluationError
from transformer.model.blueprint import Blueprint, Params
from transformer.model.products import float32_product

# Windows are padded to powers of two from here on, and to the longest.
SHORTEST = 16
# Rows of a group of windows: the least of these that holds it, as far as the logits fit.
ROWS = (1, 8, 64)
# Bytes of logits held at once: more rows than have so few are not taken, and of one row those of fewer positions.
LOGITS = 2**28


@dataclasses.dataclass(frozen=True)
class Scored:
    """How probable a text is: the log-probability of every token, its end included, in nats."""

    pieces: list[str]
    log_probabilities: np.ndarray
    num_bytes: int

    @property
    def loss(self) -> float:
        """Nats a token."""
        return -float(np.mean(self.log_probabilities, dtype=np.float64))

    @property
    def perplexity(self) -> float:
        """A token's."""
        return math.exp(min(self.loss, 700.0))

    @property
    def bits_per_byte(self) -> float:
        """Of the text's UTF-8; what the end costs is included."""
        return -float(np.sum(self.log_probabilities, dtype=np.float64)) / math.log(2) / max(self.num_bytes, 1)


@dataclasses.dataclass(frozen=True)
class _Window:
    """A stretch of a text that is read at once: targets `begin` to `end`, of which those from `new` on are scored."""

    text: int
    begin: int
    new: int
    end: int


class TextScorer:
    """Compiles once for each shape.

    Args:
      blueprint: the model's shape.
      vocab_size: its pieces.
      length: the longest window.
      mesh: where it runs.
    """

    def __init__(self, blueprint: Blueprint, vocab_size: int, length: int, mesh: Mesh):
        self._blueprint = blueprint
        self._vocab_size = vocab_size
        self._length = length
        self._mesh = mesh
        self.program = jax.jit(self._score)

    def __call__(
        self,
        params: Params,
        texts: Sequence[Sequence[int]],
        overlap: int = 0,
        progress: Callable[[int], None] = lambda done: None,
    ) -> list[np.ndarray]:
        """The log-probabilities of each text's tokens, float32; its end is scored when EOS is one of them.

        A text longer than a window is read in several. Each begins with the token before it as its first input, as
        the pieces of long documents do in training, and its tokens know nothing of what is before that; so the first of
        its tokens cost more than they should. With an `overlap` a window begins that many tokens earlier, which are
        read once more and not scored: each token (but the first ones of the text) then has at least as many before it.

        Raises:
          EvaluationError: for an overlap that leaves nothing to score.
        """
        if not 0 <= overlap < self._length:
            raise EvaluationError(
                f"An overlap of {overlap} tokens: the windows have {self._length} (data.pack_length, or the model's "
                f"positions), so it must be from 0 to {self._length - 1}."
            )
        found = [np.zeros(len(text), np.float32) for text in texts]
        windows = sorted(_windows([len(text) for text in texts], self._length, overlap), key=lambda w: w.begin - w.end)
        while windows:
            length = min(shapes.power_of_two(windows[0].end - windows[0].begin, SHORTEST), self._length)
            fitting = [size for size in ROWS if 4 * size * length * self._vocab_size <= LOGITS] or ROWS[:1]
            rows = shapes.rows(len(windows), fitting, self._mesh)
            group, windows = windows[:rows], windows[rows:]
            values_BT = self._group(params, texts, group, rows, length)
            for window, values_T in zip(group, values_BT, strict=False):
                kept = values_T[window.new - window.begin : window.end - window.begin]
                found[window.text][window.new : window.end] = kept
            progress(sum(window.end - window.new for window in group))
        return found

    def _group(
        self, params: Params, texts: Sequence[Sequence[int]], group: list[_Window], rows: int, length: int
    ) -> np.ndarray:
        names = ("target_inputs", "targets", "target_segments", "target_positions", "target_prompt")
        batch = {name: np.zeros((rows, length), np.int32) for name in names}
        for row, window in enumerate(group):
            targets = texts[window.text][window.begin : window.end]
            before = texts[window.text][window.begin - 1] if window.begin else BOS
            size = len(targets)
            batch["targets"][row, :size] = targets
            batch["target_inputs"][row, :size] = [before, *targets[:-1]]
            batch["target_segments"][row, :size] = 1
            batch["target_positions"][row, :size] = np.arange(size)
        with jax.set_mesh(self._mesh):
            return sharding.to_host(self.program(params, sharding.split_rows(batch, self._mesh)))

    def _score(self, params: Params, batch: dict[str, jax.Array]) -> jax.Array:
        """The log-probability of every target, [B, T]."""
        model = self._blueprint.bind(params)
        table_VD = model.output_table()

        def of_chunk(chunk: tuple[jax.Array, jax.Array]) -> jax.Array:
            hidden_BPD, targets_BP = chunk
            logits_BPV = float32_product("BPD,VD->BPV", hidden_BPD, table_VD, model.config.dtype)
            return log_probabilities(sharding.place(logits_BPV, "batch", None, None), targets_BP)

        hidden_BTD, targets_BT = model(batch), batch["targets"]
        rows, length = targets_BT.shape
        positions = min(max(1, LOGITS // (4 * rows * self._vocab_size)), length)
        if positions == length:
            return of_chunk((hidden_BTD, targets_BT))
        found_CBP = jax.lax.map(of_chunk, (_in_chunks(hidden_BTD, positions), _in_chunks(targets_BT, positions)))
        found_BCP = jnp.moveaxis(found_CBP, 0, 1)
        return jnp.reshape(found_BCP, (rows, -1), out_sharding=sharding.like(found_BCP, 0, None))[:, :length]


def _in_chunks(array_BT: jax.Array, positions: int) -> jax.Array:
    """[C, B, P, ...] with so many positions P; the last chunk is filled up with zeros."""
    rows, length, *rest = array_BT.shape
    array_BT = jnp.pad(array_BT, ((0, 0), (0, -length % positions)) + ((0, 0),) * len(rest))
    split = sharding.like(array_BT, 0, None, None, *range(2, array_BT.ndim))
    return jnp.moveaxis(jnp.reshape(array_BT, (rows, -1, positions, *rest), out_sharding=split), 1, 0)


def _windows(sizes: Sequence[int], length: int, overlap: int) -> Iterator[_Window]:
    for text, size in enumerate(sizes):
        end = 0
        while end < size:
            begin = max(end - overlap, 0)
            new, end = end, min(begin + length, size)
            yield _Window(text, begin, new, end)

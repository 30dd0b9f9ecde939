"""A language model ready to go on with text, and to say how probable a text is. What `transformer.load` returns of one.

Letters: B rows, P prompt length, T tokens, C tokens of a chunk, V vocabulary.
"""

import dataclasses
import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from transformer import sharding
from transformer.config import Config
from transformer.data.tokenizer import BOS, EOS, PAD, TextStream, Tokenizer
from transformer.decoding.sampling import Sampling, draw
from transformer.evaluation.errors import EvaluationError
from transformer.model.blueprint import Blueprint, Params
from transformer.model.products import float32_product

# Prompts and room for new tokens are rounded up to powers of two from here on, so that few shapes are compiled.
SHORTEST_PROMPT, LEAST_ROOM = 16, 32
# Rows of a group of prompts: the least of these that holds it.
ROWS = (1, 8, 32)
# Tokens made between two looks of the host: one when they are wanted as they come.
CHUNK = 16
# Bytes of logits held at once when text is scored.
LOGITS = 2**28


@dataclasses.dataclass(frozen=True)
class Generated:
    """A continuation, without its prompt.

    Attributes:
      text: up to the end the model chose, a stop string (left out), or the limit.
      tokens: its ids, without EOS.
      log_probability: of these tokens, the end included when there is one, by the model's own distribution; nats.
      reason: "end", "stop" or "limit".
    """

    text: str
    tokens: list[int]
    log_probability: float
    reason: str


@dataclasses.dataclass(frozen=True)
class Scored:
    """How probable a text is: the log-probability of every token, its end included, in nats."""

    pieces: list[str]
    log_probabilities: np.ndarray
    num_bytes: int

    @property
    def perplexity(self) -> float:
        """A token's."""
        return math.exp(-float(np.mean(self.log_probabilities)))

    @property
    def bits_per_byte(self) -> float:
        """Of the text's UTF-8."""
        return -float(np.sum(self.log_probabilities)) / math.log(2) / max(self.num_bytes, 1)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _State:
    """Where a group of rows stands; donated from chunk to chunk."""

    last_B: jax.Array  # what the model is fed next
    column: jax.Array  # of the cache: tokens made since the prompt was read
    seen_BV: jax.Array
    cache: Any


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
        self._params = params
        self._mesh = mesh
        self._programs = _Programs(blueprint, tokenizer.size)
        self._longest = config.model.max_length if config.model.positions == "learned" else None

    def with_params(self, params: Params) -> "Generator":
        """The same with other parameters; compiles nothing again."""
        other = Generator.__new__(Generator)
        other.__dict__ = self.__dict__ | {"_params": params}
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

        The same prompt, seed and settings give the same text, whatever else is asked for.

        Args:
          max_tokens: the most of each.
          stop: strings that end a continuation.
          sampling: unset: from the model's own distribution.
          progress: called with the number of continuations finished since the last call.

        Raises:
          TypeError: for a single string, which would be taken for a list of letters.
        """
        if isinstance(prompts, str):
            raise TypeError(f"Give a list of prompts, such as [{prompts[:40]!r}], not one string.")
        rows = [self._row(ids, stop, seed, s) for ids in self.tokenizer.encode(list(prompts)) for s in range(samples)]
        order = sorted(range(len(rows)), key=lambda number: -len(rows[number].prompt))
        for first in range(0, len(order), ROWS[-1]):
            group = [rows[number] for number in order[first : first + ROWS[-1]]]
            for _ in self._run(group, max_tokens, sampling or Sampling(), CHUNK):
                pass
            progress(len(group))
        return [[row.result() for row in rows[i : i + samples]] for i in range(0, len(rows), samples)]

    def stream(
        self,
        prompt: str,
        *,
        max_tokens: int = 256,
        stop: Sequence[str] = (),
        sampling: Sampling | None = None,
        seed: int = 0,
    ) -> Iterator[str]:
        """The text of one continuation as it comes; together it is `generate`'s. Never a part of a character."""
        row = self._row(self.tokenizer.encode([prompt])[0], stop, seed, 0)
        for _ in self._run([row], max_tokens, sampling or Sampling(), 1):
            yield row.take()
        yield row.take()

    def _row(self, ids: Sequence[int], stop: Sequence[str], seed: int, sample: int) -> "_Row":
        own = zlib.crc32(np.asarray([seed, sample, *ids], np.int64).tobytes())
        return _Row(list(ids), own, tuple(text for text in stop if text), self.tokenizer.stream())

    def _run(self, rows: list["_Row"], max_tokens: int, sampling: Sampling, chunk: int) -> Iterator[None]:
        """Goes on with all rows until they have ended; yields after every chunk."""
        made = 0
        while made < max_tokens and not all(row.ended for row in rows):
            room = self._room(rows, max_tokens - made)
            arrays, capacity = self._arrays(rows, room, chunk)
            with jax.set_mesh(self._mesh):
                placed = sharding.to_global(self._own(arrays), self._mesh, ("batch", None))
                state = self._programs.start(self._params, placed, capacity)
            for begun in range(0, room, chunk):
                with jax.set_mesh(self._mesh):
                    state, found = self._programs.advance(
                        self._params, state, placed["seeds"], jnp.int32(made), chunk, sampling
                    )
                tokens_CB, gains_CB = (np.asarray(array) for array in sharding.to_host(found))
                used = min(chunk, room - begun)
                for number, row in enumerate(rows):
                    row.add(tokens_CB[:used, number].tolist(), gains_CB[:used, number].tolist())
                made += used
                yield
                if all(row.ended for row in rows):
                    break
        for row in rows:
            row.end()

    def _room(self, rows: list["_Row"], wanted: int) -> int:
        """How many tokens can follow before the learned positions end; prompts are shortened where none could."""
        if self._longest is None:
            return wanted
        for row in rows:
            if len(row.history) + 1 >= self._longest:
                # What is left of it is what the model can see while it writes half of its positions full.
                row.forget(self._longest // 2)
        return min(wanted, self._longest - max(len(row.history) + 1 for row in rows))

    def _arrays(self, rows: list["_Row"], room: int, chunk: int) -> tuple[dict[str, np.ndarray], int]:
        """The prompts without their last tokens, those, and the rows' seeds; and how many tokens are to fit behind."""
        shards = sharding.row_shards(self._mesh)
        count = -(-next(size for size in ROWS if size >= len(rows)) // shards) * shards
        length = _power(max(len(row.history) for row in rows), SHORTEST_PROMPT)
        prompt, segments = np.full((count, length), PAD, np.int32), np.zeros((count, length), np.int32)
        last, seeds = np.full((count, 1), BOS, np.int32), np.zeros((count, 1), np.uint32)
        for number, row in enumerate(rows):
            *before, last[number] = [BOS, *row.history] if row.from_start else row.history
            prompt[number, : len(before)], segments[number, : len(before)] = before, 1
            seeds[number] = row.seed
        capacity = _power(-(-room // chunk) * chunk, LEAST_ROOM)
        return {"prompt": prompt, "segments": segments, "last": last, "seeds": seeds}, capacity

    def _own(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        share = sharding.data_share(self._mesh)
        return {name: share.of(array) for name, array in arrays.items()}

    # --- scoring text ---

    def score(self, texts: Sequence[str]) -> list[Scored]:
        """The log-probability of every token of each text, and of its end.

        A text longer than the model was trained on (`config.data.pack_length`) is read in pieces of that length, each
        of which begins with the token before it, as in validation: its tokens know nothing of the pieces before.

        Raises:
          EvaluationError: for no text at all.
        """
        if not texts:
            raise EvaluationError("There is nothing to score: no text was given.")
        length = self.config.data.pack_length
        encoded = [[*ids, EOS] for ids in self.tokenizer.encode(list(texts))]
        pieces = [(text, begin) for text, ids in enumerate(encoded) for begin in range(0, len(ids), length)]
        found = [np.zeros(len(ids), np.float32) for ids in encoded]
        shards = sharding.row_shards(self._mesh)
        rows = max(LOGITS // (4 * length * self.tokenizer.size), 1)
        rows = -(-min(rows, len(pieces)) // shards) * shards
        for first in range(0, len(pieces), rows):
            group = pieces[first : first + rows]
            gains_BT = self._score_rows(encoded, group, rows, length)
            for (text, begin), gains_T in zip(group, gains_BT, strict=False):
                end = min(begin + length, len(encoded[text]))
                found[text][begin:end] = gains_T[: end - begin]
        return [
            Scored(self.tokenizer.pieces(ids), values, len(text.encode()))
            for text, ids, values in zip(texts, encoded, found, strict=True)
        ]

    def _score_rows(self, encoded: list[list[int]], group: list[tuple[int, int]], rows: int, length: int) -> np.ndarray:
        names = ("target_inputs", "targets", "target_segments", "target_positions", "target_prompt")
        batch = {name: np.zeros((rows, length), np.int32) for name in names}
        for row, (text, begin) in enumerate(group):
            ids = encoded[text]
            targets = ids[begin : begin + length]
            size = len(targets)
            batch["targets"][row, :size] = targets
            batch["target_inputs"][row, :size] = [ids[begin - 1] if begin else BOS, *targets[:-1]]
            batch["target_segments"][row, :size] = 1
            batch["target_positions"][row, :size] = np.arange(size)
        with jax.set_mesh(self._mesh):
            arrays = sharding.to_global(self._own(batch), self._mesh, ("batch", None))
            return sharding.to_host(self._programs.score(self._params, arrays))


class _Programs:
    """What is compiled, once for each shape and setting."""

    def __init__(self, blueprint: Blueprint, vocab_size: int):
        self._blueprint = blueprint
        self._vocab_size = vocab_size
        self.start = jax.jit(self._start, static_argnames="capacity")
        self.advance = jax.jit(self._advance, static_argnames=("chunk", "sampling"), donate_argnames="state")
        self.score = jax.jit(self._score)

    def _start(self, params: Params, arrays: dict[str, jax.Array], capacity: int) -> _State:
        """Reads the prompts, in one pass."""
        model = self._blueprint.bind(params)
        _, cache = model.start_decoding(arrays["prompt"], arrays["segments"], 1, capacity)
        # Padding stands in place of what is filled up: no token of text is it.
        all_BP = jnp.concatenate([arrays["prompt"], arrays["last"]], axis=1)
        seen_BV = jnp.any(jax.nn.one_hot(all_BP, self._vocab_size, dtype=jnp.bool_), axis=1)
        return _State(arrays["last"][:, 0], jnp.int32(0), seen_BV, cache)

    def _advance(
        self, params: Params, state: _State, seeds_B1: jax.Array, made: jax.Array, chunk: int, sampling: Sampling
    ) -> tuple[_State, tuple[jax.Array, jax.Array]]:
        """`chunk` tokens more of every row: [C, B], and their log-probabilities."""
        model = self._blueprint.bind(params)
        step = model.step_of(model.decoder.unstacked(), 1)
        capacity = state.cache.own[0].keys_BKCH.shape[2] - state.cache.prompt_BP.shape[1]
        slots_B1T = sharding.place(jnp.zeros((len(state.last_B), 1, capacity), jnp.int32), "batch", None, None)

        def turn(state: _State, number: jax.Array):
            logits_B1V, cache = step(state.last_B[:, None], state.column, slots_B1T, state.cache)
            # Rows hold no BOS, and padding ends nothing.
            logits_BV = sharding.place(logits_B1V, "batch", None, None)[:, 0].at[:, jnp.array([PAD, BOS])].set(-jnp.inf)
            tokens_B = draw(logits_BV, state.seen_BV, seeds_B1[:, 0], made + number, sampling)
            chosen_BV = tokens_B[:, None] == jnp.arange(logits_BV.shape[-1])[None]
            gains_B = jnp.sum(jnp.where(chosen_BV, logits_BV, 0), axis=-1) - jax.nn.logsumexp(logits_BV, axis=-1)
            after = _State(tokens_B, state.column + 1, state.seen_BV | chosen_BV, cache)
            return after, (tokens_B, gains_B)

        return jax.lax.scan(turn, state, jnp.arange(chunk))

    def _score(self, params: Params, batch: dict[str, jax.Array]) -> jax.Array:
        """The log-probability of every target, [B, T]."""
        model = self._blueprint.bind(params)
        logits_BTV = float32_product("BTD,VD->BTV", model(batch), model.output_table(), model.config.dtype)
        logits_BTV = sharding.place(logits_BTV, "batch", None, None)
        chosen_BTV = batch["targets"][:, :, None] == jnp.arange(self._vocab_size)[None, None]
        return jnp.sum(jnp.where(chosen_BTV, logits_BTV, 0), axis=-1) - jax.nn.logsumexp(logits_BTV, axis=-1)


class _Row:
    """One continuation as it grows. `history`: what the model sees of prompt and continuation."""

    def __init__(self, prompt: list[int], seed: int, stop: tuple[str, ...], stream: TextStream):
        self.prompt = prompt
        self.history = list(prompt)
        self.from_start = True
        self.seed = seed
        self.reason = "limit"
        self.ended = False
        self._stop = stop
        self._stream = stream
        self._text = ""
        self._taken = 0
        self._tokens: list[int] = []
        self._log_probability = 0.0

    def add(self, tokens: Sequence[int], gains: Sequence[float]) -> None:
        """What was drawn next; nothing after the end."""
        for token, gain in zip(tokens, gains, strict=True):
            if self.ended:
                return
            self._log_probability += gain
            if token == EOS:
                self.ended, self.reason = True, "end"
                return
            self._tokens.append(token)
            self.history.append(token)
            self._text += self._stream.add(token)
            self._look_for_stop()

    def end(self) -> None:
        """There is no more."""
        if self.reason != "stop":
            self._text += self._stream.end()
            self._look_for_stop()
        self.ended = True

    def forget(self, kept: int) -> None:
        """Leaves the model only the last tokens to see."""
        self.history = self.history[-kept:]
        self.from_start = False

    def take(self) -> str:
        """The text that is certain and was not taken before: what may be the beginning of a stop string is not."""
        held = 0
        if not self.ended:
            for text in self._stop:
                begun = (size for size in range(len(text) - 1, 0, -1) if self._text.endswith(text[:size]))
                held = max(held, next(begun, 0))
        certain = self._text[self._taken : len(self._text) - held]
        self._taken += len(certain)
        return certain

    def result(self) -> Generated:
        return Generated(self._text, self._tokens, self._log_probability, self.reason)

    def _look_for_stop(self) -> None:
        places = [place for place in (self._text.find(text) for text in self._stop) if place >= 0]
        if places:
            self._text = self._text[: min(places)]
            self.ended, self.reason = True, "stop"


def _power(number: int, least: int) -> int:
    """The least power of two that is at least both."""
    return max(least, 2 ** math.ceil(math.log2(max(number, 1))))

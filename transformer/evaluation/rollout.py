"""Going on with several texts at once, in few shapes: prompts are read in one pass, then one cached step a token.

Letters: B rows, N tokens made at once, V vocabulary.
"""

import math
from collections.abc import Iterator, Sequence

import jax
import numpy as np
from jax.sharding import Mesh

from transformer import sharding
from transformer.config import ModelConfig
from transformer.data.tokenizer import BOS, PAD
from transformer.decoding.sampling import Sampling
from transformer.evaluation import shapes
from transformer.evaluation.continuation import Continuation
from transformer.evaluation.rollout_programs import CHUNK, RolloutPrograms
from transformer.model import blueprint as blueprints
from transformer.model.blueprint import Blueprint, Params
from transformer.model.decoding_weights import DecodingWeights, in_precision

# Rows of a group: the least of these that holds it.
ROWS = (1, 8, 32)
# Lengths of prompts and room for new tokens: powers of two from here on.
SHORTEST_PROMPT, LEAST_ROOM = 16, 32
# Prompts are read together while rows * length^2, padding included, is at most this: so attention's memory grows.
READ_TOGETHER = 32 * 512**2


class Rollout:
    """Compiles once for each shape and kind of draw.

    Args:
      blueprint: the model's shape.
      config: the network.
      vocab_size: its pieces.
      mesh: where it runs.
    """

    def __init__(self, blueprint: Blueprint, config: ModelConfig, vocab_size: int, mesh: Mesh):
        self._mesh = mesh
        self._vocab_size = vocab_size
        # Where learned positions end.
        self.longest = config.max_length if config.positions == "learned" else None
        self.programs = RolloutPrograms(in_precision(blueprint, "model"))
        # How many numbers a step reads: those of the model, and of the cache so many for every column.
        self._model_size = blueprints.count(blueprint.shapes())
        heads_sizes = config.key_value_heads * (config.key_size + config.value_size)
        self._column_size = config.num_decoder_layers * heads_sizes

    def prepare(self, params: Params) -> DecodingWeights:
        """What `run` takes."""
        with jax.set_mesh(self._mesh):
            return self.programs.prepare(params)

    def groups(self, texts: Sequence[Continuation]) -> Iterator[list[Continuation]]:
        """Texts to be gone on with together: of similar length, the longest first."""
        rest = sorted(texts, key=lambda text: -len(text.visible))
        while rest:
            length = shapes.power_of_two(len(rest[0].visible), SHORTEST_PROMPT)
            prompts = max((size for size in ROWS if size * length**2 <= READ_TOGETHER), default=1)
            group, read = [], set()
            for text in rest[: ROWS[-1]]:
                read.add(tuple(text.visible))
                if len(read) > prompts:
                    break
                group.append(text)
            yield group
            rest = rest[len(group) :]

    def run(
        self,
        weights: DecodingWeights,
        texts: Sequence[Continuation],
        max_tokens: int,
        sampling: Sampling,
        chunk: int = CHUNK,
    ) -> Iterator[None]:
        """Goes on with the texts, at most `ROWS[-1]` of them, until each has ended or has `max_tokens` more.

        Yields after every `chunk` tokens, of which there are at most `CHUNK`.
        """
        made = 0
        while made < max_tokens and (going := [text for text in texts if not text.ended]):
            room = self._room(going, max_tokens - made)
            for count in self._go_on(weights, going, made, room, sampling, chunk):
                made += count
                yield
        for text in texts:
            text.close()

    def _room(self, texts: Sequence[Continuation], wanted: int) -> int:
        """How many tokens can follow before the learned positions end.

        A text that reached their end is read again from its last half, from position 0, as a later piece of a long
        document is in training: when that is depends on its own length alone.
        """
        if self.longest is None:
            return wanted
        for text in texts:
            if len(text.visible) > self.longest:
                text.forget(max(self.longest // 2, 1))
        # The last token drawn need not be fed.
        return min(wanted, self.longest + 1 - max(len(text.visible) for text in texts))

    def _go_on(
        self,
        weights: DecodingWeights,
        texts: Sequence[Continuation],
        made: int,
        room: int,
        sampling: Sampling,
        chunk: int,
    ) -> Iterator[int]:
        """`room` tokens more of all texts, or until they have ended: how many at a time."""
        rows = shapes.rows(len(texts), ROWS, self._mesh)
        capacity = self._capacity(rows, room)
        values = sampling.values()
        with jax.set_mesh(self._mesh):
            prompts, of_rows = self._place(_prompts(texts, self._mesh)), self._place(_of_rows(texts, rows))
            seen_BV = self._place({"seen": self._seen(texts, rows)})["seen"] if sampling.looks_back else None
            state = self.programs.start(weights, prompts, of_rows, seen_BV, capacity=capacity)
        done = 0
        while done < room and not all(text.ended for text in texts):
            wanted = min(chunk, room - done, capacity - done)
            ended_B1 = np.ones((rows, 1), bool)
            ended_B1[: len(texts), 0] = [text.ended for text in texts]
            with jax.set_mesh(self._mesh):
                ended = self._place({"ended": ended_B1})["ended"]
                numbers = np.array([made + done, wanted], np.int32)
                state, found = self.programs.advance(weights, state, of_rows["seeds"], ended, numbers, values)
                found = sharding.to_host(found)
            count = int(found.count)
            for number, text in enumerate(texts):
                text.add(found.tokens_NB[:count, number].tolist(), found.log_probabilities_NB[:count, number].tolist())
            done += count
            yield count
            if done == capacity < room:
                with jax.set_mesh(self._mesh):
                    state = self.programs.grow(state, columns=capacity)
                capacity *= 2

    def _capacity(self, rows: int, room: int) -> int:
        """Columns for new tokens to begin with: all, or as many as a step reads in the time that it reads the model.

        Every step reads all columns, filled or not; what is reserved beyond is doubled when it is full.
        """
        affordable = self._model_size // (self._column_size * rows)
        return min(shapes.power_of_two(room, LEAST_ROOM), max(LEAST_ROOM, 2 ** int(math.log2(max(affordable, 1)))))

    def _seen(self, texts: Sequence[Continuation], rows: int) -> np.ndarray:
        """Which tokens each row has had, those too that the model no longer sees."""
        seen_BV = np.zeros((rows, self._vocab_size), bool)
        for row, text in enumerate(texts):
            seen_BV[row, sorted(text.seen)] = True
        return seen_BV

    def _place(self, arrays: dict[str, np.ndarray]) -> dict[str, jax.Array]:
        return sharding.split_rows(arrays, self._mesh)


def _different(texts: Sequence[Continuation]) -> list[tuple[int, ...]]:
    """What is read before the last token, which is fed to the first step: each prompt once, whatever its samples."""
    return list(dict.fromkeys(tuple(text.visible[:-1]) for text in texts))


def _prompts(texts: Sequence[Continuation], mesh: Mesh) -> dict[str, np.ndarray]:
    """Those prompts, filled up: `tokens` and `segments`."""
    prompts = _different(texts)
    length = shapes.power_of_two(max(map(len, prompts)), SHORTEST_PROMPT)
    shape = (shapes.rows(len(prompts), ROWS, mesh), length)
    tokens, segments = np.full(shape, PAD, np.int32), np.zeros(shape, np.int32)
    for number, prompt in enumerate(prompts):
        tokens[number, : len(prompt)], segments[number, : len(prompt)] = prompt, 1
    return {"tokens": tokens, "segments": segments}


def _of_rows(texts: Sequence[Continuation], rows: int) -> dict[str, np.ndarray]:
    """Of every row the token that is fed first, the number of its prompt, and its seed."""
    numbers = {prompt: number for number, prompt in enumerate(_different(texts))}
    last, prompt = np.full((rows, 1), BOS, np.int32), np.zeros((rows, 1), np.int32)
    seeds = np.zeros((rows, 1), np.uint32)
    for row, text in enumerate(texts):
        last[row], prompt[row], seeds[row] = text.visible[-1], numbers[tuple(text.visible[:-1])], text.seed
    return {"last": last, "prompt": prompt, "seeds": seeds}

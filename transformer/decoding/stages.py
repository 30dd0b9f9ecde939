"""A search in stages: the same steps as in one loop, stopped where the rest is better done in other shapes.

Between two stages whoever runs them may give the cache more columns, so that the first steps need not look at those
that only the last ones fill, and may leave sentences out that are done. Neither changes what is found.

Shapes: B sentences, K hypotheses, T longest output.
"""

from typing import Any, Protocol

import jax
import jax.numpy as jnp

from transformer.decoding.step import Cache, Hypotheses, Step

State = Any  # a pytree with the attributes position, done_B and cache, all arrays but the first by sentence


class Strategy(Protocol):
    """A search by single steps. Hashable."""

    @property
    def slots(self) -> int:
        """K, of the step function."""

    def start(self, cache: Cache, max_lengths_B: jax.Array, max_length: int) -> State:
        """Before the first token. `cache` is the step function's; `max_lengths_B` and `max_length` as `beam_search`'s.

        Raises:
          ValueError: for a length below 1.
        """

    def advance(self, step: Step, state: State, width: int) -> State:
        """One token further. The position is below `width`, for so many tokens there is room in the cache."""

    def result(self, state: State) -> Hypotheses:
        """What is found when the search ends here. Of sentences that are done it no longer changes."""


def search(strategy: Strategy, step: Step, cache: Cache, max_lengths_B: jax.Array, max_length: int) -> Hypotheses:
    """All of it, in a single stage."""
    start = strategy.start(cache, max_lengths_B, max_length)
    return strategy.result(stage(strategy, step, start, max_length))


def stage(strategy: Strategy, step: Step, state: State, width: int, few: int | jax.Array = 0) -> State:
    """Goes on until no more than `few` sentences are open, or outputs are `width` tokens long."""

    def goes_on(state: State) -> jax.Array:
        return (jnp.sum(~state.done_B) > few) & (state.position < width)

    return jax.lax.while_loop(goes_on, lambda state: strategy.advance(step, state, width), state)


def of_rows(state: State, rows_B: jax.Array) -> State:
    """The state of these sentences alone, which may be fewer, or the same one several times."""

    def taken(leaf_BX: jax.Array) -> jax.Array:
        split = jax.typeof(leaf_BX).sharding
        return leaf_BX.at[rows_B].get(mode="promise_in_bounds", out_sharding=None if split.mesh.empty else split)

    return jax.tree.map(lambda leaf: leaf if leaf.ndim == 0 else taken(leaf), state)


def check_length(max_length: int) -> None:
    """Raises ValueError unless outputs may have a token."""
    if max_length < 1:
        raise ValueError(f"max_length = {max_length}: outputs have at least 1 token.")

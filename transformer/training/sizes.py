"""How much of a run there is: what trains, of how much, and what the optimizer keeps for it."""

import dataclasses
from typing import Any, Self

import jax

from transformer.model.blueprint import count
from transformer.training.step import Trainer


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Of all devices together, copies counted once.

    Attributes:
      parameters: the model's, and those of adapters.
      trained: how many of them train.
      optimizer_bytes: of the optimizer's state.
    """

    parameters: int
    trained: int
    optimizer_bytes: int

    @classmethod
    def of(cls, trainer: Trainer) -> Self:
        """Of a run's trainer; nothing is computed."""
        state = trainer.abstract_state()
        trained = jax.eval_shape(trainer.trainable.trained, state.params)
        return cls(count(state.params), count(trained), _bytes(state.optimizer))

    def __str__(self) -> str:
        return (
            f"{self.parameters:,} parameters, {self.trained:,} of them train ({self.trained / self.parameters:.2%}); "
            f"the optimizer keeps {self.optimizer_bytes / 1e6:,.1f} MB"
        )


def _bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))

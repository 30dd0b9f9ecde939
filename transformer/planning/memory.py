"""What lies in a chip's memory during a step, by kind, against what there is.

Parameters, optimizer state, averages and batch follow from shapes and shardings. The rest is the compiler's: what it
keeps of activations and gradients and needs to work (its temporaries), results that do not take the place of an
argument, and the program itself.
"""

import dataclasses
import math
from typing import Any

import jax

from transformer.config import Config
from transformer.planning.errors import DoesNotFitError

# What the TPU's own software keeps: of a v5e's 16 GiB the compiler gives away 15.75.
RESERVED = 2**28


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes on the fullest chip."""

    parameters: int
    optimizer: int
    average: int
    batch: int
    temporaries: int
    outputs: int
    program: int

    @classmethod
    def of(cls, state: Any, batch: Any, sizes: Any) -> "Memory":
        """Of a training state and a batch, as shapes with shardings, and XLA's CompiledMemoryStats."""
        return cls(
            parameters=on_a_chip(state.params),
            optimizer=on_a_chip(state.optimizer),
            average=on_a_chip(state.ema),
            batch=on_a_chip(batch),
            temporaries=sizes.temp_size_in_bytes,
            outputs=max(sizes.output_size_in_bytes - sizes.alias_size_in_bytes, 0),
            program=sizes.generated_code_size_in_bytes,
        )

    @property
    def total(self) -> int:
        return sum(dataclasses.astuple(self))

    @property
    def state(self) -> int:
        """What does not depend on the batch."""
        return self.parameters + self.optimizer + self.average

    def check(self, config: Config, hbm_bytes: float) -> None:
        """Raises DoesNotFitError when a chip with so much memory has too little.

        The compiler refuses temporaries that do not fit, but does not add what lies in memory besides.
        """
        available = hbm_bytes - RESERVED
        if self.total > available:
            helpful = advice(config, self.state, self.total - self.state, available)
            raise DoesNotFitError(self.total, available, self.state, helpful)


def on_a_chip(tree: Any) -> int:
    """Bytes of one device's parts of arrays."""
    return sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def of_packed_rows(config: Config) -> bool:
    """Whether rows hold several examples. Those of a language model always do."""
    return config.data.batching == "packing" or config.model.architecture == "language_model"


def advice(
    config: Config, fixed: float, temporaries: float, available: float, *, splits: bool = True
) -> tuple[str, ...]:
    """What would make a step fit that does not, what helps most first.

    Args:
      fixed: bytes of parameters, optimizer state and averages.
      temporaries: bytes of activations and all else that the batch makes.
      available: bytes of a chip.
      splits: whether there are chips to split parameters and optimizer state over.
    """
    smaller = "A smaller model: parameters and optimizer state alone are too much."
    split = (
        "Parameters and optimizer state: raise --config.mesh.fsdp, which splits them, or --config.mesh.tensor, which "
        "splits activations too."
    )
    less = {"none": ("all_but_products, or all",), "all_but_products": ("all",), "all": ()}[config.model.remat]
    kept = [f"Keep less for the backward pass: --config.model.remat={values}." for values in less]
    parts = (
        f"Take the batch in parts: --config.training.accumulate={2 * config.training.parts}, or more; "
        "--config.data.rows_multiple_of must be a multiple of it."
    )
    rows = "pack_length" if of_packed_rows(config) else "max_length"
    batch = f"Take a smaller batch, --config.data.batch_tokens, or shorter rows, --config.data.{rows}."
    of_batch = [*kept, parts, batch]
    if fixed > available:
        return (split,) if splits else (smaller,)
    if not splits:
        return tuple(of_batch)
    if fixed > temporaries:
        return (split, *of_batch)
    return (*of_batch, split) if fixed > available / 10 else tuple(of_batch)

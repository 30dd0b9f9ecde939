"""What computes the heads of an attention: chosen by platform, and by what is asked.

- xla: two products and a softmax between, in main memory: `MultiHeadAttention.weights`. Everything, everywhere.
- splash: see splash.py. For TPUs.
- cudnn: see cudnn.py. For GPUs.
- blockwise: see blockwise.py. For long sequences, everywhere.

docs/attention.md has a table of what each can do; kernel_choice.py says it at the start of a run.

Letters: B batch, T query length, S key length, N heads, K key-value heads, H head size.
"""

import dataclasses

import jax

from transformer import sharding
from transformer.config import ModelConfig
from transformer.config.kernels import FUSED, obstacles
from transformer.model import blockwise, cudnn
from transformer.model.masks import Causal, Chunk, Mask, Padding, Places, SameSegment, Window, parts

# "auto" leaves what has fewer queries or keys to XLA. By the compiled program of a TPU, from here on splash moves fewer
# bytes, see docs/attention.md. Of GPUs nothing is known: the same.
SHORTEST = 256
# On a CPU of 2 cores blockwise took 0.5 to 1.6 times the time of xla for output and gradients of 512 positions (more
# rows: slower), 0.5 to 0.7 times for 1,024, 0.3 to 0.6 for 2,048, 0.2 to 0.4 for 4,096 (8 heads of 64, rows of one
# example; benchmarks/long_inputs.py). xla's scores of a row are 32 MB at 1,024 positions, all of the last cache.
SHORTEST_BLOCKWISE = 1024
# On others it was not timed, and small blocks keep few of their units busy. Here memory speaks: the scores of a row of
# 8 heads are 512 MB in float32, which xla keeps for the backward pass of each layer.
SHORTEST_BLOCKWISE_ELSEWHERE = 4096

# Masks that are about positions, and all that splash knows.
_OF_POSITIONS = (Causal, Window, Chunk)
_SPLASH = (SameSegment, Padding, *_OF_POSITIONS)


@dataclasses.dataclass(frozen=True)
class Call:
    """Who asks to see whom. `own`: queries and keys are of one sequence."""

    mask: Mask
    queries: Places
    keys: Places
    own: bool

    @property
    def lengths(self) -> tuple[int, int]:
        return self.queries.positions_BT.shape[1], self.keys.positions_BT.shape[1]

    @property
    def has_columns(self) -> bool:
        """Whether for all that may see each other positions differ by as much as columns, which kernels count."""
        length, key_length = self.lengths
        aligned = self.own and self.queries.contiguous and self.keys.contiguous and length == key_length
        return aligned and SameSegment() in parts(self.mask)

    @property
    def causal(self) -> bool:
        """Whether no column after its own is seen by a query."""
        return self.has_columns and Causal() in parts(self.mask)


def serves(kernel: str, call: Call) -> bool:
    """Whether one of `FUSED` can do what is asked. None decodes: there the queries are a token of each hypothesis."""
    if not call.queries.contiguous:
        return False
    if kernel == "cudnn":
        return True
    if kernel == "blockwise":
        return blockwise.knows(call.mask)
    kinds = {type(part) for part in parts(call.mask)}
    return kinds <= {*_SPLASH} and (call.has_columns or kinds.isdisjoint(_OF_POSITIONS))


@dataclasses.dataclass(frozen=True)
class Kernels:
    """What may compute an attention by its config.

    Attributes:
      fused: those of `FUSED` that may.
      named: whether it is the config that names one, for any length.
    """

    fused: tuple[str, ...]
    named: bool

    @classmethod
    def of(cls, config: ModelConfig, role: str) -> "Kernels":
        asked = {"auto": tuple(FUSED), "xla": ()}.get(config.kernel, (config.kernel,))
        fused = tuple(kernel for kernel in asked if not obstacles(kernel, config, role))
        return cls(fused, config.kernel != "auto")

    def choose(self, call: Call) -> str:
        """The kernel for what is asked. Where the platform is not that of the kernel that is forced: xla.

        So parameters go anywhere; that a run's platform is the right one is checked at its start.
        """
        platform = sharding.platform()
        for kernel in on(platform):
            long = self.named or min(call.lengths) >= shortest(kernel, platform)
            if kernel in self.fused and long and serves(kernel, call):
                return kernel
        return "xla"


def on(platform: str) -> tuple[str, ...]:
    """Those of `FUSED` that run there, the best first."""
    here = [kernel for kernel, where in FUSED.items() if where in (platform, None)]
    return tuple(kernel for kernel in here if not (kernel == "cudnn" and cudnn.missing()))


def shortest(kernel: str, platform: str) -> int:
    """The number of queries, and of keys, from which on "auto" takes one of `FUSED`."""
    if kernel != "blockwise":
        return SHORTEST
    return SHORTEST_BLOCKWISE if platform == "cpu" else SHORTEST_BLOCKWISE_ELSEWHERE


def attend(
    kernel: str, q_BTNH: jax.Array, keys_BSKH: jax.Array, values_BSKH: jax.Array, call: Call, soft_cap: float
) -> jax.Array:
    """What each query finds, by one of `FUSED` that serves the call: [B, T, N, H of the values]."""
    arrays = (q_BTNH, keys_BSKH, values_BSKH, call.mask, call.queries, call.keys)
    if kernel == "cudnn":
        return cudnn.attend(*arrays, causal=call.causal)
    if kernel == "blockwise":
        return blockwise.attend(*arrays, soft_cap=soft_cap)
    # Pallas takes a sixth of a second to import: not where there is no TPU.
    from transformer.model import splash

    return splash.attend(*arrays, soft_cap=soft_cap)

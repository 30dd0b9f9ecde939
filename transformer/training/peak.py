"""The most these devices can do: the measured rate of a large matrix product, the denominator of utilisation.

Measured rather than looked up: no table knows the processor of a laptop, or a chip that came later. It is a product as
the model makes them: float32 at JAX's default precision, or bfloat16 factors with a float32 result.
"""

import dataclasses
import functools
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

SMALLEST, LARGEST = 1024, 8192
# A product this long hides what it costs to start it.
LONG_ENOUGH = 0.01
BUDGET = 0.3


@dataclasses.dataclass(frozen=True)
class Peak:
    """FLOP/s of all devices of a mesh together."""

    flops: float
    dtype: str
    device_kind: str
    multiplied_by: int

    def __str__(self) -> str:
        devices = f"{self.multiplied_by} x {self.device_kind}"
        return f"{self.flops / 1e12:.3g} TFLOP/s in {self.dtype} ({devices}, measured)"


def measure(dtype: str, devices: Sequence[jax.Device]) -> Peak:
    """Measures for about a third of a second: one chip for all, or all devices of this process' CPU together.

    Those are slices of one machine, made by a flag; whether a product on one of them uses every core is another flag.
    Other processes' CPU devices are not counted: they may be on this machine or on others.
    """
    own = [device for device in devices if device.process_index == jax.process_index()]
    on_cpu = own[0].platform == "cpu"
    multiplied_by = 1 if on_cpu else len(devices)
    flops = _product_rate(dtype, own if on_cpu else own[:1])
    return Peak(flops * multiplied_by, dtype, own[0].device_kind, multiplied_by)


def _product_rate(dtype: str, devices: Sequence[jax.Device]) -> float:
    """FLOP/s of the best of many square products, of one on each device at a time."""
    # A mesh of their own: inside the mesh of the run, arrays on other devices are refused.
    mesh = jax.make_mesh((len(devices),), ("each",), devices=devices)

    @jax.jit
    @functools.partial(jax.shard_map, mesh=mesh, in_specs=P("each"), out_specs=P("each"))
    def product(x_1ij: jax.Array) -> jax.Array:
        return jnp.einsum("ij,jk->ik", x_1ij[0], x_1ij[0], preferred_element_type=jnp.float32)[None]

    def seconds(x_Dij: jax.Array) -> float:
        began = time.perf_counter()
        product(x_Dij).block_until_ready()
        return time.perf_counter() - began

    with jax.set_mesh(mesh):
        size = SMALLEST
        while True:
            where = NamedSharding(mesh, P("each"))
            x_Dij = jnp.full((len(devices), size, size), 1 / size, dtype, device=where)
            seconds(x_Dij)
            least = seconds(x_Dij)
            if least >= LONG_ENOUGH or size == LARGEST:
                break
            size *= 2
        deadline = time.perf_counter() + BUDGET
        while time.perf_counter() < deadline:
            least = min(least, seconds(x_Dij))
    return len(devices) * 2 * size**3 / least

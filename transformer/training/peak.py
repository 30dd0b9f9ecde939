"""The most these devices can do: the measured rate of a large matrix product, the denominator of utilisation.

Measured rather than looked up: no table knows the processor of a laptop, or a chip that came later. It is a product as
the model makes them: float32 at JAX's default precision, or bfloat16 factors with a float32 result.
"""

import dataclasses
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp

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
    """Measures one of `devices` for about a third of a second, and multiplies by their number.

    CPU devices are not multiplied: those of one process are slices of the same machine, made by a flag, and a product
    on any one of them already uses every core.
    """
    device = next(device for device in devices if device.process_index == jax.process_index())
    multiplied_by = 1 if device.platform == "cpu" else len(devices)
    # A mesh of its own: inside the mesh of the run, arrays on a single device are refused.
    with jax.set_mesh(jax.make_mesh((1,), ("one",), devices=[device])):
        flops = _product_rate(dtype)
    return Peak(flops * multiplied_by, dtype, device.device_kind, multiplied_by)


def _product_rate(dtype: str) -> float:
    """FLOP/s of the best of many square products."""
    product = jax.jit(lambda x_ij, y_jk: jnp.einsum("ij,jk->ik", x_ij, y_jk, preferred_element_type=jnp.float32))
    size = SMALLEST
    while True:
        x_ij = jnp.full((size, size), 1 / size, dtype)
        product(x_ij, x_ij).block_until_ready()
        seconds = _time(product, x_ij)
        if seconds >= LONG_ENOUGH or size == LARGEST:
            break
        size *= 2
    deadline = time.perf_counter() + BUDGET
    while time.perf_counter() < deadline:
        seconds = min(seconds, _time(product, x_ij))
    return 2 * size**3 / seconds


def _time(product, x_ij: jax.Array) -> float:
    start = time.perf_counter()
    product(x_ij, x_ij).block_until_ready()
    return time.perf_counter() - start

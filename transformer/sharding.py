"""Logical axis names -> mesh axes; the mesh; host batches -> global arrays.

Every array's dimensions have names ("batch", "heads", ...). `Rules` says which mesh axes a name is split over, once for
arrays at rest (parameters, optimizer state) and once for arrays in use. Explicit sharding (`jax.make_mesh`'s default)
makes these splits part of the types, so a wrong one is an error while tracing, on a 1x1x1 mesh as on a pod. There is
one way to run a step: `jax.jit` over arrays that carry their sharding (what `pjit` was).

Without a mesh (a notebook, a unit test) every function here is the identity.
"""

import dataclasses
import math
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from transformer.config import ConfigError, MeshConfig, ModelConfig

AXES = ("data", "fsdp", "tensor")


@dataclasses.dataclass(frozen=True)
class Rules:
    """Which mesh axes each logical axis is split over. Names not listed are never split."""

    batch: tuple[str, ...] = ("data", "fsdp")
    embed: tuple[str, ...] = ("fsdp",)
    heads: tuple[str, ...] = ("tensor",)
    feed_forward: tuple[str, ...] = ("tensor",)
    vocabulary: tuple[str, ...] = ("tensor",)

    def spec(self, names: tuple[str | None, ...]) -> PartitionSpec:
        """The partition of an array whose dimensions have these names.

        Raises:
          ValueError: when two dimensions would be split over the same mesh axis.
        """
        axes = [getattr(self, name) if name not in (None, "layers") else None for name in names]
        used = [axis for entry in axes if entry for axis in entry]
        if len(used) != len(set(used)):
            raise ValueError(f"Axes {names} map to mesh axes {axes}: one mesh axis cannot split two dimensions.")
        return PartitionSpec(*axes)


# A parameter's "embed" is split over fsdp where it is stored, and whole where it is used (ZeRO-3: gathered just before,
# its gradient reduce-scattered just after). Activations' "embed" is never split.
STORED = Rules()
USED = dataclasses.replace(STORED, embed=())


def _mesh_is_set() -> bool:
    return not jax.sharding.get_abstract_mesh().empty


def used(*names: str | None) -> PartitionSpec | None:
    """The `out_sharding` of a result in use with these dimension names; None without a mesh."""
    return USED.spec(names) if _mesh_is_set() else None


def gather(parameter: jax.Array, names: tuple[str | None, ...]) -> jax.Array:
    """A stored parameter as the computation wants it: whole along fsdp, still split along tensor."""
    return jax.sharding.reshard(parameter, USED.spec(names)) if _mesh_is_set() else parameter


def place(array: jax.Array, *names: str | None) -> jax.Array:
    """`array` resharded for use; the identity when it already is."""
    return jax.sharding.reshard(array, USED.spec(names)) if _mesh_is_set() else array


def platform() -> str:
    """The platform of the mesh being traced for (which may be absent from this machine), else JAX's default."""
    device = jax.sharding.get_abstract_mesh().abstract_device if _mesh_is_set() else None
    return device.platform if device is not None else jax.default_backend()


def make_mesh(config: MeshConfig, devices: list[jax.Device] | None = None) -> Mesh:
    """The mesh of `config` over all devices (or those given).

    Raises:
      ConfigError: when the sizes do not multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    sizes = [config.data, config.fsdp, config.tensor]
    fixed = math.prod(size for size in sizes if size != -1)
    count = len(devices)
    text = " x ".join(f"{axis}={size}" for axis, size in zip(AXES, sizes, strict=True))
    if count % fixed or (-1 not in sizes and fixed != count):
        raise ConfigError(
            "mesh",
            tuple(sizes),
            f"{text} needs {'a multiple of ' if -1 in sizes else ''}{fixed} devices, there are {count}",
            "Change the sizes, or set one of them to -1 for what is left.",
        )
    sizes = [count // fixed if size == -1 else size for size in sizes]
    return jax.make_mesh(tuple(sizes), AXES, devices=devices)


def check_batch(mesh: Mesh, rows_multiple_of: int, accumulate: int) -> None:
    """Raises ConfigError unless every part of every batch can be split over the mesh."""
    shards = mesh.shape["data"] * mesh.shape["fsdp"]
    if rows_multiple_of % (shards * accumulate):
        raise ConfigError(
            "data.rows_multiple_of",
            rows_multiple_of,
            f"batches are split over data * fsdp = {shards} devices and training.accumulate = {accumulate} parts",
            f"Set it to a multiple of {shards * accumulate}.",
        )


def check_model(mesh: Mesh, model: ModelConfig, vocab_sizes: tuple[int, ...]) -> None:
    """Raises ConfigError unless the parameters can be split over the mesh."""
    split = [("fsdp", f"model.d_model = {model.d_model}", model.d_model)]
    split += [("tensor", f"model.num_heads = {model.num_heads}", model.num_heads)]
    split += [("tensor", f"model.d_ff = {model.d_ff}", model.d_ff)]
    split += [("tensor", f"the vocabulary of {size} pieces", size) for size in vocab_sizes]
    for axis, what, size in split:
        if size % mesh.shape[axis]:
            raise ConfigError(f"mesh.{axis}", mesh.shape[axis], f"does not divide {what}", "Change one of them.")


def stored_shardings(mesh: Mesh, names: Any) -> Any:
    """NamedShardings at rest for a pytree of dimension names (tuples)."""
    return jax.tree.map(
        lambda axes: NamedSharding(mesh, STORED.spec(axes)), names, is_leaf=lambda leaf: isinstance(leaf, tuple)
    )


def to_global(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """This process' rows of a batch as global arrays, split by rows over data and fsdp."""
    sharding = NamedSharding(mesh, USED.spec(("batch", None)))
    return {name: jax.make_array_from_process_local_data(sharding, rows) for name, rows in batch.items()}

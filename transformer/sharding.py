"""Logical axis names -> mesh axes; the mesh; host batches -> global arrays.

Every array's dimensions have names ("batch", "heads", ...). `Rules` says which mesh axes a name is split over, once for
arrays at rest (parameters, optimizer state) and once for arrays in use. Explicit sharding (`jax.make_mesh`'s default)
makes these splits part of the types, so a wrong one is an error while tracing, on a 1x1x1 mesh as on a pod. There is
one way to run a step: `jax.jit` over arrays that carry their sharding (what `pjit` was).

Without a mesh (a notebook, a unit test) every function here splits nothing.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import mesh_utils, multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from transformer.config import ConfigError, DataConfig, MeshConfig, ModelConfig

# From the outermost, between whose neighbours the wires are slowest, to the innermost.
AXES = ("slices", "data", "fsdp", "sequence", "tensor")


@dataclasses.dataclass(frozen=True)
class Rules:
    """Which mesh axes each logical axis is split over. None as a name: never split."""

    batch: tuple[str, ...] = ("slices", "data", "fsdp")
    length: tuple[str, ...] = ("sequence",)
    embed: tuple[str, ...] = ("fsdp",)
    features: tuple[str, ...] = ()
    heads: tuple[str, ...] = ("tensor",)
    feed_forward: tuple[str, ...] = ("tensor",)
    vocabulary: tuple[str, ...] = ("tensor",)

    def spec(self, names: tuple[str | None, ...], **reduction: frozenset[str]) -> PartitionSpec:
        """The partition of an array whose dimensions have these names; `reduction`: PartitionSpec's (un)reduced axes.

        Raises:
          ValueError: when two dimensions would be split over the same mesh axis.
        """
        axes = self._axes(names)
        used = [axis for entry in axes for axis in entry]
        if len(used) != len(set(used)):
            raise ValueError(f"Axes {names} map to mesh axes {axes}: one mesh axis cannot split two dimensions.")
        return PartitionSpec(*(entry or None for entry in axes), **reduction)

    def whole_along(self, names: tuple[str | None, ...]) -> frozenset[str]:
        """The mesh axes whose devices have other tokens, but the same of an array with these names."""
        return _TOKENS - {axis for entry in self._axes(names) for axis in entry}

    def _axes(self, names: tuple[str | None, ...]) -> list[tuple[str, ...]]:
        return [() if name in (None, "layers") else getattr(self, name) for name in names]


# A parameter's "embed" is split over fsdp where it is stored, and whole where it is used (ZeRO-3: gathered just before,
# its gradient reduce-scattered just after). Activations' "embed" is never split.
STORED = Rules()
USED = dataclasses.replace(STORED, embed=())
# Every device of these axes has other tokens: the gradient of a parameter is the sum over them.
_TOKENS = frozenset({*STORED.batch, *STORED.length})
# What has one of these names is used by way of `gather` or `along`, which know copies; see `copies`.
_KNOWN = {"embed", "features", "feed_forward"}


def _mesh_is_set() -> bool:
    return not jax.sharding.get_abstract_mesh().empty


def used(*names: str | None) -> PartitionSpec | None:
    """The `out_sharding` of a result in use with these dimension names; None without a mesh."""
    return USED.spec(names) if _mesh_is_set() else None


def gather(parameter: jax.Array, names: tuple[str | None, ...]) -> jax.Array:
    """A stored parameter as the computation wants it: whole along fsdp, still split along tensor."""
    if not _mesh_is_set():
        return parameter
    return jax.sharding.reshard(parameter, USED.spec(names, reduced=_TOKENS if _is_copy(parameter) else frozenset()))


def scatter(gradient: jax.Array, parameter: jax.Array) -> jax.Array:
    """The gradient with respect to what `gather` gave, as one with respect to the stored parameter."""
    return jax.sharding.reshard(gradient, gradient_of(parameter)) if _mesh_is_set() else gradient


def along(vector: jax.Array, activations: jax.Array) -> jax.Array:
    """A parameter of one dimension at every place of activations [..., features], split as they are.

    Its gradient is a sum over all places, and like that of a matrix one that is still to be made between devices.
    """
    last = activations.ndim - 1
    where = like(activations, *range(activations.ndim))
    return jax.lax.broadcast_in_dim(vector, activations.shape, (last,), out_sharding=where)


def copies(parameters: Any, names: Any) -> Any:
    """Parameters to be differentiated with respect to.

    The gradient of one that passes through `gather` or `along` (its dimensions are named so: "embed", "features",
    "feed_forward") stays a sum still to be made (`unreduced`) over the axes along which it is copied, however many
    parts, layers and uses it is added up from, until `stored` makes it in one go. Others are used as they are, and
    their gradients are summed over devices wherever they arise.
    """
    return _resharded(parameters, names, "reduced")


def no_gradient(parameters: Any, names: Any) -> Any:
    """Zeros of the type that gradients with respect to `copies` have."""
    return _resharded(jax.tree.map(jnp.zeros_like, parameters), names, "unreduced")


def stored(gradients: Any, names: Any) -> Any:
    """Gradients with respect to `copies`, summed up, where their parameters are stored."""
    return _resharded(gradients, names, None)


def _resharded(tree: Any, names: Any, reduction: str | None) -> Any:
    if not _mesh_is_set():
        return tree

    def reshard(leaf: jax.Array, axes: tuple[str | None, ...]) -> jax.Array:
        known = reduction is not None and _KNOWN & {*axes}
        return jax.sharding.reshard(leaf, STORED.spec(axes, **({reduction: STORED.whole_along(axes)} if known else {})))

    return jax.tree.map(reshard, tree, names)


def _is_copy(array: jax.Array) -> bool:
    return bool(jax.typeof(array).sharding.spec.reduced)


def gradient_of(array: jax.Array) -> PartitionSpec | None:
    """The `out_sharding` of a product that is the gradient with respect to `array`; None without a mesh."""
    spec = jax.typeof(array).sharding.spec
    return PartitionSpec(*spec.partitions, unreduced=spec.reduced) if _mesh_is_set() else None


def no_gradient_of(array: jax.Array) -> jax.Array:
    """Zeros of the type that `gradient_of` gives."""
    zeros = jnp.zeros(array.shape, array.dtype)
    return jax.sharding.reshard(zeros, gradient_of(array)) if _mesh_is_set() else zeros


def scaled(gradient: jax.Array, factor: jax.Array) -> jax.Array:
    """A gradient whose sum may still be to be made, times a number."""
    if not _mesh_is_set():
        return gradient * factor
    unreduced = jax.typeof(gradient).sharding.spec.unreduced
    return gradient * jax.sharding.reshard(factor, PartitionSpec(reduced=unreduced))


def spread(tree: Any, mesh: Mesh) -> Any:
    """Host arrays, the same in every process, with as little as can be of each on any one device."""

    def place(array: np.ndarray) -> jax.Array:
        split = next((i for i, size in enumerate(array.shape) if size % mesh.size == 0), None)
        spec = PartitionSpec() if split is None else PartitionSpec(*[None] * split, mesh.axis_names)
        return jax.make_array_from_callback(array.shape, NamedSharding(mesh, spec), lambda index: array[index])

    return jax.tree.map(place, tree)


def to_host(tree: Any) -> Any:
    """Arrays as numpy arrays, whole, in every process."""

    def fetch(array: jax.Array) -> np.ndarray:
        if array.is_fully_addressable or array.is_fully_replicated:
            return np.asarray(array)
        return np.asarray(multihost_utils.process_allgather(array, tiled=True))

    return jax.tree.map(fetch, tree)


def like(array: jax.Array, *dimensions: int | None) -> PartitionSpec | None:
    """The `out_sharding` of a result whose dimensions are split as those of `array`, by number; None: not split.

    So the rows and positions of activations stay as the tokens came: split over the sequence axis in training, not in
    decoding. None without a mesh.
    """
    if not _mesh_is_set():
        return None
    axes = jax.typeof(array).sharding.spec.partitions
    return PartitionSpec(*[None if dimension is None else axes[dimension] for dimension in dimensions])


def parts(array: jax.Array, dimension: int) -> int:
    """Into how many parts a dimension is split."""
    return array.shape[dimension] // shard_shape(array)[dimension]


def is_whole(array: jax.Array, dimensions: range) -> bool:
    """Whether none of these dimensions is split."""
    return all(parts(array, dimension) == 1 for dimension in dimensions)


def merged(array: jax.Array, dimensions: range) -> jax.Array:
    """Neighbouring dimensions, of which only the first may be split, as one."""
    start, stop = dimensions.start, dimensions.stop
    shape = (*array.shape[:start], math.prod(array.shape[start:stop]), *array.shape[stop:])
    return _reshaped(array, shape, lambda axes: (*axes[: start + 1], *axes[stop:]))


def unmerged(array: jax.Array, dimension: int, sizes: Sequence[int]) -> jax.Array:
    """One dimension as several, the first of which is split as it was."""
    shape = (*array.shape[:dimension], *sizes, *array.shape[dimension + 1 :])
    more = [None] * (len(sizes) - 1)
    return _reshaped(array, shape, lambda axes: (*axes[: dimension + 1], *more, *axes[dimension + 1 :]))


def _reshaped(array: jax.Array, shape: Sequence[int], axes_of: Callable[[Sequence], Sequence]) -> jax.Array:
    if not _mesh_is_set():
        return jnp.reshape(array, shape)
    spec = jax.typeof(array).sharding.spec
    axes = axes_of(spec.partitions)
    return jnp.reshape(array, shape, out_sharding=PartitionSpec(*axes, reduced=spec.reduced, unreduced=spec.unreduced))


def shard_shape(array: jax.Array) -> tuple[int, ...]:
    """The shape of one device's part."""
    return jax.typeof(array).sharding.shard_shape(array.shape) if _mesh_is_set() else array.shape


def place(array: jax.Array, *names: str | None) -> jax.Array:
    """`array` resharded for use; the identity when it already is."""
    return jax.sharding.reshard(array, USED.spec(names)) if _mesh_is_set() else array


def on_each_device(function: Callable[..., jax.Array], array: jax.Array, *others: Any) -> jax.Array:
    """`function` of each device's parts of its arguments; the result is split as the first of them."""
    if not _mesh_is_set():
        return function(array, *others)
    # Pallas kernels do not say along which axes of the mesh their results differ.
    split = jax.typeof(array).sharding.spec
    return jax.shard_map(function, out_specs=split, check_vma=False)(array, *others)


def platform() -> str:
    """The platform of the mesh being traced for (which may be absent from this machine), else JAX's default."""
    device = jax.sharding.get_abstract_mesh().abstract_device if _mesh_is_set() else None
    return device.platform if device is not None else jax.default_backend()


def platform_of(mesh: Mesh) -> str:
    """The platform of its devices: cpu, gpu or tpu."""
    return mesh.devices.flat[0].platform


def make_mesh(config: MeshConfig, devices: list[jax.Device] | None = None) -> Mesh:
    """The mesh of `config` over all devices (or those given).

    Raises:
      ConfigError: when the sizes do not multiply to the number of devices, or slices of TPUs are not told as such.
    """
    devices = jax.devices() if devices is None else devices
    sizes = [config.slices, config.data, config.fsdp, config.sequence, config.tensor]
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
    slices = _slice_count(devices)
    if slices == 1:
        # A grid of chips of which no side has the size of an axis: the axis takes a part of a side.
        ordered = mesh_utils.create_device_mesh(sizes, devices, allow_split_physical_axes=True)
    elif sizes[0] != slices:
        raise ConfigError(
            "mesh.slices",
            sizes[0],
            f"the devices are {slices} slices, and only mesh.slices may cross the slow network between them",
            f"Set it to {slices}.",
        )
    else:
        within, across = (1, *sizes[1:]), (slices, *[1] * (len(sizes) - 1))
        ordered = mesh_utils.create_hybrid_device_mesh(within, across, devices, allow_split_physical_axes=True)
    return Mesh(ordered, AXES, axis_types=(jax.sharding.AxisType.Explicit,) * len(AXES))


def _slice_count(devices: list[jax.Device]) -> int:
    # TPUs of a single slice do not say so. Of other devices JAX calls every machine a slice.
    return len({getattr(device, "slice_index", 0) for device in devices if device.platform == "tpu"}) or 1


def row_shards(mesh: Mesh) -> int:
    """In how many parts the rows of a batch are split."""
    return math.prod(mesh.shape[axis] for axis in USED.batch)


def check_batch(mesh: Mesh, data: DataConfig, parts: int) -> None:
    """Raises ConfigError unless every part of every batch can be split over the mesh."""
    if data.lengths_multiple_of % mesh.shape["sequence"]:
        raise ConfigError(
            "data.lengths_multiple_of",
            data.lengths_multiple_of,
            f"lengths are split over mesh.sequence = {mesh.shape['sequence']} devices",
            f"Set it to a multiple of {mesh.shape['sequence']}.",
        )
    shards = row_shards(mesh)
    if data.rows_multiple_of % (shards * parts):
        raise ConfigError(
            "data.rows_multiple_of",
            data.rows_multiple_of,
            f"rows are split over slices * data * fsdp = {shards} devices and training.accumulate = {parts} parts",
            f"Set it to a multiple of {shards * parts}.",
        )


def check_model(mesh: Mesh, model: ModelConfig, vocab_sizes: tuple[int, ...]) -> None:
    """Raises ConfigError unless the parameters can be split over the mesh."""
    split = [("fsdp", f"model.d_model = {model.d_model}", model.d_model)]
    heads = model.key_value_heads
    split += [("tensor", f"model.num_heads = {model.num_heads}", model.num_heads)]
    split += [("tensor", f"the {heads} heads of keys and values (model.num_kv_heads)", heads)]
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


@dataclasses.dataclass(frozen=True)
class Share:
    """Some of the `count` equal blocks of a batch's rows: their numbers from 0, ascending."""

    blocks: tuple[int, ...]
    count: int

    def of(self, rows: np.ndarray) -> np.ndarray:
        """These blocks of an array [B, ...]."""
        split = np.split(rows, self.count)
        return np.concatenate([split[block] for block in self.blocks])


@functools.cache
def data_share(mesh: Mesh) -> Share:
    """The rows of every batch that this process' devices need: one block for each part that rows are split into.

    They need not be neighbours: a host of a TPU pod has a square of its grid of chips, not a line. Processes between
    which only positions or parameters are split need the same.
    """
    block_of_device = np.arange(row_shards(mesh)).reshape([mesh.shape[axis] for axis in USED.batch] + [1, 1])
    blocks = np.broadcast_to(block_of_device, mesh.devices.shape)
    own = [device.process_index == jax.process_index() for device in mesh.devices.flat]
    return Share(tuple(np.unique(blocks.ravel()[own]).tolist()), row_shards(mesh))


def to_global(
    batch: dict[str, np.ndarray], mesh: Mesh, names: tuple[str | None, str | None] = ("batch", "length")
) -> dict[str, jax.Array]:
    """This process' share of the rows of a batch as global arrays [B, T], split as the names say."""
    sharding, share = NamedSharding(mesh, USED.spec(names)), data_share(mesh)
    if sharding.is_fully_addressable:
        return jax.device_put(batch, sharding)

    def whole(rows: np.ndarray) -> jax.Array:
        size = rows.shape[0] // len(share.blocks)

        def part(index: tuple[slice, slice]) -> np.ndarray:
            first = share.blocks.index((index[0].start or 0) // size) * size
            return rows[first : first + size, index[1]]

        return jax.make_array_from_callback((share.count * size, *rows.shape[1:]), sharding, part)

    return {name: whole(rows) for name, rows in batch.items()}


def split_rows(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """A batch [B, T] that every process has whole, as global arrays whose rows are split, and lengths not."""
    share = data_share(mesh)
    return to_global({name: share.of(rows) for name, rows in batch.items()}, mesh, ("batch", None))

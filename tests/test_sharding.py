"""Names to mesh axes, and what is told when they do not fit."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from transformer import sharding
from transformer.config import ConfigError, DataConfig, MeshConfig, ModelConfig
from transformer.sharding import (
    STORED,
    USED,
    Rules,
    Share,
    check_batch,
    check_model,
    make_mesh,
    stored_shardings,
    to_global,
)


@pytest.fixture(scope="module")
def mesh():
    return make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))


# --- rules ---


def test_names_become_mesh_axes():
    rows = ("slices", "data", "fsdp")
    assert STORED.spec(("batch", None, "heads", None)) == PartitionSpec(rows, None, ("tensor",), None)
    assert STORED.spec(("layers", "embed", "feed_forward")) == PartitionSpec(None, ("fsdp",), ("tensor",))
    assert STORED.spec(("vocabulary", "embed")) == PartitionSpec(("tensor",), ("fsdp",))


def test_in_use_nothing_of_the_width_is_split():
    assert USED.spec(("embed", "heads", None)) == PartitionSpec(None, ("tensor",), None)


@pytest.mark.parametrize("names", [("heads", "feed_forward"), ("batch", "embed"), ("vocabulary", None, "heads")])
def test_one_mesh_axis_cannot_split_two_dimensions(names):
    with pytest.raises(ValueError, match="one mesh axis cannot split two dimensions"):
        STORED.spec(names)


def test_rules_can_be_other_ones():
    assert Rules(batch=("data",)).spec(("batch", "embed")) == PartitionSpec(("data",), ("fsdp",))
    with pytest.raises(ValueError, match="cannot split"):
        Rules(heads=("fsdp",)).spec(("embed", "heads"))


# --- the mesh ---


@pytest.mark.parametrize(
    ("config", "shape"),
    [
        (MeshConfig(), (1, 8, 1, 1, 1)),
        (MeshConfig(data=1, fsdp=-1, tensor=2), (1, 1, 4, 1, 2)),
        (MeshConfig(data=2, fsdp=2, tensor=-1), (1, 2, 2, 1, 2)),
        (MeshConfig(data=-1, fsdp=8), (1, 1, 8, 1, 1)),
        (MeshConfig(data=8), (1, 8, 1, 1, 1)),
        (MeshConfig(slices=2, sequence=2), (2, 2, 1, 2, 1)),
    ],
)
def test_minus_one_is_what_the_others_leave(config, shape):
    mesh = make_mesh(config)
    assert tuple(mesh.shape.items()) == tuple(zip(sharding.AXES, shape, strict=True))
    assert mesh.axis_types == (AxisType.Explicit,) * 5
    assert {device.id for device in mesh.devices.flat} == set(range(8))


def test_a_mesh_of_some_devices():
    mesh = make_mesh(MeshConfig(fsdp=2), jax.devices()[:2])
    assert dict(mesh.shape) == {"slices": 1, "data": 1, "fsdp": 2, "sequence": 1, "tensor": 1}


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (
            MeshConfig(data=3),
            "(1, 3, 1, 1, 1): slices=1 x data=3 x fsdp=1 x sequence=1 x tensor=1 needs 3 devices, there are 8",
        ),
        (MeshConfig(data=4), "data=4 x fsdp=1 x sequence=1 x tensor=1 needs 4 devices, there are 8"),
        (MeshConfig(data=16), "needs 16 devices, there are 8"),
        (MeshConfig(tensor=3), "data=-1 x fsdp=1 x sequence=1 x tensor=3 needs a multiple of 3 devices, there are 8"),
        (MeshConfig(fsdp=16), "needs a multiple of 16 devices, there are 8"),
    ],
)
def test_a_mesh_that_does_not_fit_the_devices(config, told):
    with pytest.raises(ConfigError) as caught:
        make_mesh(config)
    message = str(caught.value)
    assert message.startswith("config.mesh = (")
    assert told in message
    assert "set one of them to -1" in message


@dataclasses.dataclass(frozen=True)
class Machine:
    """A device of one of several machines."""

    id: int
    slice_index: int
    platform: str
    device_kind: str = "none"
    process_index: int = 0


def test_of_gpus_a_machine_is_no_slice():
    """JAX numbers their machines as slices; what joins them needs no axis of its own."""
    machines = [Machine(i, i // 4, "gpu") for i in range(8)]
    mesh = make_mesh(MeshConfig(fsdp=2), machines)
    assert dict(mesh.shape) == {"slices": 1, "data": 4, "fsdp": 2, "sequence": 1, "tensor": 1}
    assert [device.id for device in mesh.devices.flat] == list(range(8))


def test_slices_of_tpus_must_be_told():
    with pytest.raises(ConfigError, match=r"config.mesh.slices = 1: the devices are 2 slices.* Set it to 2\."):
        make_mesh(MeshConfig(), [Machine(i, i // 4, "tpu") for i in range(8)])


# --- what must fit the mesh ---


def test_rows_must_fit_devices_and_parts(mesh):
    check_batch(mesh, DataConfig(rows_multiple_of=8), parts=2)
    for rows, parts, needed in ((8, 4, 16), (6, 1, 4), (2, 1, 4)):
        with pytest.raises(ConfigError) as caught:
            check_batch(mesh, DataConfig(rows_multiple_of=rows), parts)
        message = str(caught.value)
        assert f"config.data.rows_multiple_of = {rows}" in message
        assert "slices * data * fsdp = 4 devices" in message
        assert f"training.accumulate = {parts}" in message
        assert f"Set it to a multiple of {needed}." in message


def test_lengths_must_fit_devices():
    mesh = make_mesh(MeshConfig(data=2, sequence=4))
    check_batch(mesh, DataConfig(lengths_multiple_of=8), parts=1)
    with pytest.raises(
        ConfigError, match=r"lengths_multiple_of = 2: .*sequence = 4 devices. Set it to a multiple of 4"
    ):
        check_batch(mesh, DataConfig(lengths_multiple_of=2), parts=1)


def test_parameters_must_fit_the_mesh(mesh):
    fits = {"d_model": 16, "num_heads": 4, "d_ff": 32}
    check_model(mesh, ModelConfig(**fits), vocab_sizes=(30, 40))
    for field, size, axis in (("d_model", 15, "fsdp"), ("num_heads", 3, "tensor"), ("d_ff", 31, "tensor")):
        with pytest.raises(ConfigError, match=rf"config.mesh.{axis} = 2: does not divide model.{field} = {size}"):
            check_model(mesh, ModelConfig(**{**fits, field: size}), (30,))
    with pytest.raises(ConfigError, match=r"config.mesh.tensor = 2: does not divide the vocabulary of 31 pieces"):
        check_model(mesh, ModelConfig(**fits), (30, 31))


# --- what a process reads ---


class Device:
    """A device of a mesh that spans processes."""

    def __init__(self, number: int, process_index: int):
        self.id, self.process_index = number, process_index


def shares(sizes: tuple[int, ...], process_of_device: list[int], monkeypatch) -> list[Share]:
    devices = np.array([Device(i, process) for i, process in enumerate(process_of_device)], object).reshape(sizes)
    mesh = types.SimpleNamespace(shape=dict(zip(sharding.AXES, sizes, strict=True)), devices=devices)
    found = []
    for process in sorted(set(process_of_device)):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        found.append(sharding.data_share.__wrapped__(mesh))
    return found


def test_processes_share_the_rows(monkeypatch):
    pairs = [0, 0, 1, 1, 2, 2, 3, 3]
    expected = [Share((0, 1), 8), Share((2, 3), 8), Share((4, 5), 8), Share((6, 7), 8)]
    assert shares((1, 8, 1, 1, 1), pairs, monkeypatch) == expected
    assert shares((2, 2, 2, 1, 1), pairs, monkeypatch) == expected
    assert shares((1, 4, 1, 1, 2), pairs, monkeypatch) == [Share((index,), 4) for index in range(4)]


def test_processes_that_share_rows_read_the_same(monkeypatch):
    pairs = [0, 0, 1, 1, 2, 2, 3, 3]
    assert shares((1, 2, 1, 1, 4), pairs, monkeypatch) == [Share((index,), 2) for index in (0, 0, 1, 1)]
    assert shares((1, 1, 1, 4, 2), pairs, monkeypatch) == [Share((0,), 1)] * 4
    assert shares((1, 3, 1, 1, 2), [0, 0, 0, 1, 1, 1], monkeypatch) == [Share((0, 1), 3), Share((1, 2), 3)]


def test_a_host_of_a_pod_is_a_square_of_the_grid(monkeypatch):
    """As JAX arranges v5e:4x4, whose hosts have 2x2 chips, along one axis."""
    hosts = [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]
    found = shares((1, 16, 1, 1, 1), sum(hosts, []), monkeypatch)
    assert found[:2] == [Share((0, 1, 4, 5), 16), Share((2, 3, 6, 7), 16)]
    rows = np.arange(32)
    assert found[1].of(rows).tolist() == [4, 5, 6, 7, 12, 13, 14, 15]
    assert sorted(np.concatenate([share.of(rows) for share in found]).tolist()) == rows.tolist()


# --- arrays ---


def test_a_batch_is_split_by_rows_over_data_and_fsdp(mesh):
    rows = np.arange(24, dtype=np.int32).reshape(8, 3)
    array = to_global({"source": rows}, mesh)["source"]
    np.testing.assert_array_equal(array, rows)
    assert {shard.data.shape for shard in array.addressable_shards} == {(2, 3)}
    starts = {shard.index[0].start or 0 for shard in array.addressable_shards}
    assert starts == {0, 2, 4, 6}


def test_a_batch_that_is_here_as_a_whole_is_split_by_rows_alone(mesh):
    rows = np.arange(24, dtype=np.int32).reshape(4, 6)
    array = sharding.split_rows({"source": rows}, mesh)["source"]
    np.testing.assert_array_equal(array, rows)
    assert {shard.data.shape for shard in array.addressable_shards} == {(1, 6)}


def test_stored_shardings_follow_the_names(mesh):
    names = {"a": {"b": ("layers", "embed", "heads", None)}, "c": (None,)}
    assert stored_shardings(mesh, names) == {
        "a": {"b": NamedSharding(mesh, PartitionSpec(None, ("fsdp",), ("tensor",), None))},
        "c": NamedSharding(mesh, PartitionSpec(None)),
    }


def test_a_stored_parameter_is_gathered_along_fsdp_for_use(mesh):
    names = ("embed", "heads")
    with jax.set_mesh(mesh):
        stored = jax.device_put(np.ones((4, 4), np.float32), stored_shardings(mesh, names))
        gathered = sharding.gather(stored, names)
        placed = sharding.place(jnp.ones((4, 3)), "batch", None)
    assert {shard.data.shape for shard in stored.addressable_shards} == {(2, 2)}
    assert {shard.data.shape for shard in gathered.addressable_shards} == {(4, 2)}
    assert {shard.data.shape for shard in placed.addressable_shards} == {(1, 3)}


def test_gradients_of_vectors_wait_to_be_summed_too(mesh):
    """Those of a user's own names, used without `along`, do not: they are summed where they arise."""
    names = {"scale": ("features",), "own": ("heads",)}
    with jax.set_mesh(mesh):
        copies = sharding.copies({"scale": jnp.ones(6), "own": jnp.ones(2)}, names)
        x_BTD = sharding.place(jnp.ones((8, 3, 6)), "batch", "length", None)
        gradient = jax.jit(jax.grad(lambda scale_D: jnp.sum(sharding.along(scale_D, x_BTD) * x_BTD)))(copies["scale"])
        summed = sharding.stored({"scale": gradient}, {"scale": names["scale"]})["scale"]
    assert jax.typeof(gradient).sharding.spec.unreduced == {"slices", "data", "fsdp", "sequence"}
    assert not jax.typeof(copies["own"]).sharding.spec.reduced
    np.testing.assert_array_equal(summed, np.full(6, 24.0))


def test_without_a_mesh_nothing_is_asked_for():
    array = jnp.ones((4, 4))
    assert sharding.scatter(array, array) is array
    np.testing.assert_array_equal(sharding.along(jnp.arange(2.0), jnp.ones((3, 1, 2))), [[[0.0, 1.0]]] * 3)
    assert sharding.gather(array, ("embed", "heads")) is array
    assert sharding.place(array, "batch", None) is array
    assert sharding.used("batch", "heads") is None


def test_the_platform_is_the_meshs():
    """A mesh of another platform's devices can be compiled for on a machine that has none of them."""
    assert sharding.platform() == "cpu"
    abstract = jax.sharding.AbstractMesh(
        (1,) * 5,
        sharding.AXES,
        axis_types=(AxisType.Explicit,) * 5,
        abstract_device=jax.sharding.AbstractDevice(device_kind="TPU v5e", num_cores=1, platform="tpu"),
    )
    with jax.sharding.use_abstract_mesh(abstract):
        assert sharding.platform() == "tpu"

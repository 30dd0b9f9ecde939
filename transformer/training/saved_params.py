"""Parameters in a checkpoint: which they are, and how they are read as the model uses them."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from transformer import config as config_module
from transformer import sharding
from transformer.config import CheckpointConfig, Config, TransferConfig
from transformer.model.blueprint import Blueprint, Params
from transformer.training import leaves, lora, patterns, processes
from transformer.training.checkpoint import CheckpointError, CheckpointReader, Checkpoints
from transformer.training.metadata import Metadata
from transformer.training.trainable import Trainable

# Where parameters are to lie: on a mesh, or (None) in the host's memory as numpy arrays.
Where = Mapping[str, NamedSharding | None]


@dataclasses.dataclass(frozen=True)
class SavedParams:
    """A checkpoint's parameters, not yet read: `subtree` of its state. `name` says which it is, for people."""

    name: str
    reader: CheckpointReader
    metadata: Metadata
    subtree: str

    @property
    def config(self) -> Config:
        """The run's."""
        return config_module.from_json(self.metadata.config_json)

    @property
    def path(self) -> epath.Path:
        """Its directory."""
        return self.reader.path(self.metadata.step)

    def shapes(self) -> dict[str, jax.ShapeDtypeStruct]:
        """The model's parameters by name, without values."""
        arrays = self.reader.arrays(self.metadata.step)
        # An average may be of some parameters only: which there are, params says.
        names = (name.removeprefix("params/") for name in arrays if name.startswith("params/"))
        return {name: arrays[f"params/{name}"] for name in names if not name.startswith(f"{lora.BRANCH}/")}

    def restore(self, blueprint: Blueprint, mesh: Mesh) -> Params:
        """All parameters of the model on a mesh, as it uses them.

        Raises:
          CheckpointError: they are damaged, or not those of this model.
        """
        shapes = jax.tree.map(
            lambda shape, where: jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=where),
            blueprint.shapes(),
            blueprint.shardings(mesh),
        )
        if self.config.transfer.trains_all:
            return self.reader.restore_params(self.metadata.step, shapes, self.subtree)
        mismatch = leaves.mismatch(leaves.named(shapes), self.shapes())
        if mismatch:
            raise CheckpointError(f"{self.path} does not fit: {mismatch}. Build the model from the config saved there.")
        with jax.set_mesh(mesh):
            return leaves.nested(self.read(leaves.named(blueprint.shardings(mesh))))

    def restore_on_host(self) -> Params:
        """All parameters of the model as numpy arrays, as it uses them.

        Raises:
          CheckpointError: they are damaged.
        """
        if self.config.transfer.trains_all:
            return self.reader.restore_params(self.metadata.step, subtree=self.subtree)
        return leaves.nested(self.read(dict.fromkeys(self.shapes())))

    def read(self, where: Where) -> dict[str, Any]:
        """Some of the model's parameters as it uses them: averaged where the run averages, their adapters added.

        Nothing else is read. The mesh that they are to lie on has to be set.

        Args:
          where: the parameters by name, and where each is to lie.

        Raises:
          CheckpointError: they are damaged or not there.
        """
        arrays = self.reader.arrays(self.metadata.step)
        trainable = self._trainable(arrays)
        averaged = [name for name in where if self.subtree == "ema" and name in trainable.own]
        # Of an array that trains whole, the average is whole too.
        parts = [name for name in averaged if trainable.own[name] is not None]
        adapted = [name for name in where if name in trainable.adapted]

        branches = {name: "ema" if name in averaged and name not in parts else "params" for name in where}
        wanted = {f"{branch}/{name}": where[name] for name, branch in branches.items()}
        wanted |= {f"ema/{name}": where[name] for name in parts}
        for name in adapted:
            inputs = len(arrays[f"params/{lora.name(name, 'a')}"].shape) - 2
            for side in lora.SIDES:
                wanted[f"{self.subtree}/{lora.name(name, side)}"] = _of_adapter(where[name], inputs, side)
        found = self.reader.restore_arrays(self.metadata.step, wanted)

        params = {name: found[f"{branch}/{name}"] for name, branch in branches.items()}
        trained = {name: found[f"ema/{name}"] for name in parts}
        trained |= {
            lora.name(name, side): found[f"{self.subtree}/{lora.name(name, side)}"]
            for name in adapted
            for side in lora.SIDES
        }
        if trained:
            # Layers that train and are not averaged are as they were read.
            worked_in = dataclasses.replace(trainable, own={name: trainable.own[name] for name in parts})
            some = leaves.nested({name: params[name] for name in {*parts, *adapted}})
            params |= leaves.named(jax.jit(worked_in.changing)(some, leaves.nested(trained)))
        return {name: np.asarray(array) if where[name] is None else array for name, array in params.items()}

    def _trainable(self, arrays: Mapping[str, jax.ShapeDtypeStruct]) -> Trainable:
        """What trained in that run, from the checkpoint alone: no model is built, no code of others is run."""
        depths = depths_by_name(self.shapes())
        adaptable = {name: depth for name, depth in depths.items() if f"params/{lora.name(name, 'a')}" in arrays}
        return Trainable.chosen(self.config.transfer, depths, adaptable)


def depths_by_name(shapes: Mapping[str, jax.ShapeDtypeStruct]) -> patterns.Depths:
    """How many layers are stacked in each parameter: a stack's have a part "layers" in their names."""
    return {name: leaf.shape[0] if "layers" in name.split("/") else None for name, leaf in shapes.items()}


def _of_adapter(matrix: NamedSharding | None, inputs: int, side: lora.Side) -> NamedSharding | None:
    """Where an adapter's array lies, from where the matrix does."""
    if matrix is None:
        return None
    return NamedSharding(matrix.mesh, PartitionSpec(*lora.dimensions(tuple(matrix.spec), inputs, side, None)))


def write(params: Params, origin: SavedParams, directory: epath.PathLike, mesh: Mesh) -> None:
    """Writes parameters as the model uses them to a checkpoint, whose config says that nothing is to be worked in.

    It is then the only one in its directory.

    Every process of `mesh` calls this.

    Args:
      params: numpy arrays.
      origin: whose step, config and vocabulary it gets.
    """
    config = dataclasses.replace(
        origin.config,
        transfer=TransferConfig(),
        training=dataclasses.replace(origin.config.training, ema_decay=0.0),
    )
    with Checkpoints(directory, CheckpointConfig(keep_last=1), metric="loss") as checkpoints:
        if processes.speaks():
            checkpoints.clear()
        processes.wait_for_all(f"what was in {directory}")
        checkpoints.save(
            origin.metadata.step,
            {"params": sharding.spread(params, mesh)},
            data_position={},
            config_json=config_module.to_json(config),
            tokenizer_files=origin.metadata.tokenizer_files,
            metrics={},
        )

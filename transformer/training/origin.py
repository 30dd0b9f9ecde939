"""What a run takes over from another one before its first step (config.transfer.init_from)."""

import dataclasses

import jax
import numpy as np
from absl import logging

from transformer import sharding
from transformer.config import ConfigError, ModelConfig, TransferConfig
from transformer.data.tokenizer import Tokenizer, Tokenizers
from transformer.model.blueprint import Blueprint, Params
from transformer.training import leaves, patterns, saved_run
from transformer.training.checkpoint import CheckpointError
from transformer.training.new_vocabulary import Correspondence
from transformer.training.saved_params import SavedParams, depths_by_name
from transformer.training.storage import StorageError
from transformer.training.trainable import Layers, axes_of, put, take
from transformer.training.workdir import Workdir, WorkdirError

_REMEDY = (
    "Name what is to be initialised in transfer.init_fresh, or only what is to be taken over in transfer.init_only; "
    "what is called otherwise there, in transfer.init_rename."
)


@dataclasses.dataclass(frozen=True)
class Taken:
    """A parameter, or some layers of one, that is taken over: `source` is its name there."""

    source: str
    layers: Layers


@dataclasses.dataclass(frozen=True)
class Origin:
    """A checkpoint of another run, to start from."""

    transfer: TransferConfig
    saved: SavedParams
    tokenizers: Tokenizers

    @classmethod
    def open(cls, transfer: TransferConfig) -> "Origin":
        """Opens what `transfer.init_from` names.

        Raises:
          ConfigError: there is no such run, or no such checkpoint of it.
        """
        try:
            saved = saved_run.choose(Workdir(transfer.init_from), transfer.init_checkpoint)
        except (WorkdirError, CheckpointError, StorageError) as error:
            field = "init_from" if transfer.init_checkpoint == "auto" else "init_checkpoint"
            raise ConfigError(
                f"transfer.{field}",
                getattr(transfer, field),
                str(error).rstrip("."),
                "Name a trained run's work directory in transfer.init_from, and one of its checkpoints.",
            ) from error
        return cls(transfer, saved, Tokenizers.from_files(saved.metadata.tokenizer_files))

    def vocabulary(self, model: ModelConfig) -> Tokenizers | None:
        """The vocabulary that the new run keeps; None when it has one of its own.

        Raises:
          ConfigError: it is two where the model wants one.
        """
        if self.transfer.vocabulary == "new":
            return None
        if self.tokenizers.shared:
            return self.tokenizers
        if model.architecture == "language_model":
            return Tokenizers(self.tokenizers.target, self.tokenizers.target)
        if model.tied_embeddings == "all":
            raise ConfigError(
                "model.tied_embeddings",
                "all",
                "needs one vocabulary, transfer.init_from has two",
                "Set model.tied_embeddings=output, or transfer.vocabulary=new.",
            )
        return self.tokenizers

    def plan(self, blueprint: Blueprint) -> dict[str, Taken]:
        """What of a new model's parameters is taken over. The sizes of its vocabularies do not matter here.

        Raises:
          ConfigError: with a table of the parameters that should be and cannot.
        """
        transfer = self.transfer
        shapes, axes, there = leaves.named(blueprint.shapes()), axes_of(blueprint.names()), self.saved.shapes()
        depths, depths_there = depths_by_name(shapes), depths_by_name(there)
        wanted = patterns.everything(depths)
        if transfer.init_only:
            wanted = patterns.select("transfer.init_only", transfer.init_only, depths)
        fresh = patterns.select("transfer.init_fresh", transfer.init_fresh, depths)
        renames = [patterns.Rename.parse("transfer.init_rename", text) for text in transfer.init_rename]

        plan: dict[str, Taken] = {}
        problems: list[_Problem] = []
        left = {} if transfer.init_only else patterns.everything(depths_there)
        for name, leaf in shapes.items():
            source = next((old for old in (rename.old_name(name) for rename in renames) if old is not None), name)
            layers = wanted[name] - fresh[name]
            if not layers:
                left.pop(source, None)
                continue
            if source in left:
                left[source] -= wanted[name]
            reason = _misfit(leaf.shape, axes[name], max(layers), there.get(source), depths_there.get(source))
            if reason:
                problems.append(_Problem(name, leaf.shape, reason + ("" if source == name else f" ({source})")))
                continue
            whole = layers == patterns.everything(depths)[name] and depths[name] == depths_there[source]
            plan[name] = Taken(source, None if whole else tuple(sorted(layers)))
        for name, layers in left.items():
            if layers:
                some = "" if depths_there[name] in (None, len(layers)) else f"layers {sorted(layers)} "
                problems.append(_Problem(name, there[name].shape, f"is there, but {some}nothing here takes over"))
        if problems:
            table = "\n".join(map(str, problems))
            reason = f"not all of its parameters fit this model (those of {self.saved.path}):\n{table}\n"
            raise ConfigError("transfer.init_from", transfer.init_from, reason.rstrip("."), _REMEDY)
        return plan

    def take_over(self, fresh: Params, blueprint: Blueprint, tokenizers: Tokenizers) -> Params:
        """A new model's parameters, where they lie, with those of the plan in the place of fresh ones.

        Raises:
          ConfigError: as `plan`.
          CheckpointError: what is read is damaged.
        """
        plan, params, axes = self.plan(blueprint), leaves.named(fresh), axes_of(blueprint.names())
        other_pieces = {
            name: Correspondence.of(_side(self.tokenizers, taken.source), _side(tokenizers, name))
            for name, taken in plan.items()
            if "vocabulary" in axes[name] and _differ(self.tokenizers, taken.source, tokenizers, name)
        }
        direct = {name: taken for name, taken in plan.items() if name not in other_pieces}
        found = self.saved.read({taken.source: params[name].sharding for name, taken in direct.items()})
        for name, taken in direct.items():
            params[name] = put(params[name], taken.layers, take(found[taken.source], taken.layers))
        said = [f"{name}: {correspondence}" for name, correspondence in other_pieces.items()]
        for name, correspondence in other_pieces.items():
            table_VD = self._table(plan[name].source, params[name], correspondence)
            params[name] = jax.make_array_from_callback(
                table_VD.shape, params[name].sharding, lambda index, table_VD=table_VD: table_VD[index]
            )
        others = [name for name in params if name not in plan]
        said += [f"initialised: {', '.join(others)}"] if others else []
        logging.info(
            "Starts from %s, %s: %d of %d arrays taken over.%s",
            self.transfer.init_from,
            self.saved.name,
            len(plan),
            len(params),
            "".join(f"\n  {line}" for line in said),
        )
        return leaves.nested(params)

    def _table(self, source: str, fresh: jax.Array, correspondence: Correspondence) -> np.ndarray:
        old_WD = self.saved.read({source: None})[source]
        return correspondence.table(old_WD, sharding.to_host(fresh), self.transfer.new_pieces)


@dataclasses.dataclass(frozen=True)
class _Problem:
    """A parameter that is not taken over as asked; in the table a line."""

    name: str
    shape: tuple[int, ...]
    reason: str

    def __str__(self) -> str:
        return f"  {self.name:<50} {list(self.shape)!s:<18} {self.reason}"


def _misfit(
    shape: tuple[int, ...],
    axes: tuple[str | None, ...],
    last_layer: int,
    there: jax.ShapeDtypeStruct | None,
    depth_there: int | None,
) -> str:
    """Why a parameter, or its layers up to this one, cannot be taken from what is there; empty when it can."""
    if there is None:
        return "is not there"
    # Layers are counted apart; an embedding's rows are matched by their pieces.
    free = [number for number, axis in enumerate(axes) if axis in ("layers", "vocabulary")]
    same = len(shape) == len(there.shape) and all(
        number in free or size == there.shape[number] for number, size in enumerate(shape)
    )
    if not same or (axes[0] == "layers") != (depth_there is not None):
        return f"is {list(there.shape)} there"
    return f"has no layer {last_layer} there" if depth_there is not None and last_layer >= depth_there else ""


def _side(tokenizers: Tokenizers, name: str) -> Tokenizer:
    """Whose pieces an embedding's rows are."""
    return tokenizers.source if name.startswith("source_") else tokenizers.target


def _differ(old: Tokenizers, old_name: str, new: Tokenizers, new_name: str) -> bool:
    return _side(old, old_name).model_bytes != _side(new, new_name).model_bytes

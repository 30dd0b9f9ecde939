"""What a run takes over from another one before its first step (config.transfer.init_from)."""

import dataclasses

import jax
import numpy as np
from absl import logging

from transformer import sharding
from transformer.config import ConfigError, ModelConfig, TransferConfig
from transformer.data.tokenizer import Tokenizer, Tokenizers
from transformer.model.blueprint import Blueprint, Params
from transformer.training import leaves, saved_run, taken_over
from transformer.training.checkpoint import CheckpointError
from transformer.training.new_vocabulary import Correspondence
from transformer.training.saved_params import SavedParams
from transformer.training.storage import StorageError
from transformer.training.taken_over import Taken
from transformer.training.trainable import axes_of, put, take
from transformer.training.workdir import Workdir, WorkdirError

# Of the model's settings those that parameters' shapes show, and those that change no result.
_SHAPES_OR_SPEED = {
    *("architecture", "d_model", "num_heads", "num_kv_heads", "d_k", "d_v", "d_ff", "tied_embeddings", "biases"),
    *("num_encoder_layers", "num_decoder_layers", "qk_norm", "t5_buckets", "shaw_distance", "max_length"),
    *("dropout", "attention_dropout", "kernel", "dtype", "remat", "unroll"),
}


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
        """What of a new model's parameters is taken over, see `taken_over.plan`."""
        return taken_over.plan(self.transfer, blueprint, self.saved.shapes(), self.saved.path)

    def kept(self, blueprint: Blueprint, tokenizers: Tokenizers) -> dict[str, Taken]:
        """What of the plan is taken over as it is: not the embeddings of another vocabulary."""
        axes = axes_of(blueprint.names())
        return {
            name: taken
            for name, taken in self.plan(blueprint).items()
            if "vocabulary" not in axes[name] or not _differ(self.tokenizers, taken.source, tokenizers, name)
        }

    def warn_of_another_model(self, model: ModelConfig) -> None:
        """Says what the same parameters would compute differently here, which no shape tells."""
        before = self.saved.config.model
        for field in dataclasses.fields(model):
            here, there = getattr(model, field.name), getattr(before, field.name)
            if field.name not in _SHAPES_OR_SPEED and here != there:
                logging.warning(
                    "config.model.%s is %r, in %s it was %r: the same parameters compute something else.",
                    field.name,
                    here,
                    self.transfer.init_from,
                    there,
                )

    def take_over(self, fresh: Params, blueprint: Blueprint, tokenizers: Tokenizers) -> Params:
        """A new model's parameters, where they lie, with those of the plan in the place of fresh ones.

        Raises:
          ConfigError: as `plan`.
          CheckpointError: what is read is damaged.
        """
        plan, params = self.plan(blueprint), leaves.named(fresh)
        direct = self.kept(blueprint, tokenizers)
        other_pieces = {
            name: Correspondence.of(_side(self.tokenizers, taken.source), _side(tokenizers, name))
            for name, taken in plan.items()
            if name not in direct
        }
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


def _side(tokenizers: Tokenizers, name: str) -> Tokenizer:
    """Whose pieces an embedding's rows are."""
    return tokenizers.source if name.startswith("source_") else tokenizers.target


def _differ(old: Tokenizers, old_name: str, new: Tokenizers, new_name: str) -> bool:
    return _side(old, old_name).model_bytes != _side(new, new_name).model_bytes

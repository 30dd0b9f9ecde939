"""A model apart from its parameters: shapes and names known without computing, parameters a plain nested dict.

Training, checkpoints and decoding hold parameters as a dict of arrays; `bind` makes a module of them, inside `jax.jit`
too, where it costs nothing.
"""

import dataclasses
from typing import Any

import jax
from flax import nnx
from jax.sharding import Mesh

from transformer import sharding
from transformer.config import ModelConfig
from transformer.model.encoder_decoder import EncoderDecoder
from transformer.model.language_model import LanguageModel

Params = dict[str, Any]
Model = EncoderDecoder | LanguageModel


@dataclasses.dataclass(frozen=True)
class Blueprint:
    """The model of a config and of two vocabulary sizes (a language model's are one), without values."""

    graph: nnx.GraphDef
    abstract: nnx.State

    @classmethod
    def of(cls, config: ModelConfig, source_vocab_size: int, target_vocab_size: int) -> "Blueprint":
        """Builds the model by shapes alone: the biggest costs milliseconds and no memory."""
        sizes = (source_vocab_size, target_vocab_size)
        return cls(*nnx.split(nnx.eval_shape(lambda: _model(config, *sizes, rngs=nnx.Rngs(params=0)))))

    def bind(self, params: Params) -> Model:
        """The module with these parameters (nested dict of arrays, or of anything shaped like them)."""
        state = jax.tree.map(lambda variable: variable, self.abstract)
        nnx.replace_by_pure_dict(state, params)
        return nnx.merge(self.graph, state)

    def shapes(self) -> Params:
        """The parameters as `jax.ShapeDtypeStruct`s."""
        return nnx.to_pure_dict(self.abstract)

    def names(self) -> Params:
        """The logical name of every dimension of every parameter; stacked layers lead with "layers"."""

        def of_variable(variable: nnx.Variable) -> tuple[str | None, ...]:
            axes = variable.get_metadata("axes")
            return ("layers",) * (len(variable.shape) - len(axes)) + tuple(axes)

        names = jax.tree.map(of_variable, self.abstract, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))
        return nnx.to_pure_dict(names)

    def shardings(self, mesh: Mesh) -> Params:
        """Where each parameter is stored."""
        return sharding.stored_shardings(mesh, self.names())

    def init(self, seed: int, config: ModelConfig, mesh: Mesh) -> Params:
        """Fresh parameters on the mesh, the same on every mesh."""
        source, target = self.vocab_sizes()

        def values() -> Params:
            module = _model(config, source, target, rngs=nnx.Rngs(params=jax.random.key(seed)))
            return nnx.to_pure_dict(nnx.state(module))

        return jax.jit(values, out_shardings=self.shardings(mesh))()

    def config(self) -> ModelConfig:
        """The network it is the blueprint of."""
        return self.bind(self.shapes()).config

    def description(self) -> str | None:
        """All that its programs depend on besides this package; None with an attention of the user's, which may be
        any code."""
        config = self.config()
        return None if config.attention != ModelConfig().attention else repr((config, self.vocab_sizes()))

    def vocab_sizes(self) -> tuple[int, int]:
        """Pieces of the source and of the target."""
        shapes = self.shapes()
        target = shapes["target_embedding"]["table"].shape[0]
        source = shapes["source_embedding"]["table"].shape[0] if "source_embedding" in shapes else target
        return source, target


def _model(config: ModelConfig, source_vocab_size: int, target_vocab_size: int, *, rngs: nnx.Rngs) -> Model:
    if config.architecture == "language_model":
        return LanguageModel(config, target_vocab_size, rngs=rngs)
    return EncoderDecoder(config, source_vocab_size, target_vocab_size, rngs=rngs)


def matrices(names: Params) -> Params:
    """Which parameters are matrices, as bools: those with two or more dimensions in a single layer.

    Args:
      names: as `Blueprint.names` gives them.
    """
    return jax.tree.map(
        lambda names: len([name for name in names if name != "layers"]) > 1,
        names,
        is_leaf=lambda leaf: isinstance(leaf, tuple),
    )


def count(params: Params) -> int:
    """The number of parameters."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))

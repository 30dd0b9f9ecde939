"""Which parameters of a run train, and what the model computes with.

A run's parameters are the model's and, beside them under lora/, those of adapters (see `lora`). They are all in
`TrainState.params`. What trains is a part of them: gradients, optimizer and averages know nothing else, so what is
frozen costs its own memory only. Layers are stacked, so of an array some layers may train and others not; then the part
is an array of those layers.

    params    {"encoder": ..., "decoder": ..., "lora": ...}    all of a run's parameters
    trained   the same names, but those that train only, of each the layers that train
    changing  parameters of the model that training changes, whole and with their adapters added

Of an array of which some layers train the gradient is made whole, as the scan over layers makes it.
"""

import dataclasses
import itertools
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from transformer.config import ConfigError, TransferConfig
from transformer.model.blueprint import Blueprint, Params
from transformer.training import leaves, lora, patterns

# The layers of an array that are meant; None: the whole array.
Layers = tuple[int, ...] | None


@dataclasses.dataclass(frozen=True)
class Trainable:
    """What trains of a model's parameters.

    Attributes:
      own: the model's own that train.
      adapted: those that have an adapter, which trains.
      scale: what an adapter's product is multiplied by.
    """

    depths: patterns.Depths
    own: dict[str, Layers]
    adapted: dict[str, Layers]
    scale: float

    @classmethod
    def of(cls, transfer: TransferConfig, blueprint: Blueprint) -> "Trainable":
        """What trains of this model.

        Raises:
          ConfigError: for a pattern that means nothing, and when nothing is left to train.
        """
        shapes, axes = leaves.named(blueprint.shapes()), axes_of(blueprint.names())
        depths = {name: shape.shape[0] if axes[name][0] == "layers" else None for name, shape in shapes.items()}
        return cls.chosen(transfer, depths, {name: depths[name] for name in depths if lora.inputs(axes[name])})

    @classmethod
    def chosen(cls, transfer: TransferConfig, depths: patterns.Depths, adaptable: patterns.Depths) -> "Trainable":
        """What trains of parameters so named, of which some can be adapted. Raises as `of`."""
        own = patterns.everything(depths)
        if transfer.train_only or transfer.lora_rank:
            own = patterns.select("transfer.train_only", transfer.train_only, depths)
        frozen = patterns.select("transfer.freeze", transfer.freeze, depths)
        adapted: patterns.Selection = {}
        if transfer.lora_rank:
            _check_targets(transfer.lora_targets, depths, adaptable)
            adapted = patterns.select("transfer.lora_targets", transfer.lora_targets, adaptable)
        own = {name: layers - frozen[name] for name, layers in own.items()}
        if not any(own.values()) and not any(adapted.values()):
            field = "freeze" if transfer.freeze else "train_only"
            raise ConfigError(
                f"transfer.{field}", getattr(transfer, field), "leaves nothing to train", "Freeze fewer parameters."
            )
        scale = transfer.lora_alpha / transfer.lora_rank if transfer.lora_rank else 0.0
        return cls(dict(depths), _of_arrays(own, depths), _of_arrays(adapted, depths), scale)

    @property
    def is_all(self) -> bool:
        """Whether the model's parameters are the run's, and all train."""
        return not self.adapted and self.own == dict.fromkeys(self.depths)

    @property
    def gradients(self) -> list[str] | None:
        """The model's parameters of which a gradient is made; None: of all."""
        return None if self.is_all else self.changing_names

    def axes(self, of_model: Params) -> Params:
        """The logical names of the dimensions of all the run's parameters, from those of the model's."""
        axes = axes_of(of_model)
        adapters = {
            lora.name(name, side): lora.dimensions(axes[name], lora.inputs(axes[name]), side, None)
            for name in self.adapted
            for side in lora.SIDES
        }
        return leaves.nested(axes | adapters)

    def with_adapters(self, params: Params, of_model: Params, rank: int, seed: int) -> Params:
        """The run's parameters before the first step, from the model's and their dimensions' names."""
        flat, axes = leaves.named(params), axes_of(of_model)
        for name, layers in self.adapted.items():
            shape = flat[name].shape if layers is None else (len(layers), *flat[name].shape[1:])
            for side in lora.SIDES:
                sizes = lora.dimensions(shape, lora.inputs(axes[name]), side, rank)
                flat[lora.name(name, side)] = lora.initial(name, sizes, side, seed)
        return leaves.nested(flat)

    @property
    def names(self) -> list[str]:
        """Of the arrays that train."""
        return [*self.own, *(lora.name(name, side) for name in self.adapted for side in lora.SIDES)]

    def trained_axes(self, of_model: Params) -> Params:
        """The names of the dimensions of what trains."""
        axes = axes_of(self.axes(of_model))
        return leaves.nested({name: axes[name] for name in self.names})

    def changing_axes(self, of_model: Params) -> Params:
        """The names of the dimensions of what `changing` gives."""
        axes = axes_of(of_model)
        return leaves.nested({name: axes[name] for name in self.changing_names})

    def trained(self, params: Params) -> Params:
        """What trains of the run's parameters."""
        flat = leaves.named(params)
        return leaves.nested({name: take(flat[name], self.own.get(name)) for name in self.names})

    def joined(self, params: Params, trained: Params) -> Params:
        """The run's parameters with other values of what trains."""
        flat = leaves.named(params)
        new = {name: put(flat[name], self.own.get(name), part) for name, part in leaves.named(trained).items()}
        return leaves.nested(flat | new)

    @property
    def changing_names(self) -> list[str]:
        """The model's parameters that training changes."""
        return [*self.own, *(name for name in self.adapted if name not in self.own)]

    def changing(self, params: Params, trained: Params) -> Params:
        """The model's parameters that training changes, as the model computes with them.

        Args:
          params: the run's, or some of them: what is not there is left out.
          trained: what trains, of the same ones.
        """
        flat, parts = leaves.named(params), leaves.named(trained)
        found = {}
        for name in (name for name in self.changing_names if name in flat):
            array = put(flat[name], self.own[name], parts[name]) if name in self.own else flat[name]
            if name in self.adapted:
                layers = self.adapted[name]
                added = lora.product(*(parts[lora.name(name, side)] for side in lora.SIDES))
                array = put(array, layers, take(array, layers) + self.scale * added)
            found[name] = array
        return leaves.nested(found)

    def model(self, params: Params, changing: Params) -> Params:
        """The model's parameters: those that change, and of the others the run's."""
        own = {name: array for name, array in leaves.named(params).items() if not name.startswith(f"{lora.BRANCH}/")}
        return leaves.nested(own | leaves.named(changing))


def axes_of(names: Params) -> dict[str, tuple[str | None, ...]]:
    """Names of dimensions (`Blueprint.names`) by their parameter."""
    return leaves.named(names, is_leaf=lambda leaf: isinstance(leaf, tuple))


def _of_arrays(selection: patterns.Selection, depths: patterns.Depths) -> dict[str, Layers]:
    return {
        name: None if len(layers) == (depths[name] or 1) else tuple(sorted(layers))
        for name, layers in selection.items()
        if layers
    }


def selection(arrays: Mapping[str, Layers], depths: patterns.Depths) -> patterns.Selection:
    """The layers of these arrays."""
    every = patterns.everything(depths)
    return {name: every[name] if layers is None else frozenset(layers) for name, layers in arrays.items()}


def _check_targets(texts: tuple[str, ...], depths: patterns.Depths, adaptable: patterns.Depths) -> None:
    """Says of a parameter that is there, but cannot be adapted, that it is so."""
    for text in texts:
        meant = [name for name, layers in patterns.select("transfer.lora_targets", [text], depths).items() if layers]
        if not set(meant) & set(adaptable):
            kinds = sorted({name.rpartition("/")[2] for name in adaptable})
            raise ConfigError(
                "transfer.lora_targets",
                text,
                f"{meant[0]} is no matrix of a layer",
                f"Choose from {', '.join(kinds)}, or train it whole with transfer.train_only.",
            )


def take(array: jax.Array, layers: Layers) -> jax.Array:
    """Some layers of a stack, [L, ...]."""
    if layers is None:
        return array
    runs = [array[first : last + 1] for first, last in _runs(layers)]
    return runs[0] if len(runs) == 1 else jnp.concatenate(runs)


def put(array: jax.Array, layers: Layers, part: jax.Array) -> jax.Array:
    """A stack with these layers in the place of its own."""
    if layers is None:
        return part
    pieces, end, used = [], 0, 0
    for first, last in _runs(layers):
        count = last + 1 - first
        pieces += [array[end:first], part[used : used + count]]
        end, used = last + 1, used + count
    return jnp.concatenate([piece for piece in (*pieces, array[end:]) if len(piece)])


def _runs(layers: tuple[int, ...]) -> list[tuple[int, int]]:
    """The first and the last of every run of numbers without a gap."""
    runs = [
        [number for _, number in run] for _, run in itertools.groupby(enumerate(layers), lambda pair: pair[1] - pair[0])
    ]
    return [(run[0], run[-1]) for run in runs]

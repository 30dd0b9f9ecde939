"""Which of a new model's parameters are taken over from which of another's, by their names and shapes."""

import dataclasses
from collections.abc import Mapping

import jax
from absl import logging
from etils import epath

from transformer.config import ConfigError, TransferConfig
from transformer.model.blueprint import Blueprint
from transformer.training import leaves, patterns
from transformer.training.saved_params import depths_by_name
from transformer.training.trainable import Layers, Trainable, axes_of, selection

_REMEDY = (
    "Name what is to be initialised in transfer.init_fresh, or only what is to be taken over in transfer.init_only; "
    "what is called otherwise there, in transfer.init_rename."
)


@dataclasses.dataclass(frozen=True)
class Taken:
    """A parameter, or some layers of one, that is taken over: `source` is its name there."""

    source: str
    layers: Layers


def plan(
    transfer: TransferConfig,
    blueprint: Blueprint,
    there: Mapping[str, jax.ShapeDtypeStruct],
    path: epath.Path,
) -> dict[str, Taken]:
    """What of a new model's parameters is taken over, by name. The sizes of its vocabularies do not matter here.

    Args:
      there: the other model's parameters.
      path: where they lie, for errors.

    Raises:
      ConfigError: with a table of the parameters that should be and cannot; for a pattern that means nothing.
    """
    shapes, axes = leaves.named(blueprint.shapes()), axes_of(blueprint.names())
    depths, depths_there = depths_by_name(shapes), depths_by_name(there)
    every, wanted = patterns.everything(depths), _wanted(transfer, depths)
    sources = patterns.old_names("transfer.init_rename", transfer.init_rename, shapes)

    found: dict[str, Taken] = {}
    problems: list[_Problem] = []
    for name, layers in wanted.items():
        source, shape = sources[name], shapes[name].shape
        reason = _misfit(shape, axes[name], max(layers), there.get(source), depths_there.get(source))
        if reason:
            problems.append(_Problem(name, shape, reason + ("" if source == name else f" ({source})")))
            continue
        whole = layers == every[name] and depths[name] == depths_there[source]
        found[name] = Taken(source, None if whole else tuple(sorted(layers)))
    # Who names what is taken over knows that there is more.
    if not transfer.init_only:
        for name, layers in _left(depths_there, sources, every, wanted).items():
            some = "" if depths_there[name] in (None, len(layers)) else f"layers {sorted(layers)} "
            problems.append(_Problem(name, there[name].shape, f"is there, but {some}nothing here takes over"))
    if problems:
        table = "\n".join(map(str, problems))
        reason = f"not all of its parameters fit this model (those of {path}):\n{table}\nNothing is begun"
        raise ConfigError("transfer.init_from", transfer.init_from, reason, _REMEDY)
    return found


def warn_of_what_stays(trainable: Trainable, taken: Mapping[str, Taken]) -> None:
    """Says of which parameters some layers are neither taken over nor train: they stay as chance made them."""
    depths = trainable.depths
    trained = selection(trainable.own, depths)
    learnt = selection({name: one.layers for name, one in taken.items()}, depths)
    every, none = patterns.everything(depths), frozenset()
    staying = [name for name in depths if every[name] - trained.get(name, none) - learnt.get(name, none)]
    if staying:
        logging.warning(
            "Parameters that do not train (config.transfer), and are not, or not all of them (layers, pieces of a new "
            "vocabulary), taken over from another run: they stay as they are initialised: %s.",
            ", ".join(staying),
        )


def _wanted(transfer: TransferConfig, depths: patterns.Depths) -> patterns.Selection:
    """What is to be taken over; what is not at all is left out."""
    wanted = patterns.everything(depths)
    if transfer.init_only:
        wanted = patterns.select("transfer.init_only", transfer.init_only, depths)
    fresh = patterns.select("transfer.init_fresh", transfer.init_fresh, depths)
    return {name: layers - fresh[name] for name, layers in wanted.items() if layers - fresh[name]}


def _left(
    depths_there: patterns.Depths,
    sources: Mapping[str, str],
    every: patterns.Selection,
    wanted: patterns.Selection,
) -> patterns.Selection:
    """What of the other model nothing of this one asks for, or is initialised instead of."""
    left = patterns.everything(depths_there)
    for name, source in sources.items():
        if source in left:
            left[source] -= every[name] if name in wanted else left[source]
    return {name: layers for name, layers in left.items() if layers}


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

"""A pytree's leaves by name: what a checkpoint calls them, and whether two sets of them agree."""

import collections
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

_SHOWN = 5


def named(tree: Any, *, is_leaf: Callable[[Any], bool] | None = None) -> dict[str, Any]:
    """The leaves of `tree` in order, under names like params/encoder/w or opt_state/0/mu/encoder/w.

    Args:
      is_leaf: as jax.tree.map takes it.

    Raises:
      ValueError: when two leaves have the same name, as those of {1: x, "1": y}.
    """
    leaves = jax.tree_util.tree_flatten_with_path(tree, is_leaf)[0]
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves]
    shared = [name for name, count in collections.Counter(names).items() if count > 1]
    if shared:
        raise ValueError(f"Several leaves of the tree are called {', '.join(shared)}.")
    return dict(zip(names, (leaf for _, leaf in leaves), strict=True))


def nested(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Plain dicts by the parts of the names: {"a/b": 1} as {"a": {"b": 1}}."""
    tree: dict[str, Any] = {}
    for name, leaf in leaves.items():
        *parents, last = name.split("/")
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, {})
        branch[last] = leaf
    return tree


def placed(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    """`leaf` with its sharding; one without any is for the first device."""
    sharding = leaf.sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def mismatch(wanted: Mapping[str, Any], saved: Mapping[str, Any]) -> str:
    """How the names, shapes and dtypes of what is wanted differ from what was saved; empty when they do not."""
    complaints = [f"{name} is not in it" for name in wanted if name not in saved]
    complaints += [f"{name} is in it, but not asked for" for name in saved if name not in wanted]
    for name in wanted:
        if name in saved and _kind(wanted[name]) != _kind(saved[name]):
            complaints.append(f"{name} is {_kind(saved[name])}, not {_kind(wanted[name])}")
    if len(complaints) > _SHOWN:
        complaints = [*complaints[:_SHOWN], f"and {len(complaints) - _SHOWN} more"]
    return "; ".join(complaints)


def _kind(leaf: Any) -> str:
    return f"{np.dtype(leaf.dtype)}{list(leaf.shape)}"

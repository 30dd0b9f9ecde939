"""Models that compile in about a second, batches for them, and the paper's reference in our names.

Letters: B batch, T target length, S source length, V vocabulary.
"""

import dataclasses

import jax
import numpy as np

from transformer.config import ModelConfig
from transformer.model.blueprint import Blueprint

VOCABULARY = 40

# Every value of every choice, each beside both places of the norm.
VARIANTS = {
    "paper": {},
    "post_learned": {"positions": "learned", "tied_embeddings": "output", "activation": "gelu", "d_k": 3, "d_v": 5},
    "post_none": {"positions": "none", "tied_embeddings": "none", "d_k": 5},
    "pre_sinusoidal": {"norm": "pre", "tied_embeddings": "none", "activation": "gelu", "d_k": 3, "d_v": 5},
    "pre_learned": {"norm": "pre", "positions": "learned"},
    "pre_none": {"norm": "pre", "positions": "none", "tied_embeddings": "output", "activation": "gelu", "d_v": 5},
    "modern": {
        "norm": "pre",
        "normalization": "rms",
        "biases": False,
        "positions": "rotary",
        "activation": "swiglu",
        "num_heads": 4,
        "num_kv_heads": 2,
        "qk_norm": True,
    },
    "post_t5": {"positions": "t5", "t5_buckets": 4, "t5_max_distance": 6, "logit_soft_cap": 2.0},
    "pre_shaw": {"norm": "pre", "positions": "shaw", "shaw_distance": 2, "attention_window": 3, "d_k": 3, "d_v": 5},
    "post_alibi": {"positions": "alibi", "activation": "geglu", "biases": False},
}


def tiny(**changes) -> ModelConfig:
    sizes = {"d_model": 16, "num_heads": 2, "d_ff": 24, "num_encoder_layers": 2, "num_decoder_layers": 2}
    if changes.get("positions") == "learned":
        sizes["max_length"] = 16
    return ModelConfig(**(sizes | {"dropout": 0.0} | changes))


def blueprint_of(config: ModelConfig) -> Blueprint:
    return Blueprint.of(config, VOCABULARY, VOCABULARY)


def random_params(blueprint: Blueprint, seed: int = 0) -> dict:
    """All random, scales and biases too, so that a comparison notices when one of them is left out."""
    rng = np.random.default_rng(seed)

    def values(path, leaf):
        noise = 0.25 * rng.standard_normal(leaf.shape, np.float32)
        return 1 + noise if path[-1].key == "scale" else noise

    return jax.tree_util.tree_map_with_path(values, blueprint.shapes())


# --- batches ---


@dataclasses.dataclass(frozen=True)
class Example:
    source: np.ndarray
    target_inputs: np.ndarray
    targets: np.ndarray


def examples_of(*sizes: tuple[int, int], seed: int = 0) -> list[Example]:
    """Examples of these sizes (source, target) of random tokens, of which no two read ones are the same."""
    rng = np.random.default_rng(seed)
    tokens = iter(rng.permutation(np.arange(3, VOCABULARY)))

    def take(size):
        return np.array([next(tokens) for _ in range(size)])

    return [Example(take(s), take(t), rng.integers(3, VOCABULARY, t)) for s, t in sizes]


def batch_of(rows: list[list[Example]], source_length: int, target_length: int) -> dict[str, np.ndarray]:
    """A batch whose rows hold these examples. Its padding is of tokens that the row does not hold, to be noticed."""
    batch = {
        name: np.zeros((len(rows), source_length if name.startswith("source") else target_length), np.int32)
        for name in ("source", "source_segments", "source_positions", "target_inputs", "targets")
        + ("target_segments", "target_positions")
    }

    def put(row, side, start, size, segment, **tokens):
        for name, values in tokens.items():
            batch[name][row, start : start + size] = values
        batch[f"{side}_segments"][row, start : start + size] = segment
        batch[f"{side}_positions"][row, start : start + size] = np.arange(size)

    for row, examples in enumerate(rows):
        s = t = 0
        for segment, one in enumerate(examples, start=1):
            put(row, "source", s, len(one.source), segment, source=one.source)
            put(row, "target", t, len(one.targets), segment, target_inputs=one.target_inputs, targets=one.targets)
            s, t = s + len(one.source), t + len(one.targets)
        held = np.concatenate([batch["source"][row, :s], batch["target_inputs"][row, :t]])
        free = np.setdiff1d(np.arange(3, VOCABULARY), held)
        batch["source"][row, s:] = free[: source_length - s]
        batch["target_inputs"][row, t:] = batch["targets"][row, t:] = free[source_length:][: target_length - t]
    return batch


# --- comparing ---


def relative(ours, expected) -> float:
    """Norm of the difference over the norm of what is expected."""
    ours, expected = np.asarray(ours, np.float64), np.asarray(expected, np.float64)
    assert ours.shape == expected.shape
    return np.linalg.norm(ours - expected) / np.linalg.norm(expected)


def named(tree) -> dict[str, jax.Array]:
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def assert_close(ours, expected, tolerance: float) -> None:
    """Two trees have the same leaves, each within `tolerance` by norms. A leaf of zeros must be zeros."""
    ours, expected = named(jax.device_get(ours)), named(jax.device_get(expected))
    assert ours.keys() == expected.keys()
    far = {}
    for name, leaf in expected.items():
        if not np.any(leaf):
            assert not np.any(ours[name]), name
        elif not relative(ours[name], leaf) <= tolerance:
            far[name] = relative(ours[name], leaf)
    assert not far, far


def equations(jaxpr):
    """All equations of a program, those of inner programs too."""
    for equation in jaxpr.eqns:
        yield equation
        for value in jax.tree.leaves(tuple(equation.params.values()), is_leaf=lambda leaf: hasattr(leaf, "eqns")):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from equations(inner)


def from_reference(reference: dict) -> dict:
    """Parameters or gradients of `paper_reference` as ours: layers stacked, names changed."""

    def of_layer(layer):
        ours = {}
        for name, part in layer.items():
            if name == "feed_forward":
                part = {"inner": part["w1"], "inner_bias": part["b1"], "outer": part["w2"], "outer_bias": part["b2"]}
            if name.endswith("_norm"):
                name, part = name.removesuffix("_norm") + "_residual", {"norm": part}
            ours[name] = part
        return ours

    def of_stack(layers):
        return {"layers": jax.tree.map(lambda *leaves: np.stack(leaves), *map(of_layer, layers))}

    ours = {"target_embedding": {"table": reference["embedding"]}}
    ours |= {name: of_stack(reference[name]) for name in ("encoder", "decoder")}
    return ours | {name: part for name, part in reference.items() if name in ("encoder_norm", "decoder_norm")}

"""Every pair of the model's variants, tried: does it train, packed and on several devices, and decode with a cache?

    python benchmarks/variants.py [--markdown docs/variants.md] [--json variants.json]

Variants are chosen along fourteen lines (DIMENSIONS). Any two values of different lines stand together in one of the
combinations that are run here, on tiny models in float32 (all combinations would be 184,320; an error that needs three
values to meet may escape). Of each combination are compared, by the norm of the difference over the norm:

    packed    a row of two texts, with the same texts in rows of their own
    cached    decoding a token at a time from a cache, with the whole text at once
    sharded   loss and gradients on a mesh of 4 devices, with those on one

A pair that a config refuses is shown with the reason. Prints a table of pairs and, as its last line, one JSON object.
Three to ten minutes.
"""

import argparse
import dataclasses
import functools
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from machine import machine

from transformer import config as config_module
from transformer import sharding
from transformer.config import Config, ConfigError, MeshConfig, ModelConfig
from transformer.model.blueprint import Blueprint
from transformer.model.dropout import DropoutKey
from transformer.model.encoder_decoder import source_places
from transformer.training.loss import smoothed_cross_entropy

DIMENSIONS: dict[str, dict[str, dict[str, Any]]] = {
    "model": {
        "encoder-decoder": {},
        "language model": {"architecture": "language_model"},
    },
    "positions": {
        "sinusoidal": {},
        "sinusoidal_t2t": {"positions": "sinusoidal_t2t"},
        "learned": {"positions": "learned", "max_length": 128},
        "rotary": {"positions": "rotary"},
        "rotary, linear": {"positions": "rotary", "rotary_scaling": "linear", "rotary_factor": 4.0},
        "rotary, ntk": {"positions": "rotary", "rotary_scaling": "ntk", "rotary_factor": 4.0},
        "t5": {"positions": "t5", "t5_buckets": 8, "t5_max_distance": 6},
        "shaw": {"positions": "shaw", "shaw_distance": 3},
        "alibi": {"positions": "alibi"},
        "none": {"positions": "none"},
    },
    "mask": {
        "causal": {},
        "prefix": {"mask": "prefix"},
    },
    "reach": {
        "unlimited": {},
        "window": {"attention_window": 3},
    },
    "chunks": {
        "no chunks": {},
        "chunks": {"attention_chunk": 4},
    },
    "heads": {
        "multi-head": {},
        "grouped": {"num_kv_heads": 2},
        "multi-query": {"num_kv_heads": 1},
    },
    "sizes": {
        "d_v = d_k": {},
        "d_v < d_k": {"d_k": 6, "d_v": 3},
    },
    "queries and keys": {
        "no QK-norm": {},
        "QK-norm": {"qk_norm": True},
    },
    "scores": {
        "no cap": {},
        "soft cap": {"logit_soft_cap": 2.0},
    },
    "weights": {
        "no dropout": {},
        "weight dropout": {"attention_dropout": 0.2},
    },
    "norm": {
        "post, layer": {},
        "pre, RMS": {"norm": "pre", "normalization": "rms"},
    },
    "network": {
        "ReLU": {},
        "SwiGLU": {"activation": "swiglu"},
    },
    "biases": {
        "biases": {},
        "no biases": {"biases": False},
    },
    "embeddings": {
        "tied": {},
        "two tied": {"tied_embeddings": "output"},
        "not tied": {"tied_embeddings": "none"},
    },
}

VOCABULARY, LENGTH, FIRST, PROMPT = 20, 12, 7, 3  # pieces; a row; the first text of a packed row; its prompt

Choice = dict[str, str]  # a value for every dimension


def config_of(choice: Choice) -> Config:
    """The config of some values; of the other dimensions the defaults."""
    sizes = {"d_model": 16, "num_heads": 4, "d_ff": 24, "num_encoder_layers": 2, "num_decoder_layers": 2}
    changes = {}
    for dimension, value in choice.items():
        changes |= DIMENSIONS[dimension][value]
    model = ModelConfig(**(sizes | {"dropout": 0.1} | changes))
    config = Config(model=model)
    config.data.pack_length = 128
    config.evaluation.metric = "loss"
    return config


def refusal(choice: Choice) -> str | None:
    """Why a config refuses these values; None when it does not, of one kind of model at least."""
    reason = None
    for model in [choice["model"]] if "model" in choice else DIMENSIONS["model"]:
        try:
            config_module.validate(config_of(choice | {"model": model}))
        except ConfigError as error:
            reason = str(error)
        else:
            return None
    return reason


def pairs() -> list[Choice]:
    """Every two values of different dimensions."""
    return [
        {one: a, other: b}
        for one, other in itertools.combinations(DIMENSIONS, 2)
        for a in DIMENSIONS[one]
        for b in DIMENSIONS[other]
    ]


def combinations() -> list[Choice]:
    """Few choices that between them hold every pair which is not refused."""
    missing = [pair for pair in pairs() if refusal(pair) is None]
    found = []
    while missing:
        choice = dict(missing[0])
        for dimension in DIMENSIONS:
            if dimension in choice:
                continue
            able = [value for value in DIMENSIONS[dimension] if refusal(choice | {dimension: value}) is None]
            choice[dimension] = max(able, key=lambda value: _covered(choice | {dimension: value}, missing))
        missing = [pair for pair in missing if not pair.items() <= choice.items()]
        found.append(choice)
    return found


def _covered(choice: Choice, missing: list[Choice]) -> int:
    return sum(pair.items() <= choice.items() for pair in missing)


@dataclasses.dataclass(frozen=True)
class Differences:
    """Norms of differences over norms; gradients that are zero throughout would make a comparison worthless."""

    packed: float
    cached: float
    sharded: float
    dead_gradients: int

    @property
    def works(self) -> bool:
        return max(self.packed, self.cached, self.sharded) < 1e-5 and not self.dead_gradients


def check(choice: Choice, jit: Callable = jax.jit, *, sharded: bool = True) -> Differences:
    """Compares; `jit` may be one that compiles faster. Without `sharded` that difference is not made, and is 0."""
    model = config_of(choice).model
    blueprint = Blueprint.of(model, VOCABULARY, VOCABULARY)
    # All random, scales and biases too, so that none can be left out unnoticed.
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: 0.3 * rng.standard_normal(leaf.shape).astype(np.float32), blueprint.shapes())
    batch = _batch(model)
    logits_BTV, cached_TV = jit(functools.partial(_logits, blueprint, model))(params, batch)
    packed, first, second = np.asarray(logits_BTV[:3])
    begun = 0 if model.architecture == "encoder_decoder" else PROMPT
    gradients = jit(functools.partial(_gradients, blueprint, model))(params, batch)
    on_mesh = _on_a_mesh(blueprint, model, params, batch, jit) if sharded else gradients
    dead = sum(not np.any(leaf) for leaf in jax.tree.leaves(gradients))
    return Differences(
        packed=max(_relative(packed[:FIRST], first[:FIRST]), _relative(packed[FIRST:], second[: LENGTH - FIRST])),
        cached=_relative(cached_TV, first[begun:FIRST]),
        sharded=_relative_trees(on_mesh, gradients),
        dead_gradients=dead,
    )


def _batch(model: ModelConfig) -> dict[str, np.ndarray]:
    """Row 0 packs two texts; rows 1 and 2 hold one each; row 3 is as row 0."""
    rng = np.random.default_rng(1)
    sides = ("target",) if model.architecture == "language_model" else ("source", "target")
    batch = {"targets": np.zeros((4, LENGTH), np.int32)}
    second = LENGTH - FIRST
    for side in sides:
        tokens, segments, positions, prompt = np.zeros((4, 4, LENGTH), np.int32)
        text = rng.integers(4, VOCABULARY, LENGTH)
        tokens[[0, 3]], tokens[1, :FIRST], tokens[2, :second] = text, text[:FIRST], text[FIRST:]
        segments[[0, 3]] = np.repeat([1, 2], [FIRST, second])
        segments[1, :FIRST] = segments[2, :second] = 1
        positions[[0, 3]] = np.concatenate([np.arange(FIRST), np.arange(second)])
        positions[1, :FIRST], positions[2, :second] = np.arange(FIRST), np.arange(second)
        prompt[[0, 1, 3], :PROMPT] = 1
        batch[{"source": "source", "target": "target_inputs"}[side]] = tokens
        batch |= {f"{side}_segments": segments, f"{side}_positions": positions}
        if side == "target":
            batch["targets"] = np.where(segments > 0, rng.integers(4, VOCABULARY, tokens.shape), 0).astype(np.int32)
            batch |= {"target_prompt": prompt} if len(sides) == 1 else {}
    return batch


def _logits(blueprint: Blueprint, model: ModelConfig, params, batch) -> tuple[jax.Array, jax.Array]:
    """Of all at once [B, T, V], and of the first text decoded with a cache [T, V], from the end of its prompt on."""
    bound = blueprint.bind(params)
    logits_BTV = jnp.einsum("BTD,VD->BTV", bound(batch), bound.output_table())
    tokens_1T = batch["target_inputs"][1:2, :FIRST]
    if model.architecture == "encoder_decoder":
        of_first = {name: array[1:2] for name, array in batch.items()}
        step, cache = bound.start_decoding(bound.encode(of_first["source"], source_places(of_first)), 1, FIRST)
        fed_T1 = tokens_1T.T
    else:
        # Filled up on the right, as prompts of several lengths are.
        prompt_1P = jnp.pad(tokens_1T[:, :PROMPT], ((0, 0), (0, 2)))
        step, cache = bound.start_decoding(
            prompt_1P, (jnp.arange(PROMPT + 2) < PROMPT)[None].astype(jnp.int32), 1, FIRST
        )
        fed_T1 = tokens_1T.T[PROMPT:]

    def turn(cache, inputs):
        fed_1, position = inputs
        logits_11V, cache = step(fed_1[:, None], position, jnp.zeros((1, 1, FIRST), jnp.int32), cache)
        return cache, logits_11V[0, 0]

    return logits_BTV, jax.lax.scan(turn, cache, (fed_T1, jnp.arange(len(fed_T1))))[1]


def _gradients(blueprint: Blueprint, model: ModelConfig, params, batch):
    """The mean loss' gradient with dropout on, and the loss."""
    names = blueprint.names()
    rows_B = sharding.place(jax.lax.iota(jnp.uint32, 4), "batch")

    def loss(params):
        bound = blueprint.bind(params)
        hidden_BTD = bound(batch, DropoutKey.of(0, jnp.int32(1), rows_B))
        real_BT = batch["target_segments"] > 0
        options = {"smoothing": 0.1, "dtype": "float32", "chunk_mb": 1}
        sums = smoothed_cross_entropy(hidden_BTD, bound.output_table(), batch["targets"], real_BT, **options)
        return sums.loss / sums.tokens

    value, gradients = jax.value_and_grad(loss)(sharding.copies(params, names))
    return {"loss": value, "gradients": sharding.stored(gradients, names)}


def _on_a_mesh(blueprint: Blueprint, model: ModelConfig, params, batch, jit: Callable):
    """As `_gradients`: rows are split, and heads, or positions where there are too few heads of keys and values."""
    shape = MeshConfig(data=2, tensor=2) if model.key_value_heads % 2 == 0 else MeshConfig(data=2, sequence=2)
    mesh = sharding.make_mesh(shape, jax.devices()[:4])
    with jax.set_mesh(mesh):
        placed = jax.device_put(params, blueprint.shardings(mesh))
        arrays = sharding.to_global(batch, mesh)
        return jax.device_get(jit(functools.partial(_gradients, blueprint, model))(placed, arrays))


def _relative(ours, expected) -> float:
    ours, expected = np.asarray(ours, np.float64), np.asarray(expected, np.float64)
    return float(np.linalg.norm(ours - expected) / np.linalg.norm(expected))


def _relative_trees(ours, expected) -> float:
    return max(map(_relative, jax.tree.leaves(ours), jax.tree.leaves(expected)))


# --- the table ---


def markdown(results: dict[tuple, Differences]) -> Iterator[str]:
    """A table of pairs: yes, NO where a combination with both fails, and a number where the config refuses."""
    reasons: list[str] = []

    def cell(pair: Choice) -> str:
        if len(pair) == 1:
            return ""
        reason = refusal(pair)
        if reason is None:
            held = [found for choice, found in results.items() if pair.items() <= dict(choice).items()]
            return "yes" if all(found.works for found in held) else "NO"
        if reason not in reasons:
            reasons.append(reason)
        return f"({reasons.index(reason) + 1})"

    values = [(dimension, value) for dimension in DIMENSIONS for value in DIMENSIONS[dimension]]
    yield "| | " + " | ".join(value for _, value in values) + " |"
    yield "| --- " * (len(values) + 1) + "|"
    for number, (dimension, value) in enumerate(values):
        # Half of it: the other half is the same.
        cells = [cell({dimension: value, other: b}) if other != dimension else "" for other, b in values[: number + 1]]
        yield f"| **{value}** | " + " | ".join(cells + [""] * (len(values) - len(cells))) + " |"
    yield ""
    yield from (f"({number}) `{reason}`" for number, reason in enumerate(reasons, start=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--markdown", type=Path, help="Write the table to this file.")
    parser.add_argument("--json", type=Path, help="Also write the result to this file.")
    arguments = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 4)
    chosen = combinations()
    print(f"{machine()}\n{len(chosen)} combinations hold {len(pairs())} pairs")
    results = {}
    for number, choice in enumerate(chosen, start=1):
        found = results[tuple(choice.items())] = check(choice)
        numbers = f"packed {found.packed:.0e}  cached {found.cached:.0e}  sharded {found.sharded:.0e}"
        print(f"{number:3}  {'works' if found.works else 'FAILS'}  {numbers}  {', '.join(choice.values())}", flush=True)
    text = "\n".join(markdown(results)) + "\n"
    print(f"\n{text}")
    if arguments.markdown:
        arguments.markdown.write_text(_DOCUMENT.format(count=len(chosen)) + text)
    record = {
        "machine": machine(),
        "combinations": [dict(choice) | dataclasses.asdict(found) for choice, found in results.items()],
    }
    print(json.dumps(record))
    if arguments.json:
        arguments.json.write_text(json.dumps(record, indent=2) + "\n")


_DOCUMENT = """# Which variants go together

Made by `python benchmarks/variants.py --markdown docs/variants.md`: every pair of values trains, packed and on several
devices, and decodes with a cache, each equal to the plain computation to 1e-5; or the config refuses it with a reason.
{count} combinations were run, which hold every pair.

"""

if __name__ == "__main__":
    main()

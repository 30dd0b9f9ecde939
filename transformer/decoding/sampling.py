"""How the next token is drawn from a model's logits.

In this order: tokens that were there already are made less likely (`penalise`); logits are divided by the temperature;
top-k, top-p and min-p (`keep_top_k`, `keep_top_p`, `keep_min_p`) each leave some of what is then probable; one of what
is left is drawn. Each is a function of logits alone, and can be used without the others.

Letters: B rows, V vocabulary.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from transformer.decoding.sampling_settings import Sampling

__all__ = [
    "Sampling",
    "Values",
    "draw",
    "filtered",
    "keep_min_p",
    "keep_top_k",
    "keep_top_p",
    "log_probabilities",
    "penalise",
]

# Values of the settings that do something, by name. Which there are is part of a compiled program, their values are
# not: another temperature compiles nothing.
Values = dict[str, np.float32 | jax.Array]


def penalise(logits_BV: jax.Array, seen_BV: jax.Array, penalty: float | jax.Array) -> jax.Array:
    """Makes tokens less likely that were there already (CTRL; Keskar et al. 2019, section 4.1).

    The paper divides their logits. Where one is below 0, which would make it likelier, it is multiplied.
    """
    penalised_BV = jnp.where(logits_BV > 0, logits_BV / penalty, logits_BV * penalty)
    return jnp.where(seen_BV, penalised_BV, logits_BV)


def keep_top_k(logits_BV: jax.Array, k: float | jax.Array) -> jax.Array:
    """-inf for all but the k largest (Fan et al. 2018); all that equal the last of them stay too."""
    return _largest(logits_BV, lambda kept_BV: jnp.sum(kept_BV, axis=-1).astype(jnp.float32), k)


def keep_top_p(logits_BV: jax.Array, p: float | jax.Array) -> jax.Array:
    """-inf for all but the nucleus (Holtzman et al. 2020): the fewest of the most probable tokens whose probabilities
    add up to p or more. All that equal the last of them stay too."""
    probabilities_BV = jax.nn.softmax(logits_BV, axis=-1)
    return _largest(logits_BV, lambda kept_BV: jnp.sum(jnp.where(kept_BV, probabilities_BV, 0.0), axis=-1), p)


def keep_min_p(logits_BV: jax.Array, p: float | jax.Array) -> jax.Array:
    """-inf for tokens with less than p times the probability of the most probable one (Nguyen et al. 2024)."""
    return jnp.where(logits_BV >= jnp.max(logits_BV, axis=-1, keepdims=True) + jnp.log(p), logits_BV, -jnp.inf)


def filtered(logits_BV: jax.Array, seen_BV: jax.Array | None, values: Values) -> jax.Array:
    """Logits of the distribution that is drawn from; -inf: never.

    Args:
      seen_BV: tokens that were there already, bool; None where no value looks back.
      values: `Sampling.values()`.
    """
    if "repetition_penalty" in values:
        logits_BV = penalise(logits_BV, seen_BV, values["repetition_penalty"])
    if "temperature" in values:
        logits_BV = logits_BV / values["temperature"]
    for name, keep in (("top_k", keep_top_k), ("top_p", keep_top_p), ("min_p", keep_min_p)):
        if name in values:
            logits_BV = keep(logits_BV, values[name])
    return logits_BV


def draw(
    logits_BV: jax.Array, seen_BV: jax.Array | None, seeds_B: jax.Array, position: jax.Array, values: Values
) -> jax.Array:
    """The next token of each row: int32 [B].

    What is drawn for a row depends on its seed (uint32), the position and its logits, not on the other rows.
    """
    logits_BV = filtered(logits_BV, seen_BV, values)
    if "temperature" not in values:
        return jnp.argmax(logits_BV, axis=-1).astype(jnp.int32)

    def noise(seed: jax.Array) -> jax.Array:
        return jax.random.gumbel(jax.random.fold_in(jax.random.key(seed), position), logits_BV.shape[1:])

    # The largest of logits with Gumbel noise is a draw from their softmax.
    return jnp.argmax(logits_BV + jax.vmap(noise)(seeds_B), axis=-1).astype(jnp.int32)


def log_probabilities(logits_BV: jax.Array, tokens_B: jax.Array) -> jax.Array:
    """Of tokens under a model's own distribution, whatever they were drawn from: [B], or any shape of tokens."""
    chosen_BV = jax.nn.one_hot(tokens_B, logits_BV.shape[-1], dtype=bool)
    return jnp.sum(jnp.where(chosen_BV, logits_BV, 0), axis=-1) - jax.nn.logsumexp(logits_BV, axis=-1)


def _largest(logits_BV: jax.Array, size_of: Callable[[jax.Array], jax.Array], wanted: float | jax.Array) -> jax.Array:
    """-inf for all but the fewest largest logits whose size, a function of which are kept, is at least `wanted`.

    Their least is found bit by bit among the numbers of float32, in 32 passes: sorting a row of a large vocabulary
    takes a CPU many times longer than a step of the model. Where not even all are enough, all stay.
    """
    # Floats by their bits, in the order of their values; -0, which has the bits of the sign alone, equals 0.
    bits_BV = jax.lax.bitcast_convert_type(logits_BV.astype(jnp.float32), jnp.uint32)
    sign = jnp.uint32(1 << 31)
    bits_BV = jnp.where(bits_BV == sign, 0, bits_BV)
    places_BV = jnp.where(bits_BV >= sign, ~bits_BV, bits_BV | sign)

    def turn(number: jax.Array, least_B: jax.Array) -> jax.Array:
        tried_B = least_B | (sign >> number.astype(jnp.uint32))
        return jnp.where(size_of(places_BV >= tried_B[:, None]) >= wanted, tried_B, least_B)

    nothing_B = 0 * jnp.max(places_BV, axis=-1)  # split over devices as the rows are; zeros made anew need not be
    least_B = jax.lax.fori_loop(0, 32, turn, nothing_B)
    return jnp.where(places_BV >= least_B[:, None], logits_BV, -jnp.inf)

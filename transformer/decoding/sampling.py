"""How the next token is drawn from a model's logits.

In this order: tokens that were there already are made less likely (`repetition_penalty`); logits are divided by the
temperature; of what is then probable, top-k, top-p and min-p each leave less; one of what is left is drawn.

Letters: B rows, V vocabulary.
"""

import dataclasses

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Sampling:
    """Settings of a draw; the defaults draw from the model's own distribution.

    Attributes:
      temperature: logits are divided by it; 0: always the most probable token (greedy), whatever the rest says.
      top_k: only the k most probable tokens; 0: all.
      top_p: only the most probable tokens whose probabilities first add up to p (nucleus; Holtzman et al. 2020).
      min_p: only tokens with at least p times the probability of the most probable one (Nguyen et al. 2024).
      repetition_penalty: logits of tokens in the prompt or the text so far are divided by it where they are above 0,
        and multiplied where they are below (Keskar et al. 2019, section 4.1); 1: none.

    Raises:
      ValueError: for a value out of range.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0

    def __post_init__(self):
        for name, holds, range_ in (
            ("temperature", self.temperature >= 0, "0 (greedy) or more"),
            ("top_k", self.top_k >= 0, "0 (all tokens) or more"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1 (all tokens)"),
            ("min_p", 0 <= self.min_p < 1, "from 0 (all tokens) to below 1"),
            ("repetition_penalty", self.repetition_penalty > 0, "above 0; 1 is none"),
        ):
            if not holds:
                raise ValueError(f"{name} = {getattr(self, name)}: must be {range_}.")


def filtered(logits_BV: jax.Array, seen_BV: jax.Array, settings: Sampling) -> jax.Array:
    """Logits of the distribution that is drawn from; -inf: never. `seen_BV`: tokens that were there already."""
    if settings.repetition_penalty != 1:
        penalty = settings.repetition_penalty
        penalised_BV = jnp.where(logits_BV > 0, logits_BV / penalty, logits_BV * penalty)
        logits_BV = jnp.where(seen_BV, penalised_BV, logits_BV)
    if settings.temperature == 0:
        return logits_BV
    logits_BV = logits_BV / settings.temperature
    if 0 < settings.top_k < logits_BV.shape[-1]:
        logits_BV = _at_least(logits_BV, jax.lax.top_k(logits_BV, settings.top_k)[0][:, -1:])
    if settings.top_p < 1:
        falling_BV = -jnp.sort(-logits_BV, axis=-1)
        probabilities_BV = jax.nn.softmax(falling_BV, axis=-1)
        # A token stays when those before it do not yet add up to p: the first always does.
        before_BV = jnp.cumsum(probabilities_BV, axis=-1) - probabilities_BV
        kept_B1 = jnp.sum(before_BV < settings.top_p, axis=-1, keepdims=True)
        logits_BV = _at_least(logits_BV, jnp.take_along_axis(falling_BV, kept_B1 - 1, axis=-1))
    if settings.min_p:
        highest_B1 = jnp.max(logits_BV, axis=-1, keepdims=True)
        logits_BV = _at_least(logits_BV, highest_B1 + jnp.log(settings.min_p))
    return logits_BV


def draw(logits_BV: jax.Array, seen_BV: jax.Array, seeds_B: jax.Array, position: jax.Array, settings: Sampling):
    """The next token of each row: int32 [B].

    What is drawn for a row depends on its seed (uint32), the position and its logits, not on the other rows.
    """
    logits_BV = filtered(logits_BV, seen_BV, settings)
    if settings.temperature == 0:
        return jnp.argmax(logits_BV, axis=-1).astype(jnp.int32)

    def of_row(logits_V: jax.Array, seed: jax.Array) -> jax.Array:
        return jax.random.categorical(jax.random.fold_in(jax.random.key(seed), position), logits_V)

    return jax.vmap(of_row)(logits_BV, seeds_B).astype(jnp.int32)


def _at_least(logits_BV: jax.Array, least_B1: jax.Array) -> jax.Array:
    return jnp.where(logits_BV >= least_B1, logits_BV, -jnp.inf)

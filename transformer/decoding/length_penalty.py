"""The length penalty of Wu et al. 2016 (equation 14), which the paper uses with alpha = 0.6 (section 6.1)."""

import jax
import jax.numpy as jnp


def penalty(length: jax.Array, alpha: float) -> jax.Array:
    """((5 + length) / 6)^alpha: log-probabilities are divided by it before hypotheses are compared.

    `length` counts generated tokens, EOS included, as Tensor2Tensor does: EOS has a probability of its own in the
    numerator, so it counts in the denominator too.
    """
    return ((5.0 + length.astype(jnp.float32)) / 6.0) ** alpha

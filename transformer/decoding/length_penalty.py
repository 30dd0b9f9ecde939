"""What log-probabilities are divided by before hypotheses of different length are compared."""

import dataclasses

import jax
import jax.numpy as jnp

FORMS = ("gnmt", "power")


@dataclasses.dataclass(frozen=True)
class LengthPenalty:
    """The divisor as a function of how many tokens were generated.

    - gnmt: ((5 + length) / 6)^alpha (Wu et al. 2016, equation 14), which the paper uses with alpha = 0.6 (section 6.1).
    - power: length^alpha, which fairseq (`--lenpen`) and CTranslate2 use; with alpha = 1 hypotheses are compared by
      their mean log-probability a token. The same alpha means more: of 20 tokens gnmt grows with 0.6 as this with 0.48.

    EOS counts as a token, as in Tensor2Tensor and fairseq (not in CTranslate2): it has a probability of its own in the
    numerator, so it counts in the denominator too.

    Args:
      alpha: how much length is favoured; 0 compares probabilities. At least 0.
      form: one of `FORMS`.

    Raises:
      ValueError: for an alpha or form that cannot be.
    """

    alpha: float
    form: str = "gnmt"

    def __post_init__(self):
        if self.alpha < 0:
            raise ValueError(f"length_penalty = {self.alpha}: must be at least 0, or the search ends too early.")
        if self.form not in FORMS:
            raise ValueError(f"length_penalty_form = {self.form!r}: must be one of {', '.join(FORMS)}.")

    def __call__(self, length: jax.Array) -> jax.Array:
        """float32; never less for a longer output. By power, nothing generated counts as one token."""
        length = length.astype(jnp.float32)
        base = jnp.maximum(length, 1.0) if self.form == "power" else (5.0 + length) / 6.0
        return base**self.alpha

"""Settings of a draw, and their ranges. Without JAX: a command checks them before it is loaded."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Sampling:
    """Settings of a draw; the defaults draw from the model's own distribution.

    Their ranges are such that float32, in which draws are computed, holds all that comes of them.

    Attributes:
      temperature: logits are divided by it; 0: always the most probable token (greedy), whatever top-k, top-p and min-p
        say.
      top_k: only the k most probable tokens (Fan et al. 2018); 0: all.
      top_p: only the most probable tokens whose probabilities first add up to p (nucleus; Holtzman et al. 2020).
      min_p: only tokens with at least p times the probability of the most probable one (Nguyen et al. 2024).
      repetition_penalty: tokens of the prompt and of the text so far are made less likely by this factor (CTRL; see
        `penalise`); 1: none.

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
            (
                "temperature",
                self.temperature == 0 or 1e-6 <= self.temperature <= 1e6,
                "0 (greedy), or from 1e-6 to 1e6",
            ),
            ("top_k", 0 <= self.top_k <= 2**24, "from 0 (all tokens) to 16777216"),
            ("top_p", 1e-6 <= self.top_p <= 1, "from 1e-6 to 1 (all tokens)"),
            ("min_p", 0 <= self.min_p < 1, "from 0 (all tokens) to below 1"),
            ("repetition_penalty", 1e-3 <= self.repetition_penalty <= 1e3, "from 0.001 to 1000; 1 is none"),
        ):
            if not holds:
                raise ValueError(f"{name} = {getattr(self, name)}: must be {range_}.")

    @property
    def looks_back(self) -> bool:
        """Whether a draw depends on which tokens there were."""
        return self.repetition_penalty != 1

    def values(self) -> dict[str, np.float32]:
        """Of the settings that do something; without a temperature the draw is greedy."""
        given = {"repetition_penalty": self.repetition_penalty} if self.looks_back else {}
        if self.temperature:
            given["temperature"] = self.temperature
            given |= {"top_k": self.top_k} if self.top_k else {}
            given |= {"top_p": self.top_p} if self.top_p < 1 else {}
            given |= {"min_p": self.min_p} if self.min_p else {}
        return {name: np.float32(value) for name, value in given.items()}

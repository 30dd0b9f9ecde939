"""The norms, and their gradients, against the plain formulas differentiated by JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from transformer.model import norms
from transformer.model.norms import EPSILON


def along(parameter_D, x):
    return jnp.broadcast_to(parameter_D, x.shape)


def plain_layer_norm(x, scale_D, bias_D):
    x = x.astype(jnp.float32)
    centred = x - x.mean(axis=-1, keepdims=True)
    normed = centred / jnp.sqrt((centred**2).mean(axis=-1, keepdims=True) + EPSILON) * along(scale_D, x)
    return normed if bias_D is None else normed + along(bias_D, x)


def plain_rms_norm(x, scale_D):
    x = x.astype(jnp.float32)
    return x / jnp.sqrt((x**2).mean(axis=-1, keepdims=True) + EPSILON) * along(scale_D, x)


def random(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


WIDTH = 6
SCALE_D, BIAS_D = 1 + 0.3 * random(1, WIDTH), 0.3 * random(2, WIDTH)


@pytest.mark.parametrize(
    ("ours", "plain", "parameters"),
    [
        (norms._layer_norm, plain_layer_norm, (SCALE_D, BIAS_D)),
        (norms._layer_norm, plain_layer_norm, (SCALE_D, None)),
        (norms._rms_norm, plain_rms_norm, (SCALE_D,)),
    ],
    ids=["layer", "layer without bias", "rms"],
)
@pytest.mark.parametrize("spread", [3.0, 1e-3], ids=["usual", "variance near epsilon"])
@pytest.mark.parametrize(("shape", "dtype"), [((2, 3), "float32"), ((2, 3, 4), "float32"), ((2, 3), "bfloat16")])
def test_output_and_gradients_are_those_of_the_formula(ours, plain, parameters, spread, shape, dtype):
    x = (0.5 * spread + spread * random(3, *shape, WIDTH)).astype(dtype)
    g = random(4, *shape, WIDTH).astype(dtype)

    def gradients(norm):
        output, back = jax.vjp(lambda x, *parameters: norm(x, *parameters).astype(x.dtype), x, *parameters)
        return jax.tree.leaves((output, back(g)))

    for found, expected in zip(gradients(ours), gradients(plain), strict=True):
        assert found.dtype == expected.dtype
        # A gradient grows with 1 / spread: what is compared is relative to the largest.
        error = jnp.abs(found.astype(jnp.float32) - expected.astype(jnp.float32)).max() / jnp.abs(expected).max()
        assert error < (1e-5 if dtype == "float32" else 2e-2)

"""What encoder and decoder layers are made of: embedding, feed-forward network, the residual around them, the stack.

Letters: B batch, T length, D model, F feed-forward, V vocabulary.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from transformer import sharding
from transformer.config import ModelConfig
from transformer.model.attention import glorot
from transformer.model.dropout import DropoutKey, dropout
from transformer.model.norms import make_norm
from transformer.model.products import PRODUCT, activation_dtype, product

# What each `config.remat` keeps of a layer beside its input.
KEPT = {
    "all_but_products": jax.checkpoint_policies.save_only_these_names(PRODUCT),
    "all": jax.checkpoint_policies.nothing_saveable,
}
ACTIVATIONS = {"relu": jax.nn.relu, "gelu": jax.nn.gelu, "swiglu": jax.nn.silu, "geglu": jax.nn.gelu}


class Embedding(nnx.Module):
    """A vector for every token (section 3.4). The same matrix may read tokens and score them."""

    def __init__(self, vocab_size: int, config: ModelConfig, *, rngs: nnx.Rngs):
        table_VD = config.d_model**-0.5 * jax.random.normal(rngs.params(), (vocab_size, config.d_model))
        self.table = nnx.Param(table_VD, axes=("vocabulary", "embed"))
        self.dtype = config.dtype

    def __call__(self, tokens_BT: jax.Array) -> jax.Array:
        """[B, T, D], "multiplied by sqrt(d_model)"."""
        table_VD = self.whole()
        x_BTD = table_VD.at[tokens_BT].get(out_sharding=sharding.like(tokens_BT, 0, 1, None))
        return (x_BTD * math.sqrt(x_BTD.shape[-1])).astype(activation_dtype(self.dtype))

    def whole(self) -> jax.Array:
        """The matrix [V, D] for use: gathered along fsdp, split by vocabulary along tensor."""
        return sharding.gather(self.table[...], ("vocabulary", "embed"))


class FeedForward(nnx.Module):
    """max(0, x W_1 + b_1) W_2 + b_2 (equation 2), or another activation in the place of the max.

    The gated ones multiply what they pass by a second product, x V (Shazeer 2020); for as many parameters d_ff is then
    two thirds of what it was.
    """

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        width, inner = config.d_model, config.d_ff

        def into() -> nnx.Param:
            return nnx.Param(glorot(rngs, (width, inner), width, inner), axes=("embed", "feed_forward"))

        self.inner = into()
        self.gate = into() if config.gated else None
        self.inner_bias = nnx.Param(jnp.zeros(inner), axes=("feed_forward",)) if config.biases else None
        self.outer = nnx.Param(glorot(rngs, (inner, width), inner, width), axes=("feed_forward", "embed"))
        self.outer_bias = nnx.Param(jnp.zeros(width), axes=("features",)) if config.biases else None
        self.activation = ACTIVATIONS[config.activation]
        self.dtype = config.dtype

    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        h_BTF = self.activation(_biased(self._into(x_BTD, self.inner), self.inner_bias))
        if self.gate is not None:
            h_BTF = h_BTF * self._into(x_BTD, self.gate)
        split = sharding.like(x_BTD, 0, 1, None)
        y_BTD = product("BTF,FD->BTD", h_BTF, self.outer[...], ("feed_forward", "embed"), self.dtype, split)
        return _biased(y_BTD, self.outer_bias)

    def _into(self, x_BTD: jax.Array, weights: nnx.Param) -> jax.Array:
        return product("BTD,DF->BTF", x_BTD, weights[...], ("embed", "feed_forward"), self.dtype)


def _biased(x_BTF: jax.Array, bias: nnx.Param | None) -> jax.Array:
    # Cast where it is wide already: so its gradient is added up in float32.
    return x_BTF if bias is None else x_BTF + sharding.along(bias[...], x_BTF).astype(x_BTF.dtype)


class Residual(nnx.Module):
    """The norm and the way around one sub-layer (section 3.1): where the norm stands is `config.norm`.

    post: Norm(x + Dropout(Sublayer(x))); pre: x + Dropout(Sublayer(Norm(x))).
    A sub-layer reads `before(x)`; `after(x, result)` joins its result to x.
    """

    def __init__(self, config: ModelConfig):
        self.norm = make_norm(config)
        self.placement = config.norm
        self.rate = config.dropout

    def before(self, x_BTD: jax.Array) -> jax.Array:
        return self.norm(x_BTD) if self.placement == "pre" else x_BTD

    def after(self, x_BTD: jax.Array, result_BTD: jax.Array, key: DropoutKey | None) -> jax.Array:
        x_BTD = x_BTD + dropout(result_BTD, self.rate, key)
        return self.norm(x_BTD) if self.placement == "post" else x_BTD


class Stack(nnx.Module):
    """Identical layers held as one, every parameter with a leading axis of layers, run by one scan.

    Compile time does not grow with depth, and whatever works on parameters sees one array of each kind.
    """

    def __init__(
        self, make_layer: Callable[[nnx.Rngs], nnx.Module], depth: int, config: ModelConfig, *, rngs: nnx.Rngs
    ):
        graph = None

        def state(key: jax.Array) -> nnx.State:
            nonlocal graph  # the same for every layer; building one more for it would take as long as all of them
            graph, values = nnx.split(make_layer(nnx.Rngs(params=key)))
            return values

        values = jax.vmap(state)(jax.random.split(rngs.params(), depth))
        self.layers = nnx.merge(graph, values)
        self.depth = depth
        self.unroll = min(config.unroll, depth)
        self.remat = config.remat

    def scan(self, body: Callable, carry: jax.Array, key: DropoutKey | None) -> tuple[jax.Array, object]:
        """Runs `body(layer, carry, key) -> (carry, extra)` over the layers; extras come back stacked, [L, ...]."""
        graph, state = nnx.split(self.layers)

        def turn(carry, inputs):
            state, number = inputs
            return body(nnx.merge(graph, state), carry, None if key is None else key.fold(number))

        if self.remat != "none":
            # Between the loops forward and backward nothing is merged with its own recomputation. Outside of loops it
            # is: where there is but one turn, which the compiler takes for none, and in layers left over after the
            # last.
            turns, left_over = divmod(self.depth, self.unroll)
            turn = jax.checkpoint(turn, prevent_cse=turns == 1 or left_over > 0, policy=KEPT[self.remat])
        if self.unroll == self.depth:
            return self._in_turn(turn, carry, state)
        return jax.lax.scan(turn, carry, (state, jnp.arange(self.depth)), unroll=self.unroll)

    def _in_turn(self, turn: Callable, carry: jax.Array, state: nnx.State) -> tuple[jax.Array, object]:
        """The scan without a loop.

        An unrolled scan stacks what its backward pass needs of every layer only to take it apart again: on a CPU a
        tenth of a small model's step.
        """
        turn = jax.jit(turn)  # traced once, not once a layer
        leaves, tree = jax.tree.flatten(state)
        # Split, not indexed: so the gradients of a parameter come together in one pass.
        leaves_of_layers = zip(*(jax.lax.split(leaf, (1,) * self.depth) for leaf in leaves), strict=True)
        extras = []
        for number, leaves in enumerate(leaves_of_layers):
            layer = tree.unflatten([jnp.squeeze(leaf, 0) for leaf in leaves])
            carry, extra = turn(carry, (layer, jnp.int32(number)))
            extras.append(extra)
        return carry, jax.tree.map(lambda *extras: jnp.stack(extras), *extras)

    def unstacked(self) -> list[nnx.Module]:
        """The layers one by one. Each is a copy: worth it where a loop uses the weights many times, as in decoding."""
        return self.of(self.unstacked_parameters())

    def unstacked_parameters(self) -> list[dict[str, Any]]:
        """The parameters of each layer."""
        state = nnx.to_pure_dict(nnx.state(self.layers))
        return [jax.tree.map(lambda leaf, i=i: leaf[i], state) for i in range(self.depth)]

    def of(self, parameters: list[dict[str, Any]]) -> list[nnx.Module]:
        """Layers with these parameters, one by one, whatever the stack's own are."""
        graph, abstract = nnx.split(self.layers)

        def layer(values: dict[str, Any]) -> nnx.Module:
            state = jax.tree.map(lambda variable: variable, abstract)
            nnx.replace_by_pure_dict(state, values)
            return nnx.merge(graph, state)

        return [layer(values) for values in parameters]

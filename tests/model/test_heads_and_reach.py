"""What heads and masks come to where one kind is the limit of another: in whole models."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_model import batch_of, blueprint_of, examples_of, random_params, relative, tiny

LENGTH = 9
BATCH = batch_of([examples_of((4, 5), (5, 4)), examples_of((9, 9), seed=1)], LENGTH, LENGTH)
BATCH["target_prompt"] = np.zeros_like(BATCH["targets"])


def output(params, **changes) -> np.ndarray:
    blueprint = blueprint_of(tiny(**changes))
    return np.asarray(jax.jit(lambda params: blueprint.bind(params)(BATCH))(params))


@pytest.mark.parametrize("architecture", ["encoder_decoder", "language_model"])
@pytest.mark.parametrize("reach", ["attention_window", "attention_chunk"])
def test_of_the_whole_length_it_is_causal(architecture, reach):
    changes = {"architecture": architecture, "positions": "rotary"}
    params = random_params(blueprint_of(tiny(**changes)))
    causal = output(params, **changes)
    np.testing.assert_array_equal(output(params, **changes, **{reach: LENGTH}), causal)
    assert relative(output(params, **changes, **{reach: LENGTH // 3}), causal) > 1e-3


def shared(params, heads: int):
    """Keys and values of every group, once for each of its heads."""

    def repeat(path, leaf):
        if path[-1].key not in ("key", "value"):
            return leaf
        return jnp.repeat(leaf, heads // leaf.shape[2], axis=2)  # [L, D, K, H]

    return jax.tree_util.tree_map_with_path(repeat, params)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_grouped_heads_are_multi_head_with_groups_written_out(groups):
    """With as many groups as heads nothing is written out: it is multi-head attention."""
    grouped = {"num_heads": 4, "num_kv_heads": groups}
    params = random_params(blueprint_of(tiny(**grouped)))
    multi_head = shared(params, 4)
    if groups == 4:
        assert all(map(np.array_equal, jax.tree.leaves(multi_head), jax.tree.leaves(params)))
    assert relative(output(params, **grouped), output(multi_head, num_heads=4)) < 1e-5

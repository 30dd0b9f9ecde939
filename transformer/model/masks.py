"""Who may attend to whom, from segments and positions. Every mask is bool, True = attend, of shape [B, 1, T, S].

A segment numbers the examples of a packed row from 1; 0 is padding. In a row of one example all real tokens are segment
1. The same functions therefore serve padded and packed batches.

Letters: B batch, T query length, S key length.
"""

import jax

from transformer import sharding


def same_segment(query_segments_BT: jax.Array, key_segments_BS: jax.Array) -> jax.Array:
    """Real keys of the query's own example.

    query segments 1 1 2 0, key segments 1 1 2 0:

        x x . .
        x x . .
        . . x .
        . . . .
    """
    queries_B1T1 = query_segments_BT[:, None, :, None]
    keys_B11S = _keys(key_segments_BS)
    return (queries_B1T1 == keys_B11S) & (keys_B11S != 0)


def causal(query_positions_BT: jax.Array, key_positions_BS: jax.Array) -> jax.Array:
    """Keys at or before the query (section 3.2.3): "prevent leftward information flow".

    positions 0 1 2:

        x . .
        x x .
        x x x
    """
    return query_positions_BT[:, None, :, None] >= _keys(key_positions_BS)


def _keys(of_keys_BS: jax.Array) -> jax.Array:
    """[B, 1, 1, S], whole on every device that has some of the queries."""
    return sharding.place(of_keys_BS, "batch", None)[:, None, None, :]

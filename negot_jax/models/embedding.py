"""Embedding lookup on a mesh: tokens move between devices, the sharded matrix does not."""

import math

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from negot_jax.models.sharding import FSDP, ROWS, TENSOR


def look_up(matrix_VxD: jax.Array, tokens: jax.Array) -> jax.Array:
    """Rows of the matrix by index: int32 [...] to [..., D].

    On a mesh each device looks up the tokens of its `fsdp` group in its own shard and sends the rows to their owners.
    Left to itself, the compiler would all-gather the matrix at every decoding step.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return matrix_VxD[tokens]
    parts = math.prod(mesh.shape[name] for name in ROWS)
    padded_N = jnp.pad(tokens.reshape(-1), (0, -tokens.size % parts))  # Rows that the devices do not divide.
    is_sharded = matrix_VxD.shape[0] % mesh.shape[TENSOR] == 0

    def local(part_VxD, tokens_N):
        tokens_N = jax.lax.all_gather(tokens_N, FSDP, tiled=True)
        if is_sharded:
            tokens_N = tokens_N - jax.lax.axis_index(TENSOR) * part_VxD.shape[0]
            here_N = (tokens_N >= 0) & (tokens_N < part_VxD.shape[0])
            x_NxD = jax.lax.psum(jnp.where(here_N[:, None], part_VxD.at[tokens_N].get(mode="clip"), 0), TENSOR)
        else:
            x_NxD = part_VxD[tokens_N]
        return jax.lax.all_to_all(x_NxD, FSDP, split_axis=0, concat_axis=1, tiled=True)

    in_specs = (P(TENSOR if is_sharded else None, FSDP), P(ROWS))
    found_NxD = jax.shard_map(local, in_specs=in_specs, out_specs=P(ROWS))(matrix_VxD, padded_N)
    return found_NxD[: tokens.size].reshape(*tokens.shape, -1)

"""Looking up rows of a matrix that is cut over a mesh, so that what moves is tokens and not the matrix."""

import math

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from negot_jax.models.sharding import FSDP, ROWS, TENSOR


def look_up(matrix_VxD: jax.Array, tokens: jax.Array) -> jax.Array:
    """The matrix's rows by their numbers: int32 [...] to [..., D].

    On a mesh every device looks up what its part of the matrix has of the tokens along `fsdp`, and hands it to those
    whose tokens they are. Left to itself, the compiler would put the whole matrix together at every step of decoding.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return matrix_VxD[tokens]
    parts = math.prod(mesh.shape[name] for name in ROWS)
    padded_N = jnp.pad(tokens.reshape(-1), (0, -tokens.size % parts))  # Rows that the devices do not divide.
    is_cut = matrix_VxD.shape[0] % mesh.shape[TENSOR] == 0

    def local(part_VxD, tokens_N):
        tokens_N = jax.lax.all_gather(tokens_N, FSDP, tiled=True)
        if is_cut:
            tokens_N = tokens_N - jax.lax.axis_index(TENSOR) * part_VxD.shape[0]
            here_N = (tokens_N >= 0) & (tokens_N < part_VxD.shape[0])
            x_NxD = jax.lax.psum(jnp.where(here_N[:, None], part_VxD.at[tokens_N].get(mode="clip"), 0), TENSOR)
        else:
            x_NxD = part_VxD[tokens_N]
        return jax.lax.all_to_all(x_NxD, FSDP, split_axis=0, concat_axis=1, tiled=True)

    in_specs = (P(TENSOR if is_cut else None, FSDP), P(ROWS))
    found_NxD = jax.shard_map(local, in_specs=in_specs, out_specs=P(ROWS))(matrix_VxD, padded_N)
    return found_NxD[: tokens.size].reshape(*tokens.shape, -1)

"""Checksums of arrays, computed where they are: no copy to the host, and the same however an array is sharded."""

import contextlib
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding


def of(tree: Any) -> dict[str, int]:
    """Returns a checksum of each leaf, typed PRNG keys included, by its path."""
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    sums = jax.device_get([_on_own_mesh(leaf) for _, leaf in flat])
    return {jax.tree_util.keystr(path): int(value) for (path, _), value in zip(flat, sums, strict=True)}


def _on_own_mesh(x: jax.Array) -> jax.Array:
    """Its checksum, whatever the current mesh: a state may be restored to another one."""
    placed = isinstance(x, jax.Array) and isinstance(x.sharding, NamedSharding)
    with jax.set_mesh(x.sharding.mesh) if placed else contextlib.nullcontext():
        return _checksum(x)


@jax.jit
def _checksum(x: jax.Array) -> jax.Array:
    """The sum of a hash of each element's bits and place, modulo 2^32."""
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        x = jax.random.key_data(x)
    if x.dtype == bool:
        x = x.astype(jnp.uint8)
    words = jax.lax.bitcast_convert_type(x, f"uint{8 * min(x.dtype.itemsize, 4)}").astype(jnp.uint32)
    for axis in range(words.ndim):
        words += jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis) * jnp.uint32(0x9E3779B1 + 2 * axis)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):  # The integer hash "lowbias32", but for its last shift.
        words = (words ^ (words >> shift)) * jnp.uint32(factor)
    return words.sum(dtype=jnp.uint32)

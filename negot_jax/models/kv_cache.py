"""The key-value cache of a transformer, in the layouts that attention multiplies. Suffixes as in `transformer`."""

import itertools

from flax import struct
import jax
import jax.numpy as jnp

from negot_jax.models import sharding
from negot_jax.models.presets import ModelConfig


@struct.dataclass
class Cache:
    """The columns read so far.

    keys: by stack of layers (see `stacks`), [layers, B, K, H, S], or [B * K, H, S] of one layer; values: likewise,
    with [..., S, H]. valid_BxS: False where a column is padding. cursor: int32, the column to write next, one for all
    rows. experts_LxBxSxk: the experts that each token passed, in each of the layers that have some. Attention reads all
    S columns, so let a cache grow (`widen`) rather than begin with them all.
    """

    keys: tuple[jax.Array, ...]
    values: tuple[jax.Array, ...]
    valid_BxS: jax.Array
    cursor: jax.Array
    experts_LxBxSxk: jax.Array | None = None

    def at(self, cursor: jax.Array | int) -> "Cache":
        """The same columns, to be written from another one on."""
        return self.replace(cursor=jnp.asarray(cursor, jnp.int32))


def init_cache(batch: int, columns: int, config: ModelConfig) -> Cache:
    def zeros(*columns_and_head):
        K = config.kv_heads
        heads = [(batch * K,) if apart() else (last - first, batch, K) for first, last in stacks(config)]
        return tuple(sharding.shard_cache(jnp.zeros((*shape, *columns_and_head), config.dtype)) for shape in heads)

    H, valid_BxS, experts = config.head_dim, jnp.zeros((batch, columns), bool), None
    if config.experts:
        ids = jnp.zeros((config.mixtures, batch, columns, config.active_experts), config.expert_ids)
        experts = sharding.shard_rows(ids, axis=1)
    return Cache(zeros(H, columns), zeros(columns, H), valid_BxS, jnp.zeros((), jnp.int32), experts)


def widen(cache: Cache, columns: int, group: int = 1) -> Cache:
    """The cache with each row repeated `group` times, and room for so many columns in all."""
    B, S = cache.valid_BxS.shape

    def widened(x, axis):
        if group > 1 and x.ndim > 3:
            x = jnp.repeat(x, group, axis=1)
        elif group > 1:
            x = jnp.repeat(x.reshape(B, -1), group, axis=0).reshape(-1, *x.shape[1:])
        return jnp.pad(x, [(0, columns - S if dimension == axis else 0) for dimension in range(-x.ndim, 0)])

    return cache.replace(
        keys=tuple(sharding.shard_cache(widened(keys, -1)) for keys in cache.keys),
        values=tuple(sharding.shard_cache(widened(values, -2)) for values in cache.values),
        valid_BxS=widened(cache.valid_BxS, -1),
        experts_LxBxSxk=jax.tree.map(lambda x: sharding.shard_rows(widened(x, -2), axis=1), cache.experts_LxBxSxk),
    )


def forget(cache: Cache, rows_B: jax.Array, start: jax.Array, width: int) -> Cache:
    """Makes `width` columns of some rows padding."""
    columns_S = jnp.arange(cache.valid_BxS.shape[1])
    forgotten_BxS = rows_B[:, None] & (columns_S >= start) & (columns_S < start + width)
    return cache.replace(valid_BxS=cache.valid_BxS & ~forgotten_BxS)


def choose(rows_B: jax.Array, cache: Cache, other: Cache, start: jax.Array, width: int) -> Cache:
    """The cache, but the rows not chosen as in another one, which differs from it in `width` columns only."""

    def chosen(x, y, axis):
        stacked = x.ndim > 3
        chosen_B = rows_B if stacked else jnp.repeat(rows_B, x.shape[0] // rows_B.size)
        x_columns, y_columns = (jax.lax.dynamic_slice_in_dim(part, start, width, axis) for part in (x, y))
        columns = jnp.where(jnp.expand_dims(chosen_B, range(1, x.ndim - stacked)), x_columns, y_columns)
        return jax.lax.dynamic_update_slice_in_dim(x, columns, start, axis)

    pick = lambda xs, ys, axis: jax.tree.map(lambda x, y: sharding.shard_cache(chosen(x, y, x.ndim + axis)), xs, ys)
    return cache.replace(
        keys=pick(cache.keys, other.keys, -1),
        values=pick(cache.values, other.values, -2),
        valid_BxS=jnp.where(rows_B[:, None], cache.valid_BxS, other.valid_BxS),
        experts_LxBxSxk=jax.tree.map(lambda x, y: chosen(x, y, 2), cache.experts_LxBxSxk, other.experts_LxBxSxk),
    )


def apart() -> bool:
    """Whether every layer has a cache of its own, and not a place in a stack.

    An accelerator writes and reads a layer of a stack in place. A CPU would copy the stack at each of them.
    """
    return sharding.platform() == "cpu"


def stacks(config: ModelConfig) -> list[tuple[int, int]]:
    """The first and last layer, exclusive, of each part of the layers that has a cache of its own."""
    return [(layer, layer + 1) for layer in range(config.layers)] if apart() else runs(config)


def runs(config: ModelConfig) -> list[tuple[int, int]]:
    """The first and last layer, exclusive, of each stretch of layers of one kind, dense or with experts."""
    dense = config.is_dense
    ends = [layer for layer in range(1, config.layers) if dense[layer] != dense[layer - 1]]
    return list(itertools.pairwise([0, *ends, config.layers]))

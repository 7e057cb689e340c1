"""The key-value cache of a transformer, in the layouts that attention multiplies.

Shape suffixes as in `transformer`.
"""

from flax import struct
import jax
import jax.numpy as jnp

from negot_jax.models import sharding
from negot_jax.models.presets import ModelConfig

_SHALLOW = 8  # Layers up to which a CPU runs one after another, not in a loop.


@struct.dataclass
class Cache:
    """The columns read so far.

    keys: by stack of layers (see `stacks_of`), [layers, B, K, H, S], or [B, K, H, S] of one layer; values: likewise,
    with [..., S, H]. valid_BxS: False where a column is padding. Attention reads all S columns, so let a cache grow
    (`widen`) rather than begin with them all.
    """

    keys: tuple[jax.Array, ...]
    values: tuple[jax.Array, ...]
    valid_BxS: jax.Array


def init_cache(batch: int, columns: int, config: ModelConfig) -> Cache:
    def zeros(*columns_and_head):
        shape = (batch, config.kv_heads, *columns_and_head)
        shapes = [shape if last - first == 1 else (last - first, *shape) for first, last in stacks_of(config)]
        return tuple(sharding.shard_cache(jnp.zeros(shape, config.dtype)) for shape in shapes)

    H = config.head_dim
    return Cache(zeros(H, columns), zeros(columns, H), valid_BxS=jnp.zeros((batch, columns), bool))


def widen(cache: Cache, columns: int, group: int = 1) -> Cache:
    """The cache with each row repeated `group` times, and room for so many columns in all."""
    room = columns - cache.valid_BxS.shape[1]

    def widened(x, rows, axis):
        padding = [(0, room if dimension == axis else 0) for dimension in range(-x.ndim, 0)]
        return jnp.pad(jnp.repeat(x, group, axis=rows) if group > 1 else x, padding)

    return Cache(
        keys=tuple(sharding.shard_cache(widened(keys, -4, -1)) for keys in cache.keys),
        values=tuple(sharding.shard_cache(widened(values, -4, -2)) for values in cache.values),
        valid_BxS=widened(cache.valid_BxS, -2, -1),
    )


def stacks_of(config: ModelConfig) -> list[tuple[int, int]]:
    """The first and last layer, exclusive, of each stack of layers that is run in a loop.

    An accelerator has one stack, whatever the depth, since it reads a layer of a cache in place. A CPU would copy the
    layer before it multiplies: there each layer of a shallow model is a stack of its own, and its cache an array.
    """
    if sharding.platform() == "cpu" and config.layers <= _SHALLOW:
        return [(layer, layer + 1) for layer in range(config.layers)]
    return [(0, config.layers)]

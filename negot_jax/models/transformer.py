"""A decoder-only transformer: RMSNorm, RoPE, grouped-query attention with QK-norm, SwiGLU.

Layers are Flax NNX modules, but only this file knows it: elsewhere a model is a pytree of weights, its layers stacked
`[layers, ...]`, and the functions below. One `forward` serves training (no cache), prefill (a chunk of tokens) and
decoding (one token), so the sampler cannot drift from the trainer.

Shape suffixes: B batch, T new tokens, S cache columns, D width, N query heads, K key-value heads, H head size,
V vocabulary.
"""

import functools
import math

from flax import nnx, struct
import jax
import jax.numpy as jnp

from negot_jax.models.presets import ModelConfig

Weights = dict[str, nnx.State]


@struct.dataclass
class Cache:
    """The columns read so far: keys and values [layers, B, S, K, H]; valid_BxS: False where a column is padding."""

    keys: jax.Array
    values: jax.Array
    valid_BxS: jax.Array


def linear(x: jax.Array, weight: nnx.Param) -> jax.Array:
    """x [B, T, *in] times weight [*in, *out]: [B, T, *out].

    One product of two matrices: with B and T kept apart, XLA's backward pass takes 2.5 times as long on a CPU.
    """
    matrix = weight[...].astype(x.dtype)
    inputs = x.ndim - 2
    rows = x.reshape(-1, math.prod(x.shape[2:]))
    return (rows @ matrix.reshape(rows.shape[1], -1)).reshape(*x.shape[:2], *matrix.shape[inputs:])


class Attention(nnx.Module):
    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        N, K, H, D = config.heads, config.kv_heads, config.head_dim, config.width
        scaled = functools.partial(nnx.initializers.variance_scaling, mode="fan_in", distribution="normal")
        normal = scaled(1.0, in_axis=0, out_axis=(1, 2))
        self.query = nnx.Param(normal(rngs.params(), (D, N, H)))
        self.key = nnx.Param(normal(rngs.params(), (D, K, H)))
        self.value = nnx.Param(normal(rngs.params(), (D, K, H)))
        out = scaled(1.0 / (2 * config.layers), in_axis=(0, 1), out_axis=2)
        self.out = nnx.Param(out(rngs.params(), (N, H, D)))
        self.query_norm = nnx.RMSNorm(H, epsilon=config.norm_eps, dtype=config.dtype, rngs=rngs)
        self.key_norm = nnx.RMSNorm(H, epsilon=config.norm_eps, dtype=config.dtype, rngs=rngs)

    def project(self, x_BxTxD, rope):
        """The queries, keys and values of the new tokens, normalised and rotated."""
        query, key, value = (linear(x_BxTxD, weight) for weight in (self.query, self.key, self.value))
        return rotate(self.query_norm(query), rope), rotate(self.key_norm(key), rope), value

    def attend(self, query_BxTxNxH, keys_BxSxKxH, values_BxSxKxH, mask_BxTxS, blocks: tuple[int, ...]):
        def stretch(start, end, span):
            return jax.nn.dot_product_attention(
                query_BxTxNxH[:, start:end],
                keys_BxSxKxH[:, :span],
                values_BxSxKxH[:, :span],
                mask=mask_BxTxS[:, None, start:end, :span],
                implementation="xla",
            )

        if blocks:
            parts = [stretch(start, end, end) for start, end in zip((0, *blocks[:-1]), blocks, strict=True)]
            mixed = jnp.concatenate(parts, axis=1)
        else:
            mixed = stretch(0, None, None)
        return linear(mixed, self.out)


class Mlp(nnx.Module):
    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        normal = nnx.initializers.variance_scaling(1.0, "fan_in", "normal")
        down = nnx.initializers.variance_scaling(1.0 / (2 * config.layers), "fan_in", "normal")
        self.gate = nnx.Param(normal(rngs.params(), (config.width, config.mlp)))
        self.up = nnx.Param(normal(rngs.params(), (config.width, config.mlp)))
        self.down = nnx.Param(down(rngs.params(), (config.mlp, config.width)))

    def __call__(self, x):
        return linear(jax.nn.silu(linear(x, self.gate)) * linear(x, self.up), self.down)


class Block(nnx.Module):
    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        norm = functools.partial(nnx.RMSNorm, config.width, epsilon=config.norm_eps, dtype=config.dtype, rngs=rngs)
        self.attention_norm, self.mlp_norm = norm(), norm()
        self.attention, self.mlp = Attention(config, rngs), Mlp(config, rngs)


class Ends(nnx.Module):
    """What stands before and after the layers: the embedding, the last norm and, unless tied, the output matrix."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        normal = nnx.initializers.normal(config.width**-0.5)
        self.embedding = nnx.Param(normal(rngs.params(), (config.vocab_size, config.width)))
        self.norm = nnx.RMSNorm(config.width, epsilon=config.norm_eps, dtype=config.dtype, rngs=rngs)
        if not config.tied_embedding:
            self.unembedding = nnx.Param(normal(rngs.params(), (config.vocab_size, config.width)))


@functools.lru_cache
def _graph(module: type[nnx.Module], config: ModelConfig) -> nnx.GraphDef:
    """The static half of a module; its weights live in the pytree that `init` returns."""
    return nnx.split(nnx.eval_shape(lambda: module(config, nnx.Rngs(0))))[0]


def init(key: jax.Array, config: ModelConfig) -> Weights:
    """Random float32 weights: {"ends": ..., "blocks": leaves [layers, ...]}."""
    ends, blocks = jax.random.split(key)
    weights_of = lambda module, key: nnx.split(module(config, nnx.Rngs(key)))[1]
    stacked = jax.vmap(functools.partial(weights_of, Block))(jax.random.split(blocks, config.layers))
    return {"ends": weights_of(Ends, ends), "blocks": stacked}


def init_cache(batch: int, columns: int, config: ModelConfig) -> Cache:
    shape = (config.layers, batch, columns, config.kv_heads, config.head_dim)
    zeros = jnp.zeros(shape, config.dtype)
    return Cache(keys=zeros, values=zeros, valid_BxS=jnp.zeros((batch, columns), bool))


def rope_angles(positions_BxT: jax.Array, config: ModelConfig) -> tuple[jax.Array, jax.Array]:
    """Sine and cosine of the rotary angles, float32 [B, T, 1, H/2] (Su et al. 2021, halves rotated as in Llama)."""
    frequencies = config.rope_theta ** (-jnp.arange(0, config.head_dim, 2, dtype=jnp.float32) / config.head_dim)
    angles = positions_BxT[..., None, None].astype(jnp.float32) * frequencies
    return jnp.sin(angles), jnp.cos(angles)


def rotate(x: jax.Array, rope: tuple[jax.Array, jax.Array]) -> jax.Array:
    sin, cos = rope
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)


def forward(
    config: ModelConfig,
    weights: Weights,
    tokens_BxT: jax.Array,
    positions_BxT: jax.Array,
    valid_BxT: jax.Array,
    cache: Cache | None = None,
    cursor: jax.Array | int = 0,
    span: int | None = None,
    blocks: tuple[int, ...] = (),
) -> tuple[jax.Array, Cache | None]:
    """Runs the trunk over new tokens.

    A token sees the valid columns up to its own. Columns stand in the order of time, so causality is a comparison of
    columns, while positions (for RoPE) count the valid tokens of each row.

    Args:
      config: static sizes. weights: from `init`. tokens_BxT: int32 ids. positions_BxT: int32.
      valid_BxT: bool, False for padding. cache: columns read before, or None when these tokens are all there is.
      cursor: the column at which tokens_BxT begin, one for all rows. span: static; only the first `span` cache columns
      are attended to (they must include the new ones), which spares reading what is not filled yet. Default: all.
      blocks: static ends of stretches of new tokens; each stretch attends to the columns up to its end alone, which
      without a cache spares about half of the attention, all of it masked anyway. Default: one stretch.
    Returns:
      The normalised hidden states [B, T, D] (for `logits`), and the cache with the new columns written.
    """
    T = tokens_BxT.shape[1]
    if blocks and (cache is not None or blocks[-1] != T):
        raise ValueError(
            f"blocks={blocks} must end at the {T} new tokens and go without a cache; with one, give span instead."
        )
    rope = rope_angles(positions_BxT, config)
    ends = nnx.merge(_graph(Ends, config), weights["ends"])
    x_BxTxD = ends.embedding[...].astype(config.dtype)[tokens_BxT]

    if cache is None:
        valid_BxS, columns = valid_BxT, T
        carried = ()
    else:
        filled_BxS = jax.lax.dynamic_update_slice(cache.valid_BxS, valid_BxT, (0, cursor))
        columns = cache.keys.shape[2] if span is None else span
        valid_BxS = filled_BxS[:, :columns]
        carried = (cache.keys, cache.values)
    causal_TxS = jnp.arange(columns) <= cursor + jnp.arange(T)[:, None]
    mask_BxTxS = causal_TxS & valid_BxS[:, None, :]

    def layer(carry, scanned):
        x, carried = carry
        index, block_weights = scanned
        block = nnx.merge(_graph(Block, config), block_weights)
        query, key, value = block.attention.project(block.attention_norm(x), rope)
        if carried:
            # The cache rides in the carry and is written in place: as a scanned input and output it would exist twice.
            carried = tuple(
                jax.lax.dynamic_update_slice(whole, new[None], (index, 0, cursor, 0, 0))
                for whole, new in zip(carried, (key, value), strict=True)
            )
            key, value = (jax.lax.dynamic_index_in_dim(whole, index, keepdims=False)[:, :columns] for whole in carried)
        x = x + block.attention.attend(query, key, value, mask_BxTxS, blocks)
        x = x + block.mlp(block.mlp_norm(x))
        return (x, carried), None

    (x_BxTxD, carried), _ = jax.lax.scan(layer, (x_BxTxD, carried), (jnp.arange(config.layers), weights["blocks"]))
    if cache is not None:
        cache = Cache(keys=carried[0], values=carried[1], valid_BxS=filled_BxS)
    return ends.norm(x_BxTxD), cache


def logits(config: ModelConfig, weights: Weights, hidden: jax.Array) -> jax.Array:
    """Float32 scores over the vocabulary: [..., D] -> [..., V]."""
    ends = nnx.merge(_graph(Ends, config), weights["ends"])
    matrix = ends.embedding if config.tied_embedding else ends.unembedding
    return jnp.einsum("...d,vd->...v", hidden, matrix[...].astype(hidden.dtype), preferred_element_type=jnp.float32)


def parameter_count(weights: Weights) -> int:
    """Scalars in a pytree of weights."""
    return sum(leaf.size for leaf in jax.tree.leaves(weights))

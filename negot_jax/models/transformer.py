"""A decoder-only transformer: RMSNorm, RoPE, grouped-query attention, a gated MLP or experts.

Its features are those of `ModelConfig`; `negot_jax.models.families` names the published models that they make.

Layers are Flax NNX modules, but only this file and `block` know it: elsewhere a model is a pytree of weights, its
layers stacked `[layers, ...]`, and the functions below. One `forward` serves training (no cache), prefill (a chunk of
tokens) and decoding (one token), so the sampler cannot drift from the trainer.

Shape suffixes: B batch, T new tokens, S cache columns, D width, N query heads, K key-value heads, H head size,
V vocabulary.
"""

from collections.abc import Callable
import functools
from typing import NamedTuple

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np

from negot_jax.models import kv_cache, layers, lora, sharding
from negot_jax.models.block import Block, Norm
from negot_jax.models.kv_cache import Cache
from negot_jax.models.layers import PRODUCT
from negot_jax.models.presets import ModelConfig

Weights = dict[str, nnx.State | lora.Adapters]

_SHALLOW = 8  # Layers up to which a CPU, without a cache, runs one after another, not in a loop: it compiles them all.


class Ends(nnx.Module):
    """What comes before and after the layers: the embedding, the last norm and, unless tied, the output matrix."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        normal = nnx.initializers.normal(config.width**-0.5)
        self.embedding = nnx.Param(normal(rngs.params(), (config.vocab_size, config.width)))
        self.norm = Norm(config.width, config, rngs)
        if not config.tied_embedding:
            self.unembedding = nnx.Param(normal(rngs.params(), (config.vocab_size, config.width)))
        self.scale = config.width**0.5 if config.scaled_embedding else None

    def embed(self, tokens_BxT, config: ModelConfig):
        # Rounded as the sampler's copy is, also where the trainer's is not.
        x_BxTxD = layers.look_up(self.embedding[...], tokens_BxT).astype(config.products).astype(config.dtype)
        return x_BxTxD if self.scale is None else x_BxTxD * jnp.asarray(self.scale, config.dtype)


@functools.lru_cache
def _graph(module: type[nnx.Module], config: ModelConfig, *kind: bool) -> nnx.GraphDef:
    """The static half of a module; its weights live in the pytree that `init` returns."""
    return nnx.split(nnx.eval_shape(lambda: module(config, nnx.Rngs(0), *kind)))[0]


def init(key: jax.Array, config: ModelConfig) -> Weights:
    """Random float32 weights: {"ends": ..., "blocks": leaves [layers, ...]}, and "lora" if the model has adapters.

    In a mixture with dense layers, "blocks" holds their MLPs as "dense", apart from the experts in "mlp".
    """
    key_ends, key_blocks = jax.random.split(key)
    keys = jax.random.split(key_blocks, config.layers)
    weights_of = lambda module, key, **kind: nnx.split(module(config, nnx.Rngs(key), **kind))[1]
    stack = lambda dense: jax.vmap(functools.partial(weights_of, Block, dense=dense))(keys)
    stacked = stack(dense=not config.mixtures)
    if 0 < config.mixtures < config.layers:
        chosen = lambda part, whole: jax.tree.map(lambda x: x[np.array(config.layers_with(part))], whole["mlp"])
        stacked = nnx.State({**stacked, "mlp": chosen("mlp", stacked), "dense": chosen("dense", stack(dense=True))})
    return with_adapters(key, config, {"ends": weights_of(Ends, key_ends), "blocks": stacked})


def with_adapters(key: jax.Array, config: ModelConfig, base: Weights) -> Weights:
    """The weights of a base, and fresh adapters if the model has any."""
    if not config.lora.rank:
        return base
    return {**base, "lora": lora.init(jax.random.fold_in(key, 1), config.lora, base, config.active_experts)}


def _views(config: ModelConfig, valid_BxT, valid_BxS, cursor):
    """What a layer sees, by whether it is local: the rotary angles of the new tokens, and their mask [B, T, S].

    Columns are in the order of time, so causality is a comparison of columns. Positions and windows count valid
    tokens: where padding lies between two tokens, their columns are further apart than they are.
    """
    columns_T, columns_S = cursor + jnp.arange(valid_BxT.shape[1]), jnp.arange(valid_BxS.shape[1])
    before_Bx1 = (valid_BxS & (columns_S < cursor)).sum(axis=1, keepdims=True)
    positions_BxT = before_Bx1 + jnp.cumsum(valid_BxT, axis=1) - 1
    mask_BxTxS = (columns_S <= columns_T[:, None]) & valid_BxS[:, None, :]
    angles = functools.partial(layers.angles, positions_BxT, columns_S.size, config.head_dim)
    views = {False: (angles(config.rope), mask_BxTxS)}
    if config.window is not None:
        near_BxTxS = positions_BxT[:, :, None] - (jnp.cumsum(valid_BxS, axis=1) - 1)[:, None, :] < config.window
        views[True] = (angles(config.local_rope or config.rope), mask_BxTxS & near_BxTxS)
    return views


class Readout(NamedTuple):
    """What a forward pass without a cache may leave out.

    blocks: static ends of stretches of tokens; each attends to the columns up to its end alone, which spares about half
    of the attention, all of it masked anyway. take: gathers the tokens whose states to return, [B, T, ...] to
    [B, N, ...]; of the others, a dense model's last layer, unless it is in a loop, computes keys and values alone.
    """

    blocks: tuple[int, ...] = ()
    take: Callable[[jax.Array], jax.Array] | None = None


_ALL = Readout()


class Forward(NamedTuple):
    """What a forward pass gives.

    hidden_BxTxD: the normalized states, for `logits`. cache: with the new columns, its cursor behind them; None if none
    was given. picked_LxBxTxk: the experts that the router picks for each token, in each of the layers that have some.
    """

    hidden_BxTxD: jax.Array
    cache: Cache | None
    picked_LxBxTxk: jax.Array | None


def forward(
    config: ModelConfig,
    weights: Weights,
    tokens_BxT: jax.Array,
    valid_BxT: jax.Array,
    cache: Cache | None = None,
    experts_LxBxTxk: jax.Array | None = None,
    readout: Readout = _ALL,
) -> Forward:
    """Runs the trunk over new tokens.

    A token sees the valid columns up to its own, in local layers the last `config.window` of them. Its position is the
    number of valid tokens before it.

    config: static sizes. weights: from `init`. tokens_BxT: int32 ids. valid_BxT: bool, False for padding. cache: the
    columns read before, into which the new ones go from its cursor on; None when these tokens are all. experts_LxBxTxk:
    of a mixture, the experts to take in place of the router's.
    """
    T, (blocks, take) = tokens_BxT.shape[1], readout
    if blocks and (cache is not None or blocks[-1] != T):
        raise ValueError(f"blocks={blocks} must end at the {T} new tokens and go without a cache.")
    ends = nnx.merge(_graph(Ends, config), weights["ends"])
    x_BxTxD = sharding.shard_rows(ends.embed(tokens_BxT, config))
    cursor, valid_BxS = 0, valid_BxT
    if cache is not None:
        cursor = cache.cursor
        valid_BxS = jax.lax.dynamic_update_slice(cache.valid_BxS, valid_BxT, (0, cursor))
    views = _views(config, valid_BxT, valid_BxS, cursor)

    stretches = [(end, end) for end in blocks] or [(T, None)]

    def layer(carry, scanned, wanted=None):
        x, carried = carry
        index, is_local, given, block_weights, adapters = scanned
        block = nnx.merge(_graph(Block, config, "router" not in block_weights["mlp"]), block_weights)
        if len(kinds := set(config.is_local)) == 1:
            angles, mask_BxTxS = views[kinds.pop()]
        else:
            angles, mask_BxTxS = jax.tree.map(functools.partial(jnp.where, is_local), views[True], views[False])
        normed, seen = block.attention_norm(x), stretches
        key, value = block.attention.keys_values(normed, angles, adapters)
        keys, values = jnp.einsum("btkh->bkht", key), jnp.einsum("btkh->bkth", value)
        if wanted is not None:
            x, angles, mask_BxTxS = jax.tree.map(wanted, (x, angles, mask_BxTxS))
            normed, seen = block.attention_norm(x), [(x.shape[1], None)]
        query = block.attention.queries(normed, angles, adapters)
        if carried:
            # The cache rides in the carry and is written in place: as a scanned input and output it would exist twice.
            stacked = carried[0].ndim == 5
            at = (index, 0, 0) if stacked else (0,)
            shaped = lambda new: new[None] if stacked else new.reshape(-1, *new.shape[2:])
            carried = (
                sharding.shard_cache(jax.lax.dynamic_update_slice(carried[0], shaped(keys), (*at, 0, cursor))),
                sharding.shard_cache(jax.lax.dynamic_update_slice(carried[1], shaped(values), (*at, cursor, 0))),
            )
            keys, values = carried
            if stacked:
                keys, values = (jax.lax.dynamic_index_in_dim(whole, index, keepdims=False) for whole in carried)
        x = block.add_attention(x, block.attention.attend(query, keys, values, mask_BxTxS, seen, adapters))
        x, picked = block.add_mlp(sharding.shard_rows(x), adapters, given)
        return (sharding.shard_rows(x), carried), picked

    remat = lambda layer, scanned: layer
    if config.remat != "none":
        policy = jax.checkpoint_policies.save_only_these_names(PRODUCT) if config.remat == "dots" else None
        # A scan keeps the two passes apart by itself.
        remat = lambda layer, scanned: jax.checkpoint(layer, policy=policy, prevent_cse=not scanned)
    adapters = lora.scaled(config.lora, weights.get("lora", {}))
    looped = cache is None and (config.layers > _SHALLOW or not kv_cache.apart())
    stacks, filled, picked = kv_cache.runs(config) if looped else kv_cache.stacks(config), [], []
    for number, (first, last) in enumerate(stacks):
        local = np.array(config.is_local[first:last])
        at = _places(config, "mlp", first, last)
        given = _part(experts_LxBxTxk, *at) if at[0] < at[1] else None  # A dense layer has no experts.
        parts = (given, _blocks(config, weights, first, last), _part(adapters, first, last))
        scanned = (np.arange(last - first), local, *parts)
        carried = () if cache is None else (cache.keys[number], cache.values[number])
        if last - first == 1:
            wanted = None
            if last == config.layers and not config.experts:
                wanted, take = take, None
            one = remat(functools.partial(layer, wanted=wanted), scanned=False)
            (x_BxTxD, carried), ids = one((x_BxTxD, carried), jax.tree.map(lambda x: x[0], scanned))
            ids = jax.tree.map(lambda x: x[None], ids)
        else:
            (x_BxTxD, carried), ids = jax.lax.scan(remat(layer, scanned=True), (x_BxTxD, carried), scanned)
        filled.append(carried)
        picked += [] if ids is None else [ids]
    picked = jnp.concatenate(picked).astype(config.expert_ids) if picked else None
    if cache is not None:
        passed = cache.experts_LxBxSxk
        if config.experts:
            passed = jax.lax.dynamic_update_slice_in_dim(passed, picked, cursor, axis=2)
        cache = Cache(*zip(*filled, strict=True), valid_BxS, cursor + T, passed)
    if take is not None:
        x_BxTxD = take(x_BxTxD)
    return Forward(ends.norm(x_BxTxD), cache, picked)


def _blocks(config: ModelConfig, weights: Weights, first: int, last: int) -> nnx.State:
    """The weights of some layers of one kind, stacked."""
    places = {name: _places(config, name, first, last) for name in weights["blocks"]}
    parts = {name: _part(weights["blocks"][name], *at) for name, at in places.items() if at[0] < at[1]}
    return nnx.State({"mlp" if name == "dense" else name: part for name, part in parts.items()})


def _places(config: ModelConfig, part: str, first: int, last: int) -> tuple[int, int]:
    """Where some layers begin and end in the stack of a part of a block."""
    return tuple(sum(layer < end for layer in config.layers_with(part)) for end in (first, last))


def _part(stacked, first: int, last: int):
    return jax.tree.map(lambda x: x if last - first == len(x) else x[first:last], stacked)


def logits(config: ModelConfig, weights: Weights, hidden: jax.Array) -> jax.Array:
    """Float32 scores over the vocabulary: [..., D] -> [..., V]."""
    ends = nnx.merge(_graph(Ends, config), weights["ends"])
    matrix = ends.embedding if config.tied_embedding else ends.unembedding
    hidden, matrix = hidden.astype(config.products), matrix[...].astype(config.products)
    return jnp.einsum("...d,vd->...v", hidden, matrix, preferred_element_type=jnp.float32)


def parameter_count(weights: Weights) -> int:
    """Scalars in a pytree of weights."""
    return sum(leaf.size for leaf in jax.tree.leaves(weights))

"""Low-rank adapters: W + (alpha / rank) A B in place of W (Hu et al. 2021).

Adapters are a pytree of their own, the entry "lora" of a model's weights. With it a model is the adapted one, without
it the base, so that a trained buyer, its frozen seller and the KL reference share one copy of the base in memory:

    trained, base = split(weights)
    loss = lambda trained, batch: ...forward(config, join(trained, base), ...)  # Differentiates what is trained alone.
    seller = base

A target's adapter is {"a": [layers, *in, rank], "b": [layers, rank, *out]}, with an axis of experts after the layers
where the target has one. An expert's rank is rank / active experts, so that a token passes through as many of their
parameters as in a dense layer (Schulman et al. 2025, "LoRA Without Regret").
"""

import math

import jax
import jax.numpy as jnp

from negot_jax.models.presets import LoraConfig

Adapters = dict[str, dict[str, jax.Array]]

_BASE = ("ends", "blocks")  # The entries of a model's weights that a base has.

# How many axes of a target are contracted with its input, and how many its output has.
AXES = {"query": (1, 2), "key": (1, 2), "value": (1, 2), "out": (2, 1), "gate": (1, 1), "up": (1, 1), "down": (1, 1)}


def split(weights: dict) -> tuple[dict, dict]:
    """The trained part, adapters and any heads, and the frozen base. No array is copied."""
    trained = {name: part for name, part in weights.items() if name not in _BASE}
    return trained, {name: weights[name] for name in _BASE}


def join(trained: dict, base: dict) -> dict:
    """The inverse of `split`."""
    return {**base, **trained}


def init(key: jax.Array, config: LoraConfig, base: dict, active_experts: int = 1) -> Adapters:
    """Fresh float32 adapters for a base (arrays, or their shapes). B is zero, so they change nothing yet."""
    adapters = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(base["blocks"]):
        if (target := _name(path)) in config.targets:
            inputs, outputs = AXES[target]
            stack = leaf.shape[: leaf.ndim - inputs - outputs]
            shape_in, shape_out = leaf.shape[len(stack) : leaf.ndim - outputs], leaf.shape[leaf.ndim - outputs :]
            rank = config.rank if len(stack) == 1 else max(config.rank // active_experts, 1)
            for_target = jax.random.fold_in(key, config.targets.index(target))
            normal = jax.random.normal(for_target, (*stack, *shape_in, rank))
            adapters[target] = {
                "a": normal / math.sqrt(math.prod(shape_in)),
                "b": jnp.zeros((*stack, rank, *shape_out)),
            }
    return adapters


def scaled(config: LoraConfig, adapters: Adapters) -> Adapters:
    """The adapters as layers take them, each with "scale": alpha over its rank, float32 [layers]."""
    scale = lambda pair: jnp.full(pair["a"].shape[0], config.alpha / pair["a"].shape[-1], jnp.float32)
    return {name: pair | {"scale": scale(pair)} for name, pair in adapters.items()}


def merge(config: LoraConfig, weights: dict) -> dict:
    """Plain weights with the adapters added to their matrices, for export; in float32, a layer at a time."""

    def merged(path, leaf):
        if (pair := weights["lora"].get(_name(path))) is None:
            return leaf

        def layer(inputs):
            matrix, a, b = inputs
            experts = matrix.shape[: matrix.ndim - sum(AXES[_name(path)])]
            rank = a.shape[-1]
            whole = a.reshape(*experts, -1, rank), b.reshape(*experts, rank, -1)
            product = jnp.matmul(*whole, precision=jax.lax.Precision.HIGHEST)
            added = (config.alpha / rank) * product.reshape(matrix.shape)
            return (matrix.astype(jnp.float32) + added).astype(matrix.dtype)

        return jax.lax.map(layer, (leaf, pair["a"], pair["b"]))

    rest = {name: part for name, part in weights.items() if name != "lora"}
    return {**rest, "blocks": jax.tree_util.tree_map_with_path(merged, weights["blocks"])}


def _name(path: jax.tree_util.KeyPath) -> str:
    """The name of a weight in its layer: the last part of its path before `.value`."""
    return path[-2].key

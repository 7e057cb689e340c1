"""Adapters: nothing at the start, the same as merged weights after, and apart from the base that they share."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from negot_jax.models import lora, transformer
from negot_jax.models.presets import LORA_TARGETS, LoraConfig, preset

LORA = LoraConfig(rank=3, alpha=5.0)
SIZES = {"vocab_size": 31, "width": 16, "heads": 4, "kv_heads": 2, "head_dim": 6, "mlp": 20, "dtype": "float32"}
CONFIGS = {
    "dense": preset("tiny", **SIZES, lora=LORA),
    "experts": preset("tiny", **SIZES, experts=5, active_experts=2, lora=dataclasses.replace(LORA, rank=6)),
}
TOKENS = np.random.default_rng(0).integers(31, size=(2, 9), dtype=np.int32)


@functools.partial(jax.jit, static_argnums=0)
def _logits(config, weights):
    hidden = transformer.forward(config, weights, TOKENS, jnp.ones(TOKENS.shape, bool)).hidden_BxTxD
    return transformer.logits(config, weights, hidden)


_merge = jax.jit(lora.merge, static_argnums=0)


@functools.cache
def _weights(name, trained):
    """The model with fresh adapters, or with some in which nothing is zero."""
    # This generator compiles faster.
    weights = jax.jit(transformer.init, static_argnums=1)(jax.random.key(0, impl="unsafe_rbg"), CONFIGS[name])
    if not trained:
        return weights
    fixed = lambda x: x + 0.1 * np.cos(np.arange(x.size).reshape(x.shape))
    return weights | {"lora": jax.tree.map(fixed, weights["lora"])}


@pytest.mark.parametrize("name", CONFIGS)
def test_fresh_adapters_change_no_bit(name):
    weights = _weights(name, trained=False)
    assert weights["lora"].keys() == set(LORA_TARGETS)
    assert all((pair["a"] != 0).any() for pair in weights["lora"].values())
    assert (_logits(CONFIGS[name], weights) == _logits(CONFIGS[name], lora.split(weights)[1])).all()


def test_split_takes_the_heads_with_the_adapters():
    weights = _weights("dense", trained=False) | {"value": {"kernel": jnp.zeros(16)}}
    trained, base = lora.split(weights)
    assert trained.keys() == {"lora", "value"} and base.keys() == {"ends", "blocks"}
    again = lora.join(trained, base)
    assert all(a is b for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(weights), strict=True))
    assert lora.merge(LORA, weights).keys() == {"ends", "blocks", "value"}


@pytest.mark.parametrize("name", CONFIGS)
def test_merged_equals_unmerged(name):
    weights = _weights(name, trained=True)
    merged = _merge(CONFIGS[name].lora, weights)
    assert "lora" not in merged
    unmerged = _logits(CONFIGS[name], weights)
    base = _logits(CONFIGS[name], lora.split(weights)[1])
    np.testing.assert_allclose(_logits(CONFIGS[name], merged), unmerged, atol=1e-4)
    assert np.abs(unmerged - base).max() > 0.1


@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_merged_is_alpha_over_rank_times_a_b(name):
    weights = _weights(name, trained=True)
    merged = _merge(CONFIGS[name].lora, weights)["blocks"]
    for target, pair in weights["lora"].items():
        part = "mlp" if target in ("gate", "up", "down") else "attention"
        before, after = weights["blocks"][part][target][...], merged[part][target][...]
        stack = before.shape[: 2 if name == "experts" and part == "mlp" else 1]
        rank = {"dense": 3, "experts": 3 if part == "mlp" else 6}[name]  # Two experts are active.
        product = pair["a"].reshape(*stack, -1, rank) @ pair["b"].reshape(*stack, rank, -1)
        np.testing.assert_allclose(after - before, 5 / rank * product.reshape(before.shape), atol=1e-5)


def test_only_targets_get_an_adapter():
    config = LoraConfig(rank=2, targets=("out", "gate"))
    adapters = lora.init(jax.random.key(0), config, _weights("dense", trained=False))
    assert {name: (pair["a"].shape, pair["b"].shape) for name, pair in adapters.items()} == {
        "out": ((2, 4, 6, 2), (2, 2, 16)),
        "gate": ((2, 16, 2), (2, 2, 20)),
    }


@pytest.mark.parametrize("name", CONFIGS)
def test_training_moves_the_adapters_alone(name):
    """As a learner does it: gradient and optimizer state are of the adapters' size, and the base is shared."""
    config = CONFIGS[name]
    trained, base = lora.split(_weights(name, trained=True))
    optimizer = optax.adam(1e-2)

    @jax.jit
    def update(trained, state):
        loss = lambda trained: _logits(config, lora.join(trained, base)).var()
        gradient = jax.grad(loss)(trained)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(trained, updates), state, gradient

    state = optimizer.init(trained)
    assert transformer.parameter_count(state) == 2 * transformer.parameter_count(trained) + 1
    moved, _, gradient = update(trained, state)
    assert jax.tree.structure(gradient) == jax.tree.structure(trained)
    assert all((g != 0).any() for g in jax.tree.leaves(gradient))
    buyer, seller = lora.join(moved, base), base
    assert all(a is b for a, b in zip(jax.tree.leaves(lora.split(buyer)[1]), jax.tree.leaves(seller), strict=True))
    assert (_logits(config, buyer) != _logits(config, seller)).any()


def test_merging_rounds_once():
    """In bfloat16, what an adapter adds is not rounded before it is added."""
    trained, base = lora.split(_weights("dense", trained=True))
    low = jax.tree.map(lambda x: x.astype(jnp.bfloat16), base)
    exact = _merge(LORA, lora.join(trained, jax.tree.map(lambda x: x.astype(jnp.float32), low)))
    merged = _merge(LORA, lora.join(trained, low))["blocks"]["mlp"]["up"][...]
    assert merged.dtype == jnp.bfloat16
    assert (merged == exact["blocks"]["mlp"]["up"][...].astype(jnp.bfloat16)).all()


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"rank": -1}, "model.lora.rank=-1 is negative"),
        ({"targets": ("query", "quey")}, "model.lora.targets: 'quey' is unknown; did you mean 'query'"),
        ({"targets": ()}, r"model.lora.targets=\(\)"),
        ({"targets": ("up", "up")}, "each once"),
    ],
)
def test_impossible_adapters_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        LoraConfig(**fields)

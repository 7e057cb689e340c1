"""Experts against a plain loop over tokens."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from negot_jax.models import moe

N, D, F, RANK = 37, 10, 6, 3


def _draw(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def _make(E, seed=0):
    rng = np.random.default_rng(seed)
    experts = {"gate": _draw(rng, E, D, F), "up": _draw(rng, E, D, F), "down": _draw(rng, E, F, D)}
    adapters = {
        "gate": {"a": _draw(rng, E, D, RANK), "b": _draw(rng, E, RANK, F), "scale": np.float32(0.5)},
        "down": {"a": _draw(rng, E, F, RANK), "b": _draw(rng, E, RANK, D), "scale": np.float32(2.0)},
    }
    return _draw(rng, N, D), _draw(rng, D, E), experts, adapters


def _plain(x, router, experts, active):
    out = np.zeros_like(x)
    for token, row in enumerate(x):
        scores = row @ router
        chosen = np.argsort(-scores, kind="stable")[:active]
        weights = np.exp(scores[chosen] - scores[chosen].max())  # Of a softmax, the rest of which cancels.
        for expert, weight in zip(chosen, weights / weights.sum(), strict=True):
            gate, up, down = (experts[name][expert] for name in ("gate", "up", "down"))
            hidden = row @ gate
            out[token] += weight * (hidden / (1 + np.exp(-hidden)) * (row @ up)) @ down
    return out


@pytest.mark.parametrize("E, active", [(8, 3), (128, 8), (1, 1), (5, 5)])
def test_experts_equal_a_plain_loop(E, active):
    x, router, experts, _ = _make(E)
    got = jax.jit(lambda x: moe.apply_experts(x, moe.route(x, router, active)[0], experts, {}))(x)
    np.testing.assert_allclose(got, _plain(x, router, experts, active), atol=1e-4)


def test_adapters_equal_merged_experts():
    x, router, experts, adapters = _make(8)
    routes, _ = moe.route(x, router, 3)
    merged = experts | {name: experts[name] + pair["scale"] * pair["a"] @ pair["b"] for name, pair in adapters.items()}
    apply = jax.jit(moe.apply_experts)
    got, expected = apply(x, routes, experts, adapters), apply(x, routes, merged, {})
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_parts_of_the_experts_add_up():
    """As on the devices of a mesh axis; one part gets no token at all."""
    x, router, experts, _ = _make(8)
    router[:, 2:4] = 0
    router[0, 2:4], x[:, 0] = -100, 1
    routes, _ = moe.route(x, router, 3)
    whole, parts = moe.apply_experts(x, routes, experts, {}), []
    for first in range(0, 8, 2):
        own = {name: matrices[first : first + 2] for name, matrices in experts.items()}
        parts.append(jax.jit(moe.apply_experts)(x, routes, own, {}, first))
    assert (parts[1] == 0).all() and all((part != 0).any() for part in (parts[0], *parts[2:]))
    np.testing.assert_allclose(sum(parts), whole, atol=1e-5)


def test_gradients_equal_those_of_every_expert_for_every_token():
    x, router, experts, _ = _make(4)

    def dense(x, router, experts):
        every = jax.vmap(lambda gate, up, down: (jax.nn.silu(x @ gate) * (x @ up)) @ down)
        out_ExNxD = every(experts["gate"], experts["up"], experts["down"])
        likely, chosen = jax.lax.top_k(jax.nn.softmax(x @ router), 2)
        weights = likely / likely.sum(axis=1, keepdims=True)
        return jnp.sin((out_ExNxD[chosen, jnp.arange(N)[:, None]] * weights[..., None]).sum(axis=1)).sum()

    def sparse(x, router, experts):
        return jnp.sin(moe.apply_experts(x, moe.route(x, router, 2)[0], experts, {})).sum()

    got, expected = (jax.jit(jax.grad(f, argnums=(0, 1, 2)))(x, router, experts) for f in (sparse, dense))
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_routing_is_in_float32_and_its_weights_sum_to_1():
    x, router, _, _ = _make(64)
    low = x.astype(jnp.bfloat16)
    routes, _ = moe.route(jnp.asarray(low), jnp.asarray(router), 8)
    exact, _ = moe.route(jnp.asarray(low.astype(np.float32)), jnp.asarray(router), 8)
    assert (routes.experts_NxK == exact.experts_NxK).all() and (routes.weights_NxK == exact.weights_NxK).all()
    assert routes.weights_NxK.dtype == jnp.float32
    np.testing.assert_allclose(routes.weights_NxK.sum(axis=1), 1, rtol=1e-6)

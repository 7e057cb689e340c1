"""Losses against numpy, as written in the papers."""

import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np

from negot_jax.rl.losses import clipped_policy_loss, masked

finite = st.floats(-3, 3, width=32)


@hypothesis.given(finite, finite, finite, st.floats(0.05, 0.5), st.floats(0.05, 2.0))
def test_clipped_policy_loss(log_prob, old, advantage, low, high):
    """Schulman et al. 2017, eq. 7: min(r A, clip(r, 1 - e, 1 + e) A)."""
    ratio = np.exp(np.float64(log_prob) - np.float64(old))
    bounded = min(max(ratio, 1 - low), 1 + high)
    loss, clipped = clipped_policy_loss(jnp.float32(log_prob), jnp.float32(old), jnp.float32(advantage), (low, high))
    np.testing.assert_allclose(loss, -min(ratio * advantage, bounded * advantage), rtol=1e-3, atol=1e-4)
    if abs(ratio - (1 - low)) > 1e-3 and abs(ratio - (1 + high)) > 1e-3 and abs(advantage) > 1e-3:
        assert clipped == ((ratio > 1 + high and advantage > 0) or (ratio < 1 - low and advantage < 0))


def test_the_gradient_stops_where_it_is_clipped():
    gradient = jax.vmap(jax.grad(lambda *args: clipped_policy_loss(*args, (0.2, 0.2))[0]), (0, None, 0))
    log_probs = jnp.log(jnp.array([1.0, 1.5, 1.5, 0.5, 0.5]))
    slopes = gradient(log_probs, jnp.float32(0), jnp.array([1.0, 1.0, -1.0, 1.0, -1.0]))
    np.testing.assert_allclose(slopes, [-1.0, 0.0, 1.5, -0.5, 0.0], atol=1e-6)


def test_masked_sums_add_up_over_parts():
    rng = np.random.default_rng(0)
    values, mask = rng.normal(size=(6, 5)).astype(np.float32), rng.random((6, 5)) < 0.5
    whole = masked(values, mask)
    parts = [masked(v, m) for v, m in zip(np.split(values, 3), np.split(mask, 3), strict=True)]
    np.testing.assert_allclose(whole, np.sum(parts, axis=0), rtol=1e-5)
    np.testing.assert_allclose(whole[0], values[mask].sum(), rtol=1e-5)
    assert float(masked(np.full((2,), np.nan, np.float32), np.zeros(2, bool))[0]) == 0

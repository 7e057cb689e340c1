"""The terms of the loss against numpy, as written in the papers."""

import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from negot_jax.rl import losses

finite = st.floats(-3, 3, width=32)
_clipped_policy_loss = jax.jit(losses.clipped_policy_loss)
_clipped_value_loss = jax.jit(losses.clipped_value_loss)
_truncated = jax.jit(
    jax.value_and_grad(lambda trainer, sampler, cap: losses.truncated_importance(trainer, sampler, None, cap))
)


@hypothesis.given(finite, finite, finite, st.floats(0.05, 0.5), st.floats(0.05, 2.0))
def test_clipped_policy_loss(log_prob, old, advantage, low, high):
    """Schulman et al. 2017, eq. 7: min(r A, clip(r, 1 - e, 1 + e) A), with DAPO's two bounds."""
    ratio = np.exp(np.float64(log_prob) - np.float64(old))
    bounded = min(max(ratio, 1 - low), 1 + high)
    log_ratio = losses.token_ratio(np.float32(log_prob), np.float32(old), None)
    loss, clipped = _clipped_policy_loss(log_ratio, np.float32(advantage), (low, high))
    np.testing.assert_allclose(loss, -min(ratio * advantage, bounded * advantage), rtol=1e-3, atol=1e-4)
    if abs(ratio - (1 - low)) > 1e-3 and abs(ratio - (1 + high)) > 1e-3 and abs(advantage) > 1e-3:
        assert clipped == ((ratio > 1 + high and advantage > 0) or (ratio < 1 - low and advantage < 0))


def test_the_gradient_stops_where_it_is_clipped():
    slope = jax.grad(lambda *args: losses.clipped_policy_loss(*args, (0.2, 0.2))[0])
    log_ratios = jnp.log(jnp.array([1.0, 1.5, 1.5, 0.5, 0.5]))
    slopes = jax.vmap(slope)(log_ratios, jnp.array([1.0, 1.0, -1.0, 1.0, -1.0]))
    np.testing.assert_allclose(slopes, [-1.0, 0.0, 1.5, -0.5, 0.0], atol=1e-6)


def test_what_cispo_clips_still_teaches():
    """MiniMax 2025, eq. 4: the gradient is the clipped ratio times the advantage, on both sides of the range."""
    slope = jax.grad(lambda *args: losses.weighted_policy_loss(*args, (0.2, 0.2))[0])
    log_ratios = jnp.log(jnp.array([1.0, 1.5, 1.5, 0.5, 0.5]))
    slopes = jax.vmap(slope)(log_ratios, jnp.array([1.0, 1.0, -1.0, 1.0, -1.0]))
    np.testing.assert_allclose(slopes, [-1.0, -1.2, 1.2, -0.8, 0.8], atol=1e-6)


@pytest.fixture
def tokens():
    """New and old log-probabilities and a mask, [4, 6], with a token in each row."""
    rng = np.random.default_rng(0)
    new, old = rng.normal(-1, 0.3, (2, 4, 6)).astype(np.float32)
    mask = rng.random((4, 6)) < 0.6
    mask[:, 2] = True
    return new, old, mask


def test_sequence_ratio(tokens):
    """Zheng et al. 2025, eq. 7: (p(y) / p_old(y))^(1 / |y|), the same for all tokens of y."""
    new, old, mask = tokens
    ours = np.exp(losses.sequence_ratio(*map(jnp.array, tokens)))
    for row in range(4):
        own = mask[row]
        whole = np.prod(np.exp(new[row][own].astype(np.float64))) / np.prod(np.exp(old[row][own].astype(np.float64)))
        np.testing.assert_allclose(ours[row], whole ** (1 / own.sum()), rtol=1e-5)


def test_a_sequence_ratio_teaches_all_its_tokens(tokens):
    """The gradient of an episode's term is spread evenly over its tokens, and none falls on the others."""
    new, old, mask = map(jnp.array, tokens)
    slopes = np.asarray(jax.grad(lambda new: losses.sequence_ratio(new, old, mask)[:, 0].sum())(new))
    np.testing.assert_allclose(slopes, mask / mask.sum(axis=1, keepdims=True), rtol=1e-6)


@hypothesis.given(finite, finite, st.floats(0.1, 5.0))
def test_truncated_importance(trainer, sampler, cap):
    """Yao et al. 2025: min(p_trainer / p_sampler, C), a constant to the gradient."""
    weight, slope = _truncated(np.float32(trainer), np.float32(sampler), cap)
    np.testing.assert_allclose(weight, min(np.exp(np.float64(trainer) - sampler), cap), rtol=1e-4)
    assert slope == 0


@hypothesis.given(finite, finite, finite, st.floats(0.05, 1.0))
def test_clipped_value_loss(value, old, target, clip):
    ours = _clipped_value_loss(np.float32(value), np.float32(old), np.float32(target), clip)
    bounded = np.clip(np.float64(value), old - clip, old + clip)
    np.testing.assert_allclose(ours, 0.5 * max((value - target) ** 2, (bounded - target) ** 2), rtol=1e-3, atol=1e-4)


def test_kl_estimators():
    """Schulman 2020: on samples of p, k1 and k3 average to KL(p || q), and k3 is never negative; k2 comes near."""
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(2, 5)) * [[1.0], [0.3]] + rng.normal(size=5)
    p, q = (np.exp(x) / np.exp(x).sum() for x in logits)
    exact = np.sum(p * np.log(p / q))
    log_p, log_q = np.log(p, dtype=np.float32), np.log(q, dtype=np.float32)
    mean = lambda estimator: float(np.sum(p * np.asarray(estimator(log_p, log_q))))
    assert mean(losses.k1) == pytest.approx(exact, rel=1e-4)
    assert mean(losses.k3) == pytest.approx(exact, rel=1e-4)
    assert mean(losses.k2) == pytest.approx(np.sum(p * 0.5 * np.log(p / q) ** 2), rel=1e-4)
    assert (np.asarray(losses.k3(log_p, log_q)) >= 0).all()


def test_the_gradient_of_k2_is_that_of_the_kl_divergence_and_k1_has_none():
    """Expected over samples of p; hence k1 is a reward, not a term of the loss."""
    logits, reference = jnp.array([0.3, -0.2, 0.5]), jnp.log(jnp.array([0.2, 0.5, 0.3]))
    p = jax.nn.softmax(logits)
    expected = lambda estimator: jax.grad(lambda x: jnp.sum(p * estimator(jax.nn.log_softmax(x), reference)))(logits)
    exact = jax.grad(lambda x: jnp.sum(jax.nn.softmax(x) * (jax.nn.log_softmax(x) - reference)))(logits)
    np.testing.assert_allclose(expected(losses.k2), exact, atol=1e-6)
    np.testing.assert_allclose(expected(losses.k1), 0, atol=1e-6)


AVERAGES = {
    "token": lambda values, mask: values[mask].mean(),
    "episode": lambda values, mask: np.mean([v[m].mean() for v, m in zip(values, mask, strict=True) if m.any()]),
    "constant": lambda values, mask: np.mean(
        [v[m].sum() / mask.shape[1] for v, m in zip(values, mask, strict=True) if m.any()]
    ),
}


@pytest.mark.parametrize("name", losses.AGGREGATIONS)
def test_aggregations(name, tokens):
    """Yu et al. 2025, eq. 12 (token); Shao et al. 2024, eq. 3 (episode); Liu et al. 2025, section 3.2 (constant)."""
    values, _, mask = tokens
    mask[3] = False  # An episode that is left out whole.
    weights, total = losses.AGGREGATIONS[name](jnp.array(mask))
    np.testing.assert_allclose(
        (values * weights).sum() / total, AVERAGES[name](values.astype(np.float64), mask), rtol=1e-5
    )
    # Cut anyhow, sums and weights add up.
    parts = [losses.AGGREGATIONS[name](jnp.array(part)) for part in np.split(mask, 4)]
    np.testing.assert_allclose(np.concatenate([part[0] for part in parts]), weights)
    assert sum(float(part[1]) for part in parts) == float(total)


def test_masked_sums_add_up_over_parts():
    rng = np.random.default_rng(0)
    values, mask = rng.normal(size=(6, 5)).astype(np.float32), rng.random((6, 5)) < 0.5
    whole = losses.masked(values, mask)
    parts = [losses.masked(v, m) for v, m in zip(np.split(values, 3), np.split(mask, 3), strict=True)]
    np.testing.assert_allclose(whole, np.sum(parts, axis=0), rtol=1e-5)
    np.testing.assert_allclose(whole[0], values[mask].sum(), rtol=1e-5)
    assert float(losses.masked(np.full((2,), np.nan, np.float32), np.zeros(2, bool))[0]) == 0

"""Advantages against numpy, episode by episode and token by token."""

import functools

import hypothesis
from hypothesis import strategies as st
import hypothesis.extra.numpy as npst
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from negot_jax.rl import advantages

B, N, GROUP = 6, 7, 3
shares = st.floats(0, 1, width=32)
_jitted_gae = jax.jit(advantages.gae)
_token_rewards = jax.jit(advantages.token_rewards)
_group_mean = jax.jit(advantages.group_mean, static_argnames="group")


@st.composite
def episodes(draw):
    """Rewards, values and masks with at least one token an episode: float32 [B, N] twice, bool [B, N]."""
    numbers = npst.arrays(np.float32, (B, N), elements=st.floats(-1, 1, width=32))
    mask = draw(npst.arrays(bool, (B, N)))
    mask[:, draw(st.integers(0, N - 1))] = True
    return draw(numbers), draw(numbers), mask


@hypothesis.given(episodes())
def test_the_reward_stands_at_the_last_token(played):
    rewards, _, mask = played
    placed = np.asarray(_token_rewards(rewards[:, 0], mask))
    for row in range(B):
        last = np.flatnonzero(mask[row])[-1]
        expected = np.zeros(N, np.float32)
        expected[last] = rewards[row, 0]
        np.testing.assert_array_equal(placed[row], expected)


def _gae(rewards, values, mask, gamma, gae_lambda) -> np.ndarray:
    return np.asarray(_jitted_gae(rewards, mask, values_BxN=values, gamma=gamma, gae_lambda=gae_lambda))


@hypothesis.given(episodes(), shares, shares)
def test_gae(played, gamma, gae_lambda):
    """Schulman et al. 2016, eq. 16, over the sampled tokens alone: sum over l of (gamma lambda)^l delta_(t + l)."""
    rewards, values, mask = played
    ours = _gae(rewards, values, mask, gamma, gae_lambda)
    assert (ours[~mask] == 0).all()
    for row in range(B):
        r, v = rewards[row][mask[row]].astype(np.float64), values[row][mask[row]].astype(np.float64)
        delta = r + gamma * np.append(v[1:], 0) - v
        powers = (gamma * gae_lambda) ** np.arange(delta.size)
        expected = [np.sum(powers[: delta.size - t] * delta[t:]) for t in range(delta.size)]
        np.testing.assert_allclose(ours[row][mask[row]], expected, rtol=1e-4, atol=1e-5)


@hypothesis.given(episodes())
def test_gae_with_lambda_1_is_the_monte_carlo_return_less_the_value(played):
    rewards, values, mask = played
    ours = _gae(rewards, values, mask, 1.0, 1.0)
    for row in range(B):
        own = mask[row]
        to_go = np.cumsum(rewards[row][own][::-1].astype(np.float64))[::-1]
        np.testing.assert_allclose(ours[row][own], to_go - values[row][own], atol=1e-5)


@functools.partial(jax.jit, static_argnums=0)
def _scale(name, advantages_BxN, mask_BxN):
    return advantages.SCALES[name](advantages_BxN, mask_BxN, GROUP)


@pytest.mark.parametrize("scale", ["none", "group"])
@hypothesis.given(episodes())
def test_group_mean(scale, played):
    """Shao et al. 2024, section 4.1.2: (r_i - mean(r)) / std(r), and Dr. GRPO's without the division."""
    rewards, _, mask = played
    ours = _group_mean(_token_rewards(rewards[:, 0], mask), mask, group=GROUP)
    ours = np.asarray(_scale(scale, ours, mask))
    grouped = rewards[:, 0].astype(np.float64).reshape(-1, GROUP)
    expected = grouped - grouped.mean(axis=1, keepdims=True)
    if scale == "group":
        expected /= grouped.std(axis=1, keepdims=True) + 1e-4
    np.testing.assert_allclose(
        ours, np.where(mask, expected.reshape(-1, 1), 0), atol=3e-3 if scale == "group" else 1e-6
    )


@hypothesis.given(episodes())
def test_scaled_by_the_batch(played):
    values, _, mask = played
    ours = np.asarray(_scale("batch", values, mask))
    own = values[mask].astype(np.float64)
    hypothesis.assume(own.std() > 1e-3)
    np.testing.assert_allclose(ours[mask], (own - own.mean()) / own.std(), rtol=1e-2, atol=1e-3)
    assert (ours[~mask] == 0).all()


@pytest.mark.parametrize("scale", ["none", "group"])
def test_an_episode_without_a_token_counts_in_its_group(scale):
    """As where regulation has replaced all that a seller said."""
    rewards, mask = jnp.array([0.6, 0.2, 0.1]), jnp.array([[True, True], [True, False], [False, False]])
    ours = advantages.group_mean(advantages.token_rewards(rewards, mask), mask, group=3)
    expected = rewards - rewards.mean()
    expected /= rewards.std() + 1e-4 if scale == "group" else 1.0
    np.testing.assert_allclose(advantages.SCALES[scale](ours, mask, 3)[:2, 0], expected[:2], rtol=1e-4)


def test_equal_groups_are_found_and_teach_nothing():
    rewards = jnp.array([0.5, 0.5, 0.5, 0.1, 0.5, 0.5])
    np.testing.assert_array_equal(advantages.unequal_groups(rewards, 3), [False] * 3 + [True] * 3)
    mask = jnp.ones((6, 2), bool)
    ours = advantages.group_mean(advantages.token_rewards(rewards, mask), mask, group=3)
    assert (np.asarray(advantages.SCALES["group"](ours, mask, 3))[:3] == 0).all()

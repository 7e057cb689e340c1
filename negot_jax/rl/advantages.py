"""From rewards to advantages, one for each of the learner's tokens.

Shape suffixes: B episodes, groups contiguous; N the learner's token slots in an episode, in order (turns x message
cap); `mask_BxN` marks the sampled ones. No gradient flows through an advantage.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def token_rewards(rewards_B: jax.Array, mask_BxN: jax.Array) -> jax.Array:
    """An episode's reward at its last sampled token, 0 elsewhere: [B, N]. Without any, it is in the last slot."""
    last = mask_BxN & (jnp.cumsum(mask_BxN[:, ::-1], axis=1)[:, ::-1] == 1)
    last = last.at[:, -1].max(~mask_BxN.any(axis=1))
    return jnp.where(last, rewards_B[:, None], 0.0)


def group_mean(rewards_BxN: jax.Array, mask_BxN: jax.Array, *, group: int, **_) -> jax.Array:
    """GRPO's advantage: an episode's return minus the mean of its group, the same for all its tokens.

    Shao et al. 2024 (arXiv 2402.03300), section 4.1.2, without the division by the standard deviation (see `SCALES`).
    """
    returns = rewards_BxN.sum(axis=1).reshape(-1, group)
    centered = returns - returns.mean(axis=1, keepdims=True)
    # An episode without a token counts in `SCALES` too.
    kept = mask_BxN | ~mask_BxN.any(axis=1, keepdims=True)
    return jnp.where(kept, centered.reshape(-1, 1), 0.0)


def gae(
    rewards_BxN: jax.Array, mask_BxN: jax.Array, *, values_BxN: jax.Array, gamma: float, gae_lambda: float, **_
) -> jax.Array:
    """Generalized advantage estimation over the learner's tokens: Schulman et al. 2016 (arXiv 1506.02438), eq. 16.

    A token's successor is the learner's next token, in this message or the next; after the last one the value is 0.
    With gamma = lambda = 1 this is the Monte Carlo return minus the value.
    """

    def back(after, column):
        next_value, next_advantage = after
        reward, value, sampled = column
        advantage = reward + gamma * next_value - value + gamma * gae_lambda * next_advantage
        keep = lambda new, old: jnp.where(sampled, new, old)
        return (keep(value, next_value), keep(advantage, next_advantage)), keep(advantage, 0.0)

    columns = (rewards_BxN.T, values_BxN.T, mask_BxN.T)
    end = jnp.zeros(rewards_BxN.shape[0])
    _, advantages = jax.lax.scan(back, (end, end), columns, reverse=True)
    return advantages.T


# (rewards_BxN, mask_BxN) to advantages_BxN; values_BxN, group, gamma and gae_lambda are passed by name.
ADVANTAGES: dict[str, Callable[..., jax.Array]] = {"group": group_mean, "gae": gae}


def _unscaled(advantages_BxN: jax.Array, mask_BxN: jax.Array, group: int) -> jax.Array:
    """Unchanged: Dr. GRPO (Liu et al. 2025, arXiv 2503.20783), since dividing favors groups of small spread."""
    return advantages_BxN


def _by_group(advantages_BxN: jax.Array, mask_BxN: jax.Array, group: int) -> jax.Array:
    """Divided by the standard deviation of the group's returns: Shao et al. 2024. Needs one advantage per episode."""
    centered_B = jnp.max(jnp.abs(advantages_BxN), axis=1)  # Equal over an episode's tokens; squared below.
    deviation = jnp.sqrt(jnp.mean(jnp.square(centered_B.reshape(-1, group)), axis=1))
    return advantages_BxN / (jnp.repeat(deviation, group)[:, None] + 1e-4)


def _by_batch(advantages_BxN: jax.Array, mask_BxN: jax.Array, group: int) -> jax.Array:
    """Mean 0 and standard deviation 1 over all tokens: usual for PPO (Andrychowicz et al. 2021, C67)."""
    count = jnp.maximum(mask_BxN.sum(), 1)
    centered = jnp.where(mask_BxN, advantages_BxN - jnp.where(mask_BxN, advantages_BxN, 0.0).sum() / count, 0.0)
    return centered / (jnp.sqrt(jnp.square(centered).sum() / count) + 1e-8)


# (advantages_BxN, mask_BxN, group) to scaled advantages.
SCALES: dict[str, Callable[..., jax.Array]] = {"none": _unscaled, "group": _by_group, "batch": _by_batch}


def unequal_groups(rewards_B: jax.Array, group: int) -> jax.Array:
    """bool[B]: whether rewards differ within an episode's group: DAPO's filter (Yu et al. 2025, eq. 11)."""
    grouped = rewards_B.reshape(-1, group)
    return jnp.repeat(grouped.max(axis=1) > grouped.min(axis=1), group)

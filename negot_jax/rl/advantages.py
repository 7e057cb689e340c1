"""From rewards to advantages, a value for each of the buyer's tokens.

Shape suffixes: B episodes, groups contiguous; N the buyer's token slots of an episode in order (turns x message cap),
of which `mask_BxN` marks those that were sampled. Everything here is data: no gradient flows through an advantage.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

# An estimator maps (rewards_BxN, mask_BxN) to advantages_BxN; by name it gets values_BxN, group, gamma and gae_lambda.
Estimator = Callable[..., jax.Array]
# A scale maps (advantages_BxN, mask_BxN, group) to scaled advantages.
Scale = Callable[[jax.Array, jax.Array, int], jax.Array]


def token_rewards(rewards_B: jax.Array, mask_BxN: jax.Array) -> jax.Array:
    """An episode's reward at its last sampled token, 0 elsewhere: [B, N]."""
    last = mask_BxN & (jnp.cumsum(mask_BxN[:, ::-1], axis=1)[:, ::-1] == 1)
    return jnp.where(last, rewards_B[:, None], 0.0)


def group_mean(rewards_BxN: jax.Array, mask_BxN: jax.Array, *, group: int, **_) -> jax.Array:
    """GRPO's advantage: an episode's return less the mean over its group, the same for each of its tokens.

    Shao et al. 2024 (arXiv 2402.03300), section 4.1.2, before its division by the deviation (see `SCALES`).
    """
    returns = jnp.where(mask_BxN, rewards_BxN, 0.0).sum(axis=1).reshape(-1, group)
    centred = returns - returns.mean(axis=1, keepdims=True)
    return jnp.where(mask_BxN, centred.reshape(-1, 1), 0.0)


def gae(
    rewards_BxN: jax.Array, mask_BxN: jax.Array, *, values_BxN: jax.Array, gamma: float, gae_lambda: float, **_
) -> jax.Array:
    """Generalised advantage estimation over the buyer's own tokens: Schulman et al. 2016 (arXiv 1506.02438), eq. 16.

    The successor of a token is the buyer's next token, be it in this message or in the next one; what lies between is
    the environment's. After the last one comes the end, worth 0. With gamma = lambda = 1 it is the Monte Carlo return
    less the value.
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


ADVANTAGES: dict[str, Estimator] = {"group": group_mean, "gae": gae}


def _unscaled(advantages_BxN: jax.Array, mask_BxN: jax.Array, group: int) -> jax.Array:
    """As they are: Dr. GRPO (Liu et al. 2025, arXiv 2503.20783), since a division favours questions of small spread."""
    return advantages_BxN


def _by_group(advantages_BxN: jax.Array, mask_BxN: jax.Array, group: int) -> jax.Array:
    """Divided by the deviation of the group's returns: Shao et al. 2024. For `group_mean` alone."""
    centred_B = jnp.max(jnp.abs(advantages_BxN), axis=1)  # Every token of an episode has the same; signs square away.
    deviation = jnp.sqrt(jnp.mean(jnp.square(centred_B.reshape(-1, group)), axis=1))
    return advantages_BxN / (jnp.repeat(deviation, group)[:, None] + 1e-4)


def _by_batch(advantages_BxN: jax.Array, mask_BxN: jax.Array, group: int) -> jax.Array:
    """Mean 0 and deviation 1 over all tokens of the iteration: usual for PPO (Andrychowicz et al. 2021, C67)."""
    count = jnp.maximum(mask_BxN.sum(), 1)
    centred = jnp.where(mask_BxN, advantages_BxN - jnp.where(mask_BxN, advantages_BxN, 0.0).sum() / count, 0.0)
    return centred / (jnp.sqrt(jnp.square(centred).sum() / count) + 1e-8)


SCALES: dict[str, Scale] = {"none": _unscaled, "group": _by_group, "batch": _by_batch}


def unequal_groups(rewards_B: jax.Array, group: int) -> jax.Array:
    """bool[B]: whether the members of an episode's group differ in reward: DAPO's filter (Yu et al. 2025, eq. 11)."""
    grouped = rewards_B.reshape(-1, group)
    return jnp.repeat(grouped.max(axis=1) > grouped.min(axis=1), group)

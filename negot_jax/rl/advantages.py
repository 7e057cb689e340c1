"""From rewards to advantages."""

import jax


def group_advantages(rewards_B: jax.Array, group: int, divide_by_std: bool) -> jax.Array:
    """GRPO's advantage: the reward less the mean over the episode's group (Shao et al. 2024, section 4.1).

    Args:
      rewards_B: float32, groups contiguous. group: episodes a group.
      divide_by_std: GRPO divides by the group's standard deviation; without, it is Dr. GRPO's (Liu et al. 2025).
    """
    grouped = rewards_B.reshape(-1, group)
    centred = grouped - grouped.mean(axis=1, keepdims=True)
    if divide_by_std:
        centred = centred / (grouped.std(axis=1, keepdims=True) + 1e-4)
    return centred.reshape(-1)

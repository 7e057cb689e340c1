"""The terms of the loss, as pure functions of log-probabilities.

A term has one value per token. A loss or metric stays a (sum, weight) pair to the end, so that micro-batches, devices
and hosts add up exactly. Shape suffixes as in `rollout`; N = K * W, the learner's token slots in an episode.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

Pair = tuple[jax.Array, jax.Array]
Metrics = dict[str, Pair]


def masked(values: jax.Array, mask: jax.Array) -> Pair:
    """The sum over a mask, and the size of the mask: float32 scalars."""
    return jnp.where(mask, values, 0.0).sum(dtype=jnp.float32), mask.sum(dtype=jnp.float32)


# --- Log-ratios of new to old probability: (log_probs, old, mask), each [B, N], to [B, N].


def token_ratio(log_probs: jax.Array, old: jax.Array, mask: jax.Array) -> jax.Array:
    """One ratio per token: PPO and GRPO."""
    return log_probs - old


def sequence_ratio(log_probs: jax.Array, old: jax.Array, mask: jax.Array) -> jax.Array:
    """One ratio per episode, the geometric mean over all that the learner says in it, since episodes are rewarded: GSPO
    (Zheng et al. 2025, arXiv 2507.18071, eq. 7).
    """
    lengths = jnp.maximum(mask.sum(axis=1, keepdims=True), 1)
    mean = jnp.where(mask, log_probs - old, 0.0).sum(axis=1, keepdims=True) / lengths
    return jnp.broadcast_to(mean, log_probs.shape)


RATIOS: dict[str, Callable[..., jax.Array]] = {"token": token_ratio, "sequence": sequence_ratio}


# --- Surrogates, negated, and whether each token was clipped: [B, N] both.


def clipped_policy_loss(log_ratio: jax.Array, advantages: jax.Array, clip: tuple[float, float]) -> Pair:
    """PPO's clipped surrogate (Schulman et al. 2017, arXiv 1707.06347, eq. 7); with unequal bounds DAPO's clip-higher
    (Yu et al. 2025, arXiv 2503.14476, eq. 10).
    """
    ratio = jnp.exp(log_ratio)
    bounded = jnp.clip(ratio, 1 - clip[0], 1 + clip[1])
    return -jnp.minimum(ratio * advantages, bounded * advantages), bounded * advantages < ratio * advantages


def weighted_policy_loss(log_ratio: jax.Array, advantages: jax.Array, clip: tuple[float, float]) -> Pair:
    """CISPO: the clipped ratio is a constant weight, so a clipped token still teaches (MiniMax 2025, arXiv 2506.13585,
    eq. 4). The gradient is that of the paper's; the value differs by a constant.
    """
    ratio = jax.lax.stop_gradient(jnp.exp(log_ratio))
    bounded = jnp.clip(ratio, 1 - clip[0], 1 + clip[1])
    return -bounded * advantages * log_ratio, bounded != ratio


SURROGATES: dict[str, Callable[..., Pair]] = {"clip": clipped_policy_loss, "cispo": weighted_policy_loss}


# --- Weights that correct for a sampler whose probabilities differ from the trainer's under the same parameters:
# (trainer, sampler, mask, cap), each [B, N], to [B, N]; no gradient.


def truncated_importance(trainer: jax.Array, sampler: jax.Array, mask: jax.Array, cap: float) -> jax.Array:
    """min(p_trainer / p_sampler, cap) per token: TIS (Yao et al. 2025)."""
    return jax.lax.stop_gradient(jnp.minimum(jnp.exp(trainer - sampler), cap))


def masked_tokens(trainer: jax.Array, sampler: jax.Array, mask: jax.Array, cap: float) -> jax.Array:
    """p_trainer / p_sampler, or 0 outside [1 / cap, cap], per token: IcePop (Ling Team 2025, arXiv 2510.18855)."""
    ratio = jax.lax.stop_gradient(jnp.exp(trainer - sampler))
    return jnp.where((ratio >= 1 / cap) & (ratio <= cap), ratio, 0.0)


def masked_episodes(trainer: jax.Array, sampler: jax.Array, mask: jax.Array, cap: float) -> jax.Array:
    """The ratio of whole episodes, or 0 above the cap: MIS (Liu et al. 2025, "When Speed Kills Stability")."""
    log_ratio = jnp.where(mask, trainer - sampler, 0.0).sum(axis=1, keepdims=True)
    ratio = jax.lax.stop_gradient(jnp.exp(log_ratio))
    return jnp.broadcast_to(jnp.where(ratio <= cap, ratio, 0.0), trainer.shape)


CORRECTIONS: dict[str, Callable[..., jax.Array]] = {
    "truncate": truncated_importance,
    "mask_tokens": masked_tokens,
    "mask_episodes": masked_episodes,
}


def clipped_value_loss(values: jax.Array, old: jax.Array, returns: jax.Array, clip: float) -> jax.Array:
    """PPO's clipped value loss (Engstrom et al. 2020, arXiv 2005.12729, section 3), halved."""
    bounded = old + jnp.clip(values - old, -clip, clip)
    return 0.5 * jnp.maximum(jnp.square(values - returns), jnp.square(bounded - returns))


# --- Estimators of KL(policy || reference) from the log-probabilities of a token drawn by the policy (Schulman 2020,
# "Approximating KL divergence").


def k1(log_probs: jax.Array, reference: jax.Array) -> jax.Array:
    """The log-ratio: unbiased, may be negative. Its gradient has mean 0, so it is a reward per token, not a loss."""
    return log_probs - reference


def k2(log_probs: jax.Array, reference: jax.Array) -> jax.Array:
    """Half the squared log-ratio: biased, but on-policy its gradient is that of the KL."""
    return 0.5 * jnp.square(log_probs - reference)


def k3(log_probs: jax.Array, reference: jax.Array) -> jax.Array:
    """exp(-k1) - 1 + k1: unbiased, never negative. GRPO's (Shao et al. 2024, eq. 4)."""
    return jnp.exp(reference - log_probs) - 1 + (log_probs - reference)


KL_LOSSES: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {"k2": k2, "k3": k3}


# --- Aggregations: mask [B, N] to the weight of each token in the loss, [B, N], and the total weight.


def _mean_of_tokens(mask: jax.Array) -> Pair:
    """Equal weight per token: DAPO (Yu et al. 2025, eq. 12)."""
    return mask.astype(jnp.float32), mask.sum(dtype=jnp.float32)


def _mean_of_episodes(mask: jax.Array) -> Pair:
    """Equal weight per episode, whatever its length: GRPO (Shao et al. 2024, eq. 3)."""
    lengths = mask.sum(axis=1, keepdims=True)
    return mask / jnp.maximum(lengths, 1).astype(jnp.float32), (lengths > 0).sum(dtype=jnp.float32)


def _per_slot(mask: jax.Array) -> Pair:
    """The sum over an episode's tokens, divided by its slots: Dr. GRPO (Liu et al. 2025, section 3.2)."""
    return mask / jnp.float32(mask.shape[1]), mask.any(axis=1).sum(dtype=jnp.float32)


AGGREGATIONS = {"token": _mean_of_tokens, "episode": _mean_of_episodes, "constant": _per_slot}

"""The objective of any policy: the targets of a batch of episodes, and the loss on them. [B, N] as in `advantages`."""

import math

from flax import struct
import jax
import jax.numpy as jnp

from negot_jax.rl import advantages, losses, scoring
from negot_jax.rl.algorithms import AlgorithmConfig
from negot_jax.rl.losses import Metrics, Pair


@struct.dataclass
class Targets:
    """What an update learns from, held fixed while it learns: [B, N] each.

    mask: tokens that count. sampler_log_probs: at sampling. old_log_probs: denominator of the ratios.
    importance_weights: bounded trainer/sampler ratios. reference_log_probs: under the reference policy.
    old_values: the critic's before the first update. returns: targets of the critic.
    """

    mask: jax.Array
    advantages: jax.Array
    sampler_log_probs: jax.Array
    old_log_probs: jax.Array
    importance_weights: jax.Array
    reference_log_probs: jax.Array
    old_values: jax.Array
    returns: jax.Array


def make_targets(
    algorithm: AlgorithmConfig,
    group: int,
    rewards_B: jax.Array,
    sampled_BxN: jax.Array,
    sampler_log_probs_BxN: jax.Array,
    old: scoring.TokenScores | None = None,
    reference_log_probs_BxN: jax.Array | None = None,
) -> tuple[Targets, Metrics]:
    """The targets of finished episodes, from their rewards.

    group: episodes of one scenario. rewards_B: float32, at the end of each episode. sampled_BxN: bool, the slots with a
    token of the policy; of these, old: the trainer's scores before the first update, if `algorithm.rescores`;
    reference_log_probs_BxN: under the reference policy, if the algorithm has a KL term.
    """
    zeros, metrics = jnp.zeros(sampled_BxN.shape), {}
    values, log_probs = (zeros, sampler_log_probs_BxN) if old is None else (old.values, old.log_probs)
    reference = zeros if reference_log_probs_BxN is None else reference_log_probs_BxN
    importance = zeros + 1
    if algorithm.importance_cap:
        correct = losses.CORRECTIONS[algorithm.importance]
        importance = correct(log_probs, sampler_log_probs_BxN, sampled_BxN, algorithm.importance_cap)
        metrics["importance_weight"] = losses.masked(importance, sampled_BxN)
    rewards_BxN = advantages.token_rewards(rewards_B, sampled_BxN)
    if algorithm.kl == "k1":
        rewards_BxN -= algorithm.kl_coefficient * jnp.where(sampled_BxN, losses.k1(log_probs, reference), 0.0)
    estimated = advantages.ADVANTAGES[algorithm.advantage](
        rewards_BxN, sampled_BxN, values_BxN=values, group=group, gamma=algorithm.gamma, gae_lambda=algorithm.gae_lambda
    )
    mask = sampled_BxN
    if algorithm.mask_equal_groups:
        unequal_B = advantages.unequal_groups(rewards_B, group)
        mask &= unequal_B[:, None]
        metrics["unequal_groups"] = losses.masked(unequal_B, jnp.ones_like(unequal_B))
    targets = Targets(
        mask=mask,
        advantages=advantages.SCALES[algorithm.scale](estimated, sampled_BxN, group),
        sampler_log_probs=sampler_log_probs_BxN,
        old_log_probs=log_probs,
        importance_weights=importance,
        reference_log_probs=reference,
        old_values=values,
        returns=estimated + values,
    )
    return targets, metrics


def loss(algorithm: AlgorithmConfig, scores: scoring.TokenScores, targets: Targets) -> tuple[Pair, Metrics]:
    """The loss of some episodes as (sum, weight), and its metrics; no term mixes episodes."""
    mask = targets.mask
    log_ratio = losses.RATIOS[algorithm.ratio](scores.log_probs, targets.old_log_probs, mask)
    terms, clipped = losses.SURROGATES[algorithm.surrogate](log_ratio, targets.advantages, algorithm.clip)
    terms *= targets.importance_weights
    gap = jnp.abs(scores.log_probs - targets.sampler_log_probs)
    metrics = {
        "entropy": losses.masked(scores.entropies, mask),
        "clip_fraction": losses.masked(clipped, mask),
        "ratio_gap": losses.masked(gap, mask),
        "ratio_tail": losses.masked(gap > math.log(2), mask),  # Ratios outside [1/2, 2].
    }
    if scores.rerouted is not None:
        metrics["ratio_rerouted"] = losses.masked(scores.rerouted, mask)
    if algorithm.entropy:
        terms -= algorithm.entropy * scores.entropies
    if algorithm.kl != "none":
        metrics["kl"] = losses.masked(losses.k3(scores.log_probs, targets.reference_log_probs), mask)
    if kl_loss := losses.KL_LOSSES.get(algorithm.kl):
        terms += algorithm.kl_coefficient * kl_loss(scores.log_probs, targets.reference_log_probs)
    if algorithm.critic:
        value_loss = losses.clipped_value_loss(scores.values, targets.old_values, targets.returns, algorithm.value_clip)
        terms += algorithm.value_coefficient * value_loss
        metrics["value_loss"] = losses.masked(value_loss, mask)
    weights_BxN, weight = losses.AGGREGATIONS[algorithm.aggregation](mask)
    return (jnp.where(mask, terms * weights_BxN, 0.0).sum(dtype=jnp.float32), weight), metrics

"""The objective, of any policy: what is held fixed while episodes are learned from, and the loss.

It knows rewards, log-probabilities and values by token, and not where they come from: the learner feeds it a language
model's, the tests a table's too. [B, N]: B episodes, groups contiguous, N slots in order, as in `advantages`.
"""

from flax import struct
import jax
import jax.numpy as jnp

from negot_jax.rl import advantages, losses
from negot_jax.rl.algorithms import AlgorithmConfig

Metrics = dict[str, losses.Pair]


@struct.dataclass
class Batch:
    """Finished episodes and what they teach, data to the loss: [B, N] each.

    mask: the tokens that count. advantages. sampler: log-probabilities at sampling. old: those that ratios are taken
    to. importance: truncated weights. reference: log-probabilities under the reference. values, returns: the old
    critic's values, and what they should have been.
    """

    mask: jax.Array
    advantages: jax.Array
    sampler: jax.Array
    old: jax.Array
    importance: jax.Array
    reference: jax.Array
    values: jax.Array
    returns: jax.Array


def prepare(
    algorithm: AlgorithmConfig,
    group: int,
    rewards_B: jax.Array,
    sampled_BxN: jax.Array,
    sampler_BxN: jax.Array,
    old: losses.Scores | None = None,
    reference_BxN: jax.Array | None = None,
) -> tuple[Batch, Metrics]:
    """From rewards to a batch.

    Args:
      group: episodes of one scenario. rewards_B: float32, at the end of each episode.
      sampled_BxN: bool, the slots with a token of the policy. sampler_BxN: their log-probabilities at sampling.
      old: the trainer's scores before the first update, where `algorithm.rescores`.
      reference_BxN: the reference's log-probabilities, where there is a divergence.
    """
    zeros, metrics = jnp.zeros(sampled_BxN.shape), {}
    values, log_probs = (zeros, sampler_BxN) if old is None else (old.values, old.log_probs)
    reference = zeros if reference_BxN is None else reference_BxN
    importance = zeros + 1
    if algorithm.importance_cap:
        importance = losses.truncated_importance(log_probs, sampler_BxN, algorithm.importance_cap)
        metrics["importance_weight"] = losses.masked(importance, sampled_BxN)
    rewards_BxN = advantages.token_rewards(rewards_B, sampled_BxN)
    if algorithm.kl == "k1":
        rewards_BxN -= algorithm.kl_coefficient * jnp.where(sampled_BxN, losses.k1(log_probs, reference), 0.0)
    estimated = advantages.ADVANTAGES[algorithm.advantage](
        rewards_BxN,
        sampled_BxN,
        values_BxN=values,
        group=group,
        gamma=algorithm.gamma,
        gae_lambda=algorithm.gae_lambda,
    )
    mask = sampled_BxN
    if algorithm.mask_equal_groups:
        unequal_B = advantages.unequal_groups(rewards_B, group)
        mask &= unequal_B[:, None]
        metrics["unequal_groups"] = losses.masked(unequal_B, jnp.ones_like(unequal_B))
    batch = Batch(
        mask=mask,
        advantages=advantages.SCALES[algorithm.scale](estimated, sampled_BxN, group),
        sampler=sampler_BxN,
        old=log_probs,
        importance=importance,
        reference=reference,
        values=values,
        returns=estimated + values,
    )
    return batch, metrics


def loss(algorithm: AlgorithmConfig, scores: losses.Scores, batch: Batch) -> tuple[losses.Pair, Metrics]:
    """The objective of some episodes as a (sum, weight), and what is to be known of it.

    The sum over episodes is the sum over any parts of them: nothing in it looks from one episode to another.
    """
    mask = batch.mask
    log_ratio = losses.RATIOS[algorithm.ratio](scores.log_probs, batch.old, mask)
    terms, clipped = losses.clipped_policy_loss(log_ratio, batch.advantages, algorithm.clip)
    terms *= batch.importance
    metrics = {
        "entropy": losses.masked(scores.entropies, mask),
        "clip_fraction": losses.masked(clipped, mask),
        "ratio_gap": losses.masked(jnp.abs(scores.log_probs - batch.sampler), mask),
    }
    if algorithm.entropy:
        terms -= algorithm.entropy * scores.entropies
    if algorithm.kl != "none":
        metrics["kl"] = losses.masked(losses.k3(scores.log_probs, batch.reference), mask)
    if algorithm.kl in losses.KL_LOSSES:
        terms += algorithm.kl_coefficient * losses.KL_LOSSES[algorithm.kl](scores.log_probs, batch.reference)
    if algorithm.critic:
        value_loss = losses.clipped_value_loss(scores.values, batch.values, batch.returns, algorithm.value_clip)
        terms += algorithm.value_coefficient * value_loss
        metrics["value_loss"] = losses.masked(value_loss, mask)
    weights_BxN, weight = losses.AGGREGATIONS[algorithm.aggregation](mask)
    return (jnp.where(mask, terms * weights_BxN, 0.0).sum(dtype=jnp.float32), weight), metrics

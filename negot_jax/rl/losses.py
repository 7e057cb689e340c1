"""Log-probabilities as the trainer sees them, and losses as sums over tokens.

A loss or metric is a (sum, weight) pair until the last moment, so that micro-batches, devices and hosts add up exactly.
Shape suffixes as in `rollout`.
"""

import functools

import jax
import jax.numpy as jnp

from negot_jax.language import constrain
from negot_jax.models import sampling, transformer
from negot_jax.models.presets import ModelConfig
from negot_jax.rl.environment import Layout
from negot_jax.rl.rollout import Trajectory

Pair = tuple[jax.Array, jax.Array]


def message_log_probs(
    config: ModelConfig,
    weights: transformer.Weights,
    layout: Layout,
    trajectory: Trajectory,
    form: constrain.Constraint | None,
    temperature: float,
) -> tuple[jax.Array, jax.Array]:
    """Log-probabilities of the buyer's tokens, recomputed teacher-forced, and the entropies they were drawn at.

    One forward pass reads the whole dialogue; scores over the vocabulary are made one turn at a time and recomputed in
    the backward pass, never held for the whole context.

    Args:
      form: the masks that `trajectory.choices_BxKxW` index; None scores every token of the vocabulary.
    Returns:
      float32 [B, K, W] twice; where nothing was sampled the values mean nothing.
    """
    context, valid = (x[:, : layout.columns] for x in (trajectory.tokens_BxT, trajectory.valid_BxT))
    positions = jnp.cumsum(valid, axis=1) - 1
    blocks = tuple(layout.end(k) for k in range(layout.turns))
    hidden, _ = transformer.forward(config, weights, context, positions, valid, blocks=blocks)
    # A message's first token is predicted at the buyer's header, one column before its slot.
    before = jnp.stack([hidden[:, layout.start(k) - 1 : layout.end(k) - 1] for k in range(layout.turns)])
    tokens = jnp.stack([context[:, layout.start(k) : layout.end(k)] for k in range(layout.turns)])
    choices = jnp.moveaxis(trajectory.choices_BxKxW, 1, 0)

    @functools.partial(jax.checkpoint, prevent_cse=False)
    def turn(inputs):
        hidden_BxWxD, tokens_BxW, choices_BxW = inputs
        logits = transformer.logits(config, weights, hidden_BxWxD)
        mask = None if form is None else form.allowed_NxV[jnp.maximum(choices_BxW, 0)]
        log_probs = sampling.log_probs(logits, temperature, mask)
        entropy = -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)
        chosen = jnp.take_along_axis(log_probs, tokens_BxW[..., None], axis=-1)[..., 0]
        if form is not None:
            forced = choices_BxW == constrain.FORCED
            chosen, entropy = jnp.where(forced, 0.0, chosen), jnp.where(forced, 0.0, entropy)
        return chosen, entropy

    log_probs, entropies = jax.lax.map(turn, (before, tokens, choices))
    return jnp.moveaxis(log_probs, 0, 1), jnp.moveaxis(entropies, 0, 1)


def masked(values: jax.Array, mask: jax.Array) -> Pair:
    """The sum over a mask, and the mask's size: float32 scalars."""
    return jnp.where(mask, values, 0.0).sum(dtype=jnp.float32), mask.sum(dtype=jnp.float32)


def clipped_policy_loss(
    log_probs: jax.Array, old_log_probs: jax.Array, advantages: jax.Array, clip: tuple[float, float]
) -> tuple[jax.Array, jax.Array]:
    """PPO's clipped surrogate, negated (Schulman et al. 2017, eq. 7), a value a token, and whether it was clipped."""
    ratio = jnp.exp(log_probs - old_log_probs)
    bounded = jnp.clip(ratio, 1 - clip[0], 1 + clip[1])
    return -jnp.minimum(ratio * advantages, bounded * advantages), bounded * advantages < ratio * advantages

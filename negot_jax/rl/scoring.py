"""Log-probabilities, entropies and values of messages as the trainer recomputes them."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from negot_jax.language import constrain
from negot_jax.models import sampling, transformer, value_head
from negot_jax.models.presets import ModelConfig
from negot_jax.rl.layout import Layout
from negot_jax.rl.rollout import Dialogue


class TokenScores(NamedTuple):
    """The token slots of a seat as the trainer recomputes them, float32 [B, N] each; 0 where nothing was sampled.

    log_probs: of the tokens. entropies: of the distributions they were drawn from. values: the critic's, before each
    token; 0 without a critic.
    """

    log_probs: jax.Array
    entropies: jax.Array
    values: jax.Array


def score_messages(
    config: ModelConfig,
    weights: transformer.Weights,
    layout: Layout,
    dialogue: Dialogue,
    form: constrain.Constraint | None,
    temperature: float,
) -> TokenScores:
    """Scores a seat's messages, teacher-forced: one forward pass reads the whole dialogue.

    Logits are computed one turn at a time and rematerialized in the backward pass, never held for the whole context.

    Args:
      layout: of the dialogue's seat. form: the masks that `dialogue.choices_BxKxW` indexes; None for no masks.
    """
    context, valid = (x[:, : layout.columns] for x in (dialogue.tokens_BxT, dialogue.valid_BxT))
    positions = jnp.cumsum(valid, axis=1) - 1
    blocks = tuple(layout.end(k) for k in range(layout.turns))
    hidden, _ = transformer.forward(config, weights, context, positions, valid, blocks=blocks)
    # The header predicts a message's first token, one column before its slot.
    before = jnp.stack([hidden[:, layout.start(k) - 1 : layout.end(k) - 1] for k in range(layout.turns)])
    tokens = jnp.stack([context[:, layout.start(k) : layout.end(k)] for k in range(layout.turns)])
    choices, sampled = (jnp.moveaxis(x, 1, 0) for x in (dialogue.choices_BxKxW, dialogue.sampled_BxKxW))

    @functools.partial(jax.checkpoint, prevent_cse=False)
    def turn(inputs):
        hidden_BxWxD, tokens_BxW, choices_BxW, sampled_BxW = inputs
        logits = transformer.logits(config, weights, hidden_BxWxD)
        mask = None if form is None else form.allowed_NxV[jnp.maximum(choices_BxW, 0)]
        log_probs = sampling.log_probs(logits, temperature, mask)
        entropy = -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)
        chosen = jnp.take_along_axis(log_probs, tokens_BxW[..., None], axis=-1)[..., 0]
        drawn_BxW = sampled_BxW if form is None else sampled_BxW & (choices_BxW != constrain.FORCED)
        values = value_head.values(weights, hidden_BxWxD)
        return TokenScores(
            jnp.where(drawn_BxW, chosen, 0.0), jnp.where(drawn_BxW, entropy, 0.0), jnp.where(sampled_BxW, values, 0.0)
        )

    scores = jax.lax.map(turn, (before, tokens, choices, sampled))
    return jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1).reshape(x.shape[1], -1), scores)

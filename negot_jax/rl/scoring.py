"""Log-probabilities, entropies and values of messages as the trainer recomputes them."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from negot_jax.language import constrain
from negot_jax.models import sampling, transformer, value_head
from negot_jax.models.presets import ModelConfig
from negot_jax.rl.layout import Layout
from negot_jax.rl.rollout import Dialogue
from negot_jax.rl.updates import Widths

_STRETCHES = 4  # Of a row, each of which attends to the columns up to its end.


class TokenScores(NamedTuple):
    """The token slots of a seat as the trainer recomputes them, float32 [B, N] each; 0 where nothing was sampled.

    log_probs: of the tokens. entropies: of the distributions they were drawn from. values: the critic's, before each
    token; 0 without a critic. rerouted: of a mixture, whether the router would now send the token before to other
    experts in some layer than the sampler's did; None of a dense model.
    """

    log_probs: jax.Array
    entropies: jax.Array
    values: jax.Array
    rerouted: jax.Array | None = None


def score_messages(
    config: ModelConfig,
    weights: transformer.Weights,
    layout: Layout,
    dialogue: Dialogue,
    form: constrain.Constraint | None,
    temperature: float,
    width: int | None = None,
) -> TokenScores:
    """Scores a seat's messages, teacher-forced: one forward pass reads the whole dialogue.

    Padding is moved to the end of each row and cut off. Logits are computed one turn at a time and rematerialized in
    the backward pass, never held for the whole context.

    Args:
      layout: of the dialogue's seat. form: the masks that `dialogue.choices_BxKxW` indexes; None for no masks.
      width: static, at least the longest row's length, see `widths`. Default: all columns.
    """
    width = width or layout.columns
    context, valid = (x[:, : layout.columns] for x in (dialogue.tokens_BxT, dialogue.valid_BxT))
    slots = np.concatenate([np.arange(layout.start(k), layout.end(k)) for k in range(layout.turns)])
    slot_of_column = np.full(layout.columns, slots.size)
    slot_of_column[slots] = np.arange(slots.size)
    order = jnp.argsort(~valid, axis=1, stable=True)[:, :width]
    packed = jnp.take_along_axis(context, order, axis=1)
    filled = jnp.arange(width) < valid.sum(axis=1, keepdims=True)
    blocks = tuple(width * (k + 1) // _STRETCHES for k in range(_STRETCHES))
    passed = dialogue.experts_BxSxLxk
    if passed is not None:
        passed = jnp.moveaxis(jnp.take_along_axis(passed, order[..., None, None], axis=1), 2, 0)
    given = passed if config.replay_experts else None
    hidden, _, picked = transformer.forward(config, weights, packed, filled, blocks=blocks, experts_LxBxTxk=given)
    # A token is predicted by the one before it: a message's first by the header.
    before = jnp.clip((jnp.cumsum(valid, axis=1) - 2)[:, slots], 0, width - 1)
    predicted = jnp.where(filled, jnp.asarray(slot_of_column)[order], slots.size)
    predicted = jnp.pad(predicted[:, 1:], ((0, 0), (0, 1)), constant_values=slots.size)
    rerouted = None
    if passed is not None:
        other_BxT = (jnp.sort(picked) != jnp.sort(passed)).any(axis=(0, 3))
        rerouted = jnp.take_along_axis(other_BxT, before, axis=1)
    hidden = _pick(hidden, before, predicted)
    by_turn = lambda x: jnp.moveaxis(x.reshape(x.shape[0], layout.turns, layout.message, *x.shape[2:]), 1, 0)
    tokens, before = by_turn(context[:, slots]), by_turn(hidden)
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
    scores = jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1).reshape(x.shape[1], -1), scores)
    return scores._replace(rerouted=rerouted)


def widths(layout: Layout, dialogue: Dialogue, count: int) -> Widths:
    """What a seat's model reads of each dialogue, and `count` widths to run it at, in equal steps up to all columns."""
    static = tuple(-(-layout.columns * (k + 1) // count) for k in range(count))
    return Widths(dialogue.valid_BxT[:, : layout.columns].sum(axis=1), static)


@jax.custom_vjp
def _pick(hidden_BxTxD: jax.Array, column_BxN: jax.Array, slot_BxT: jax.Array) -> jax.Array:
    """The states at some columns, [B, N, D]. The gradient gathers, where that of an index would scatter.

    slot_BxT: which of the N slots a column's gradient comes from; N for none.
    """
    return jnp.take_along_axis(hidden_BxTxD, column_BxN[..., None], axis=1)


def _unpick(slot_BxT: jax.Array, given_BxNxD: jax.Array):
    given = jnp.take_along_axis(given_BxNxD, slot_BxT[..., None], axis=1, mode="fill", fill_value=0)
    return given, None, None


_pick.defvjp(lambda hidden, column, slot: (_pick(hidden, column, slot), slot), _unpick)

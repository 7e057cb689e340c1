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
    token; 0 without a critic. rerouted: of a mixture, whether in any layer the router would now send the token before
    to other experts than in sampling; None of a dense model.
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

    Padding, and slots without a sampled token, are moved to the end of each row and cut off. Logits are computed a part
    of the slots at a time and rematerialized in the backward pass, never held for the whole context.

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
    # A token is predicted by the one before it: a message's first by the header.
    before_BxN = jnp.clip((jnp.cumsum(valid, axis=1) - 2)[:, slots], 0, width - 1)

    # The sampled tokens, moved to the front as well: M of the N slots, the share that goes with the width.
    M = layout.turns * -(-layout.message * width // layout.columns)
    sampled_BxN, choices_BxN = (x.reshape(x.shape[0], -1) for x in (dialogue.sampled_BxKxW, dialogue.choices_BxKxW))
    chosen_BxM = jnp.argsort(~sampled_BxN, axis=1, stable=True)[:, :M]
    pick = lambda x_BxN: jnp.take_along_axis(x_BxN, chosen_BxM, axis=1)
    before, sampled = pick(before_BxN), pick(sampled_BxN)
    rank_BxN = jnp.cumsum(sampled_BxN, axis=1) - 1
    predicted = jnp.pad(jnp.where(sampled_BxN, rank_BxN, M), ((0, 0), (0, 1)), constant_values=M)
    predicted = jnp.take_along_axis(predicted, jnp.asarray(slot_of_column)[order], axis=1)
    predicted = jnp.pad(jnp.where(filled, predicted, M)[:, 1:], ((0, 0), (0, 1)), constant_values=M)

    blocks = tuple(width * (k + 1) // _STRETCHES for k in range(_STRETCHES))
    passed = dialogue.experts_BxSxLxk
    if passed is not None:
        passed = jnp.moveaxis(jnp.take_along_axis(passed, order[..., None, None], axis=1), 2, 0)
    given = passed if config.replay_experts else None
    readout = transformer.Readout(blocks, lambda x: _pick(x, before, predicted))
    hidden, _, picked = transformer.forward(config, weights, packed, filled, None, given, readout)
    rerouted = None
    if passed is not None:
        other_BxT = (jnp.sort(picked) != jnp.sort(passed)).any(axis=(0, 3))
        rerouted = jnp.take_along_axis(other_BxT, before_BxN, axis=1)

    @functools.partial(jax.checkpoint, prevent_cse=False)
    def part(inputs):
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

    parts = lambda x: jnp.moveaxis(x.reshape(x.shape[0], layout.turns, -1, *x.shape[2:]), 1, 0)
    scores = jax.lax.map(part, tuple(map(parts, (hidden, pick(context[:, slots]), pick(choices_BxN), sampled))))
    slot_BxM = jnp.where(sampled, chosen_BxM, slots.size)

    def spread(x):
        own_BxN = _pick(jnp.moveaxis(x, 0, 1).reshape(x.shape[1], M), jnp.maximum(rank_BxN, 0), slot_BxM)
        return jnp.where(sampled_BxN, own_BxN, 0.0)

    return jax.tree.map(spread, scores)._replace(rerouted=rerouted)


def widths(layout: Layout, dialogue: Dialogue, count: int) -> Widths:
    """What a seat's model reads of each dialogue, and `count` widths to run it at, in equal steps up to all columns.

    A width has its share of slots, so a row with many sampled tokens for its length needs a wider one.
    """
    static = tuple(-(-layout.columns * (k + 1) // count) for k in range(count))
    sampled = dialogue.sampled_BxKxW.sum(axis=(1, 2))
    needed = -(-sampled * layout.columns // (layout.turns * layout.message))
    return Widths(jnp.maximum(dialogue.valid_BxT[:, : layout.columns].sum(axis=1), needed), static)


@jax.custom_vjp
def _pick(x: jax.Array, column_BxN: jax.Array, slot_BxT: jax.Array) -> jax.Array:
    """What is at some columns, [B, T, ...] to [B, N, ...]. The gradient gathers, where that of an index would scatter.

    slot_BxT: which of the N slots a column's gradient comes from; N for none.
    """
    return jnp.take_along_axis(x, jnp.expand_dims(column_BxN, range(2, x.ndim)), axis=1)


def _unpick(slot_BxT: jax.Array, given: jax.Array):
    slot = jnp.expand_dims(slot_BxT, range(2, given.ndim))
    return jnp.take_along_axis(given, slot, axis=1, mode="fill", fill_value=0), None, None


_pick.defvjp(lambda x, column, slot: (_pick(x, column, slot), slot), _unpick)

"""Past offers and hints, read from the messages of a `GameState` or an `Observation`."""

from jax import Array
import jax.numpy as jnp

from negot_jax.game.types import BUYER, NONE, SELLER, GameState, Kind, Observation


def standing_offer(state: GameState) -> Array:
    """int32 cents: the other side's standing offer, as seen by the player to move; `NONE` without one."""
    return jnp.where(state.player == BUYER, state.offers[SELLER], state.offers[BUYER])


def offers_made(view: GameState | Observation, role: int) -> Array:
    """int32[T] cents: what `role` offered in each turn, `NONE` where it offered nothing."""
    return jnp.where(view.kinds[:, role] == Kind.OFFER, view.prices[:, role], NONE)


def last_hint(obs: Observation) -> Array:
    """int32, the latest acts of the seller's messages; 0 if none had any."""
    hint = jnp.int32(0)
    for acts in obs.acts[:, SELLER]:
        hint = jnp.where(acts > 0, acts, hint)
    return hint


def last_offer(offers_T: Array, before: Array | int) -> Array:
    """int32 cents: the latest offer made in a turn before `before`, standing or not; `NONE` without one."""
    # Not by reductions, which a CPU does not vectorize over a batch.
    last = jnp.int32(NONE)
    for turn, offer in enumerate(offers_T):
        last = jnp.where((offer != NONE) & (turn < before), offer, last)
    return last

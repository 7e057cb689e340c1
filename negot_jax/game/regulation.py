"""What a side may not do, and the legal move put in the place of a seller's illegal one.

The floor and the format of a seller are guaranteed here, by the environment, whoever the seller is.
"""

import enum

import jax
from jax import Array
import jax.numpy as jnp

from negot_jax.game import concession
from negot_jax.game.history import last_offer, offers_made, standing_offer
from negot_jax.game.money import part_up, uniform_bp
from negot_jax.game.types import BUYER, MAX_PRICE, NONE, SELLER, Action, End, GameParams, GameState, Kind, Scenario

MODES = ("repair", "end", "none")
MARGIN_BP = (200, 2_500)  # The replacement's hidden margin above cost is uniform in this range.


class Stream(enum.IntEnum):
    """What a scenario's key is folded with, one number a purpose."""

    TYPE = 0  # the seller's hidden type
    NOISE = 1  # the seller's noise, folded once more with the turn
    REPAIR = 2  # the margin of the replacement moves
    WORDING = 3  # how a scripted side words its action, folded once more with the turn
    SPEECH = 4  # the tokens of a seller that is a language model, folded once more with the turn


def read(action: Action) -> Action:
    """The canonical form: unknown kinds, prices outside [0, MAX_PRICE] are UNREADABLE; other kinds carry no price."""
    kind, price = action.kind, action.price
    priced = (kind == Kind.OFFER) | (kind == Kind.DEAL)
    known = (kind >= 0) & (kind < len(Kind)) & (~priced | ((price >= 0) & (price <= MAX_PRICE)))
    return action.replace(
        kind=jnp.where(known, kind, Kind.UNREADABLE).astype(jnp.int32),
        price=jnp.where(known & priced, price, NONE).astype(jnp.int32),
    )


def fault(action: Action, state: GameState) -> Array:
    """The format error that `action` (as `read` gives it) is for the player to move: int32 `End`, ONGOING if none.

    A DEAL must repeat the other side's standing offer within one cent; whether it is affordable is asked later.
    """
    standing = standing_offer(state)
    deal = jnp.where(
        standing == NONE,
        End.DEAL_WITHOUT_OFFER,
        jnp.where(jnp.abs(action.price - standing) > 1, End.DEAL_MISMATCH, End.ONGOING),
    )
    faults = {Kind.DEAL: deal, Kind.MISSING: End.MISSING, Kind.UNREADABLE: End.UNREADABLE, Kind.CUT: End.CUT}
    return jnp.select([action.kind == kind for kind in faults], list(faults.values()), End.ONGOING).astype(jnp.int32)


def margin_bp(scenario: Scenario) -> Array:
    """int32 basis points: the hidden margin above cost at which the replacement moves end."""
    u = jax.random.uniform(jax.random.fold_in(scenario.key, Stream.REPAIR))
    return uniform_bp(u, *MARGIN_BP)


def replacement(state: GameState, params: GameParams) -> Action:
    """The legal counter-offer: linear in time from the list price to the hidden margin, never above the last ask.

    It is above cost by at least a cent, so that it never tells the cost; this alone may lift it over a last ask that
    stood at cost. The buyer's offer stays standing.
    """
    scenario = state.scenario
    least = scenario.cost + 1
    floor = jnp.clip(scenario.cost + part_up(scenario.cost, margin_bp(scenario)), least, MAX_PRICE)
    conceded = concession.progress(state.turn, params.turns)
    price = concession.ask(jnp.maximum(scenario.price, floor), floor, conceded)
    last = last_offer(offers_made(state, SELLER), params.turns)
    price = jnp.maximum(jnp.where(last == NONE, price, jnp.minimum(price, last)), least)
    return Action(kind=jnp.int32(Kind.OFFER), price=price.astype(jnp.int32), acts=jnp.int32(0))


def regulate(action: Action, state: GameState, params: GameParams) -> tuple[Action, Array]:
    """Holds the seller to format and floor; a buyer's action passes through.

    A seller's move is illegal if it cannot be read, if it is a DEAL without a matching standing offer, or if it would
    sell (OFFER, or DEAL at the standing price) below cost. `params.regulation` says what follows: 'repair' replaces
    it, 'end' leaves it for `bargaining.step` to end the game on, 'none' lets it pass.

    Returns:
      the action to play, and whether regulation stepped in (bool; always False under 'none').

    Raises:
      ValueError: the mode is unknown.
    """
    if params.regulation not in MODES:
        raise ValueError(f"params.regulation={params.regulation!r} is unknown; use one of {', '.join(MODES)}")
    if params.regulation == "none":
        return action, jnp.zeros_like(state.player, bool)
    action = read(action)
    sale = jnp.where(action.kind == Kind.DEAL, state.offers[BUYER], action.price)
    sells = (action.kind == Kind.OFFER) | (action.kind == Kind.DEAL)
    illegal = (fault(action, state) != End.ONGOING) | (sells & (sale < state.scenario.cost))
    intervened = illegal & (state.player == SELLER)
    if params.regulation == "end":
        return action, intervened
    swap = replacement(state, params)
    return jax.tree.map(lambda new, old: jnp.where(intervened, new, old), swap, action), intervened

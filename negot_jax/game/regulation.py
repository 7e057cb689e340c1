"""The seller's floor and format, guaranteed whoever sells: illegal moves, and the legal move that replaces one."""

import jax
from jax import Array
import jax.numpy as jnp

from negot_jax.game import concession
from negot_jax.game.history import last_offer, offers_made, standing_offer
from negot_jax.game.money import part_up, uniform_bp
from negot_jax.game.types import BUYER, MAX_PRICE, NONE, SELLER, Action, End, GameParams, GameState, Kind, Stream

MODES = ("repair", "end", "none")
MARGIN_BP = (200, 2_500)  # The replacement's hidden margin above cost is uniform in this range.
_UNREAD = {Kind.MISSING: End.MISSING, Kind.UNREADABLE: End.UNREADABLE, Kind.CUT: End.CUT}


def read(action: Action) -> Action:
    """Canonicalizes: an unknown kind or a price outside [0, MAX_PRICE] is UNREADABLE; only OFFER and DEAL have one."""
    kind, price = action.kind, action.price
    priced = (kind == Kind.OFFER) | (kind == Kind.DEAL)
    known = (kind >= 0) & (kind < len(Kind)) & (~priced | ((price >= 0) & (price <= MAX_PRICE)))
    kind = jnp.where(known, kind, Kind.UNREADABLE).astype(jnp.int32)
    return action.replace(kind=kind, price=jnp.where(known & priced, price, NONE).astype(jnp.int32))


def fault(action: Action, state: GameState) -> Array:
    """The format error in `action`, as `read`, by the player to move: int32 `End`, ONGOING for none.

    A DEAL must repeat the other side's standing offer within one cent; `bargaining.step` checks affordability.
    """
    standing = standing_offer(state)
    mismatch = jnp.where(jnp.abs(action.price - standing) > 1, End.DEAL_MISMATCH, End.ONGOING)
    deal = jnp.where(standing == NONE, End.DEAL_WITHOUT_OFFER, mismatch)
    end = jnp.where(action.kind == Kind.DEAL, deal, End.ONGOING)
    for kind, error in _UNREAD.items():
        end = jnp.where(action.kind == kind, error, end)
    return end.astype(jnp.int32)


def margin_bp(key: Array) -> Array:
    """int32 basis points: the hidden margin above cost, by a scenario's key, to which replacement moves come down."""
    return uniform_bp(jax.random.uniform(jax.random.fold_in(key, Stream.REPAIR)), *MARGIN_BP)


def replacement(state: GameState, params: GameParams) -> Action:
    """A legal counter-offer: linear in time from the list price to the hidden margin, never above the last ask, except
    that it is at least a cent above cost, so as never to reveal it. The buyer's offer stays standing.
    """
    scenario = state.scenario
    least = scenario.cost + 1
    floor = jnp.clip(scenario.cost + part_up(scenario.cost, margin_bp(scenario.key)), least, MAX_PRICE)
    conceded = concession.progress(state.turn, params.turns)
    price = concession.ask(jnp.maximum(scenario.price, floor), floor, conceded)
    last = last_offer(offers_made(state, SELLER), params.turns)
    price = jnp.maximum(jnp.where(last == NONE, price, jnp.minimum(price, last)), least)
    return Action(kind=jnp.int32(Kind.OFFER), price=price.astype(jnp.int32), acts=jnp.int32(0))


def regulate(action: Action, state: GameState, params: GameParams) -> tuple[Action, Array]:
    """Holds the seller to format and floor; a buyer's action passes through.

    A seller's move is illegal if it cannot be read, if it is a DEAL without a matching standing offer, or if it would
    sell (OFFER, or DEAL at the standing price) below cost. `params.regulation` says what follows: 'repair' replaces
    it, 'end' leaves it to `bargaining.step`, which ends the game, 'none' lets it pass; another one is a ValueError.

    The action is as `read` gives it. Returns the one to play, and whether regulation stepped in (bool; always False
    under 'none').
    """
    if params.regulation not in MODES:
        raise ValueError(f"params.regulation={params.regulation!r} is unknown; use one of {', '.join(MODES)}")
    if params.regulation == "none":
        return action, jnp.zeros_like(state.player, bool)
    sale = jnp.where(action.kind == Kind.DEAL, state.offers[BUYER], action.price)
    sells = (action.kind == Kind.OFFER) | (action.kind == Kind.DEAL)
    illegal = (fault(action, state) != End.ONGOING) | (sells & (sale < state.scenario.cost))
    intervened = illegal & (state.player == SELLER)
    if params.regulation == "end":
        return action, intervened
    swap = replacement(state, params)
    return jax.tree.map(lambda new, old: jnp.where(intervened, new, old), swap, action), intervened

"""What every scripted seller is, and how it moves: a policy with a hidden type, both drawn from the scenario's key."""

import dataclasses
from typing import Any, ClassVar

import jax
from jax import Array
import jax.numpy as jnp
from numpy.typing import ArrayLike

from negot_jax.game import personas
from negot_jax.game.bargaining import observe
from negot_jax.game.history import last_offer, offers_made
from negot_jax.game.money import highest_floor, part_up, round_up
from negot_jax.game.personas import Persona
from negot_jax.game.types import (
    MAX_PRICE,
    NONE,
    SELLER,
    Action,
    GameParams,
    GameState,
    Kind,
    Observation,
    Scenario,
    Stream,
)


@dataclasses.dataclass(frozen=True)
class Seller:
    """A scripted seller: subclass it as a frozen dataclass of numbers and write `act`; the rest has defaults.

    Instances are hashable and static under jit. Subclass fields can be set in a spec, such as `neutral(tick=100)`.
    persona: how it speaks; no part of its policy.
    monotone: class attribute, whether it has no noise and, in every turn, its ask and the least offer it takes do not
    fall as its cost rises. The best response is then exact: see `solvers.best_response`.
    hears: class attribute, whether the arguments in the buyer's talk change what it does.
    """

    persona: Persona = dataclasses.field(default=personas.NEUTRAL, kw_only=True, repr=False, compare=False)
    monotone: ClassVar[bool] = False
    hears: ClassVar[bool] = False

    def draw_type(self, key: Array, scenario: Scenario) -> Any:
        """Draws the hidden type once per episode: any pytree of arrays, by default an empty one."""
        del key, scenario
        return ()

    def act(self, key: Array, hidden: Any, obs: Observation, turns: int) -> Action:
        """Answers the buyer's last message. `key`: this turn's noise. `turns`: the turn limit."""
        raise NotImplementedError

    def highest_price(self, prices: ArrayLike, costs: ArrayLike) -> int:
        """The most it may say, cents, over products of these list prices and costs; it sizes the messages."""
        return highest_floor(prices, costs, 0.0)

    def describe(self, hidden: Any) -> dict[str, str]:
        """What a transcript shows of a drawn hidden type, by name; by default every leaf under its path."""
        leaves = jax.tree_util.tree_leaves_with_path(hidden)
        return {jax.tree_util.keystr(path, simple=True, separator=".") or "type": str(leaf) for path, leaf in leaves}


def hidden_type(seller: Seller, scenario: Scenario) -> Any:
    """The type that `seller` has in `scenario`."""
    return seller.draw_type(jax.random.fold_in(scenario.key, Stream.TYPE), scenario)


def respond(seller: Seller, state: GameState, params: GameParams) -> Action:
    """The seller's move in `state`; its type and noise come from the scenario's key."""
    noise = jax.random.fold_in(jax.random.fold_in(state.scenario.key, Stream.NOISE), state.turn)
    return seller.act(noise, hidden_type(seller, state.scenario), observe(state, SELLER), params.turns)


def action(kind: Array | Kind, price: Array) -> Action:
    return Action(kind=jnp.asarray(kind, jnp.int32), price=price.astype(jnp.int32), acts=jnp.int32(0))


def deal_or(accepts: Array, offer: Array, ask: Array) -> Action:
    """DEAL at the buyer's standing offer if `accepts`, else OFFER at `ask`."""
    return action(jnp.where(accepts, Kind.DEAL, Kind.OFFER), jnp.where(accepts, offer, ask))


def least(cost: Array, margin_bp: Array) -> Array:
    """ceil(cost (1 + margin)), int32 cents: the least a seller takes."""
    return jnp.minimum(cost + part_up(cost, margin_bp), MAX_PRICE)


def quote(ask: Array, floor: Array, obs: Observation, tick: int) -> Array:
    """The ask as said: within [floor, own last ask (at first the list price)], rounded up to a tick if that fits."""
    last = last_offer(offers_made(obs, SELLER), obs.turn)
    cap = jnp.maximum(jnp.where(last == NONE, obs.price, last), floor)
    return jnp.minimum(round_up(jnp.clip(ask, floor, cap), tick), cap)

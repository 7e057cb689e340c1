"""Scripted sellers; none needs regulation. To add one, subclass `Seller` and add an instance to `SELLERS`."""

import dataclasses
from typing import Any

from jax import Array
import jax.numpy as jnp
from numpy.typing import ArrayLike

from negot_jax.game import concession, personas, specs
from negot_jax.game.money import basis_points, dollars, highest_floor
from negot_jax.game.persuasion import Persuadable
from negot_jax.game.seller import Seller, Stochastic, deal_or, hidden_type, least, quote, respond  # noqa: F401
from negot_jax.game.types import BUYER, NONE, Action, Observation, Scenario


@dataclasses.dataclass(frozen=True)
class Floor(Seller):
    """The myopic seller: takes any standing offer of at least ceil(C (1 + margin)), else asks the list price."""

    margin: float = 0.0
    monotone = True

    def __post_init__(self):
        specs.require(self, "margin", 0 <= self.margin <= 1, "in [0, 1]")

    def highest_price(self, prices: ArrayLike, costs: ArrayLike) -> int:
        return highest_floor(prices, costs, self.margin)

    def describe(self, hidden: Array) -> dict[str, str]:
        return {"floor": dollars(hidden)}

    def draw_type(self, key: Array, scenario: Scenario) -> Array:
        del key  # The floor is the only secret.
        return least(scenario.cost, basis_points(self.margin))

    def act(self, key: Array, hidden: Array, obs: Observation, turns: int) -> Action:
        del key, turns
        offer = obs.offers[BUYER]
        return deal_or((offer != NONE) & (offer >= hidden), offer, jnp.maximum(obs.price, hidden))


@dataclasses.dataclass(frozen=True)
class TimeDependent(Seller):
    """Faratin's time-dependent concession from the list price to a floor, without noise.

    In turn t = 0 .. T - 1:  ask_t = F + (1 - alpha_t) (P0 - F),  alpha_t = K + (1 - K) (t / (T - 1))^(1 / beta),
    with F = ceil(C (1 + margin)). It takes a standing offer of at least ask_t. `tick`, in cents, rounds asks up.
    """

    beta: float
    k: float = 0.0
    margin: float = 0.0
    tick: int = 1
    monotone = True

    def __post_init__(self):
        specs.require(self, "beta", self.beta > 0, "above 0")
        specs.require(self, "k", 0 <= self.k <= 1, "in [0, 1]")
        specs.require(self, "margin", 0 <= self.margin <= 1, "in [0, 1]")
        specs.require_tick(self)

    highest_price, describe, draw_type = Floor.highest_price, Floor.describe, Floor.draw_type

    def act(self, key: Array, hidden: Array, obs: Observation, turns: int) -> Action:
        del key
        alpha = concession.alpha(concession.progress(obs.turn, turns), self.beta, self.k)
        ask = quote(concession.ask(jnp.maximum(obs.price, hidden), hidden, alpha), hidden, obs, self.tick)
        offer = obs.offers[BUYER]
        return deal_or((offer != NONE) & (offer >= ask), offer, ask)


SELLERS: dict[str, Seller] = {
    "floor": Floor(),
    "boulware": TimeDependent(beta=0.2),
    "linear": TimeDependent(beta=1.0),
    "conceder": TimeDependent(beta=5.0),
    "neutral": Stochastic(),
    # The personas of arXiv 2604.09855, table 3, as far as prices can express them; the numbers are ours.
    "begging": Stochastic((0.01, 0.1), (1.5, 5.0), (0.3, 0.8), insult=0.2, walk=0.05, persona=personas.BEGGING),
    "insulting": Stochastic((0.05, 0.3), (0.3, 0.8), (0.0, 0.2), insult=0.5, walk=0.6, persona=personas.INSULTING),
    "unyielding": Stochastic(
        (0.1, 0.3), (0.1, 0.25), (0.0, 0.05), k=0.0, noise=0.01, walk=0.1, persona=personas.UNYIELDING
    ),
    # Words move these; the last is the control, which speaks and hears like them and is moved by nothing.
    "persuadable": Persuadable(persona=personas.PERSUADABLE),
    "receptive": Persuadable(weights=(0.7, 0.5, 0.1, 0.0), candor=1.0, bluff=0.1, persona=personas.PERSUADABLE),
    "skeptical": Persuadable(weights=(0.45, 0.25, 0.0, -0.2), candor=0.4, fade=0.2, persona=personas.PERSUADABLE),
    "unmoved": Persuadable(
        weights=(0.0, 0.0, 0.0, 0.0), candor=0.0, offense=0.0, bluff=0.0, calm=1.0, persona=personas.PERSUADABLE
    ),
}


def make(spec: str, **overrides: Any) -> Seller:
    """A seller of `SELLERS` by spec: `make("neutral(tick=100)")` or `make("neutral", tick=100)`. See `specs.make`."""
    return specs.make(SELLERS, spec, **overrides)

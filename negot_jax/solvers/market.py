"""The prior: equally likely products that share one list price and budget.

Before the first message the buyer knows its list price P0 and budget B. `catalog.normalize` scales a catalog to one
P0, so the prior is the distribution of cost / P0, whatever P0 is.
"""

import dataclasses

from jax import Array
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from negot_jax.game import buyers
from negot_jax.game.history import offers_made
from negot_jax.game.types import BUYER, NONE, SELLER, Action, Kind, Observation, Products

MAX_LIST_PRICE = 46_340  # Its square is the largest that int32 holds.


@dataclasses.dataclass(frozen=True)
class Unit:
    """The list price and budget of a market, cents. Its prices scale with the list price of the game being played."""

    price: int
    budget: int

    def __post_init__(self):
        if not 0 < self.budget <= self.price <= MAX_LIST_PRICE:
            raise ValueError(
                f"a market of list price {self.price} and budget {self.budget} cents cannot be solved: it needs "
                f"0 < budget <= list price <= {MAX_LIST_PRICE}; normalize the catalog first"
            )

    def propose(self, price: Array, obs: Observation) -> Action:
        """OFFER of a price of the market, or DEAL at a standing ask that is no higher.

        The price is spoken at the scale of the list price in `obs`: rounded up, and within the budget.
        """
        return buyers.propose(jnp.minimum(self._spoken(price, obs), obs.private), obs)

    def propose_or_wait(self, price: Array, obs: Observation) -> Action:
        """As `propose`; at a price of 0 it makes no offer, since a seller may walk away from one of nothing."""
        action, silent = self.propose(price, obs), price == 0
        return action.replace(
            kind=jnp.where(silent, Kind.REJECT, action.kind), price=jnp.where(silent, NONE, action.price)
        )

    def _spoken(self, price: Array, obs: Observation) -> Array:
        """A price of the market at the scale of the list price in `obs`, rounded up."""
        whole, rest = obs.price // self.price, obs.price % self.price
        return whole * price - -(rest * price) // self.price

    def heard(self, price: Array, obs: Observation) -> Array:
        """int32 cents: the largest price of the market that is spoken as `price` or less."""
        whole, rest = price // obs.price, price % obs.price
        # In float, since the product of two prices overflows int32: at most one too high.
        part = jnp.floor(rest / obs.price.astype(jnp.float32) * self.price + 1e-2)
        found = whole * self.price + part.astype(jnp.int32)
        return found - (self._spoken(found, obs) > price)

    def recall(self, obs: Observation) -> tuple[Array, Array]:
        """The buyer's offers and the seller's asks by turn, int32[T] each, in prices of the market.

        An offer maps to the largest price that is spoken as it or less, an ask to the smallest that is spoken as it.
        """
        own_T, asks_T = offers_made(obs, BUYER), offers_made(obs, SELLER)
        heard_T, heard_asks_T = self.heard(own_T, obs), self.heard(asks_T - 1, obs) + 1
        return jnp.where(own_T == NONE, NONE, heard_T), jnp.where(asks_T == NONE, NONE, heard_asks_T)


def make(price: int, budget: int, costs: ArrayLike) -> Products:
    """A market with these costs, int[N]; all in cents."""
    cost = np.asarray(costs)
    columns = (np.full_like(cost, price), np.full_like(cost, budget), cost, np.maximum(abs(budget - cost), 1))
    return Products(*(jnp.asarray(column, jnp.int32) for column in columns))


def uniform(low: float, high: float, value: float, count: int = 1_000) -> Products:
    """`count` costs spread evenly over [low, high] of the list price, $100.00; the budget is `value` of it."""
    return make(10_000, round(10_000 * value), np.ceil(10_000 * midpoints(low, high, count)).astype(int))


def midpoints(low: float, high: float, count: int) -> np.ndarray:
    """The middles of `count` equal parts of [low, high]."""
    return low + (high - low) * (np.arange(count) + 0.5) / count


def unit(products: Products) -> Unit:
    """The list price and budget that all products share.

    Raises:
      ValueError: products differ in one of them.
    """
    shared = {}
    for name in ("price", "budget"):
        values = np.unique(np.asarray(getattr(products, name)))
        if values.size != 1:
            raise ValueError(
                f"products.{name} has {values.size} values from {values[0]} to {values[-1]}, but a market has one. "
                "Normalize the catalog; one whose budgets are no fixed share of the list price has no best response."
            )
        shared[name] = int(values[0])
    return Unit(**shared)


def price_grid(unit: Unit, step: int) -> np.ndarray:
    """int32[K] cents: the multiples of `step` up to the budget, and the budget.

    Raises:
      ValueError: `step` is less than a cent or more than the budget.
    """
    if not 1 <= step <= unit.budget:
        raise ValueError(f"step={step} cents: a price grid needs a step from 1 cent to the budget, {unit.budget}")
    return np.union1d(np.arange(0, unit.budget + 1, step), unit.budget).astype(np.int32)

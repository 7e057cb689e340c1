"""A buyer's belief about a stochastic seller: a grid over its hidden type, updated by Bayes' rule.

A type is a cell of floors (F), a beta and a reciprocity (w); see `sellers.Stochastic` for the equations. The cost
matters only to the buyer's utility and, given the floor, no ask reveals more about it, so it is averaged out up front.
Floors above the budget are left out: they allow no deal, so they change no decision.

Prices are cents, in float32. K floors, R = (beta, w) pairs, J prices: the multiples of `step`, 0 meaning no offer.
"""

from flax import struct
import jax
from jax import Array
import jax.numpy as jnp
from jax.scipy.stats import norm
import numpy as np

from negot_jax.game import concession
from negot_jax.game.money import BP
from negot_jax.game.sellers import Stochastic
from negot_jax.game.types import Products
from negot_jax.solvers import market
from negot_jax.solvers.problem import Problem

LEAST = 1e-6  # Lower bound of an ask's probability: rounding at other list prices must not refute every type at once.


@struct.dataclass
class Types:
    """The types, their prior, the worth of a deal with each, and the rules that they share.

    top_K: the cell's largest floor; its smallest is above the top of the cell before. floor_K: its middle.
    conceded_TxR: alpha_t. reciprocity_R: w. prior_K: the probability of the cell; R are equally likely.
    worth_JxK: the mean utility of a deal at price J given the cell. spread: the noise's standard deviation.
    unit: the list price and budget. tick: asks are read to it; the seller's, or the grid's if that is wider.
    walk, insult: see `sellers.Stochastic`. discount: per completed round.
    """

    top_K: Array
    floor_K: Array
    conceded_TxR: Array
    reciprocity_R: Array
    prior_K: Array
    prices_J: Array
    worth_JxK: Array
    spread: Array
    unit: market.Unit = struct.field(pytree_node=False)
    tick: int = struct.field(pytree_node=False)
    turns: int = struct.field(pytree_node=False)
    walk: float = struct.field(pytree_node=False)
    insult: float = struct.field(pytree_node=False)
    discount: float = struct.field(pytree_node=False)

    @property
    def price(self) -> int:
        return self.unit.price

    def covered(self, worth: Array) -> Array:
        """float32[J, K]: `worth` (it broadcasts) where price J covers every floor of the cell, else 0."""
        return jnp.where(self.top_K <= self.prices_J[:, None], worth, 0)


@struct.dataclass
class History:
    """What the buyer knows before an offer. belief: float32[K, R].

    cap: the last ask, or the list price, cents. last: the buyer's last offer, cents, 0 if there is none.
    """

    belief: Array
    cap: Array
    last: Array


def price_grid(seller: Stochastic, products: Products, step: int) -> np.ndarray:
    """The grid of prices, int32[J] cents.

    Raises:
      ValueError: products differ in list price or budget, the step does not fit, or no floor is within the budget.
    """
    unit = market.unit(products)
    prices = market.price_grid(unit, step)
    if unit.budget % step or (seller.tick > step and seller.tick % step):
        raise ValueError(
            f"{seller}: the grid of {step} cents must divide the budget ({unit.budget}), and the seller's tick "
            f"({seller.tick}) if that is wider. Use another grid, or a tick of at most {step} cents or a multiple."
        )
    if not _floor_at_most(seller, np.asarray(products.cost, np.int64), prices[-1:]).any():
        raise ValueError(f"{seller} never sells within the budget of {unit.budget} cents, so every buyer earns 0")
    return prices


def make_types(problem: Problem, step: int, betas: int = 6, reciprocities: int = 3) -> Types:
    """The grid of types: every cell of `step` cents of floors, and equally likely betas and reciprocities.

    Raises:
      ValueError: see `price_grid`.
    """
    seller, products, turns, unit = problem.seller, problem.products, problem.turns, problem.unit
    prices = price_grid(seller, products, step)
    at_most_NxJ = _floor_at_most(seller, np.asarray(products.cost, np.int64), prices)
    cells_NxK = np.diff(at_most_NxJ, axis=1)
    cells_NxK[:, 0] += at_most_NxJ[:, 0]
    prior_K = cells_NxK.mean(axis=0)
    worth_JxK = np.asarray(problem.utility(jnp.asarray(prices), products)) @ cells_NxK / len(cells_NxK)

    beta = np.exp(market.midpoints(*np.log(seller.beta), betas))
    reciprocity = market.midpoints(*seller.reciprocity, reciprocities)
    progress_T = concession.progress(jnp.arange(turns), turns)
    conceded = jax.vmap(lambda beta: concession.alpha(progress_T, beta, seller.k), out_axes=1)(jnp.asarray(beta))
    return Types(
        top_K=jnp.float32(prices[1:]),
        floor_K=jnp.float32(prices[1:] - step / 2),
        conceded_TxR=jnp.repeat(conceded, reciprocities, axis=1),
        reciprocity_R=jnp.tile(jnp.float32(reciprocity), betas),
        prior_K=jnp.float32(prior_K),
        prices_J=jnp.float32(prices),
        worth_JxK=jnp.float32(worth_JxK / np.maximum(prior_K, 1e-12)),
        # Zero spread would give 0 / 0; half a basis point is below the noise's own rounding.
        spread=jnp.float32(max(seller.noise, 0.5 / BP) * unit.price),
        unit=unit,
        tick=max(seller.tick, step),
        turns=turns,
        walk=seller.walk,
        insult=seller.insult,
        discount=problem.discount,
    )


def _floor_at_most(seller: Stochastic, cost_N: np.ndarray, prices_J: np.ndarray) -> np.ndarray:
    """P(F <= price) of each product, float64[N, J], exact: F = max(ceil(C (1 + m)), C + 1), m in whole basis points."""
    low, high = (round(share * BP) for share in seller.margin)
    above = prices_J - cost_N[:, None]
    margins = above * BP // np.maximum(cost_N, 1)[:, None] - low + 1
    return np.where(above >= 1, np.clip(margins / (high - low + 1), 0, 1), 0)


def prior(types: Types) -> Array:
    """float32[K, R]: the belief before the first message, given that the floor is within the budget."""
    belief = jnp.broadcast_to(types.prior_K[:, None], (types.prior_K.size, types.reciprocity_R.size))
    return belief / jnp.sum(belief)


def start(types: Types) -> History:
    return History(belief=prior(types), cap=jnp.float32(types.price), last=jnp.float32(0))


def raised(history: History, offer: Array) -> Array:
    """The raise that the seller answers: 0 if there is no offer (0) now or before."""
    last = history.last
    return jnp.where((offer > 0) & (last > 0), jnp.maximum(offer - last, 0), 0)


def target(types: Types, turn: Array, raise_: Array) -> Array:
    """float32[K, R]: the ask before noise and bounds."""
    floor_Kx1 = types.floor_K[:, None]
    return floor_Kx1 + (1 - types.conceded_TxR[turn]) * (types.price - floor_Kx1) - types.reciprocity_R * raise_


def asks_more(types: Types, turn: Array, history: History, offer: Array, price: Array) -> Array:
    """P(the ask that answers `offer` exceeds `price` | type), float32[K, R], for a price on the tick."""
    above = norm.cdf((target(types, turn, raised(history, offer)) - price) / types.spread)
    lowest_Kx1 = jnp.concatenate([jnp.zeros(1), types.top_K[:-1]])[:, None]
    return jnp.where(price >= history.cap, 0.0, jnp.where(lowest_Kx1 >= price, 1.0, above))


def refuses(types: Types, turn: Array, history: History, offer: Array) -> Array:
    """P(the seller does not take `offer` | type), float32[K, R]."""
    more = asks_more(types, turn, history, offer, offer // types.tick * types.tick)
    return jnp.where(turn == types.turns - 1, types.top_K[:, None] > offer, more)


def stays(types: Types, offer: Array) -> Array:
    """P(the seller does not walk away from an offer that it refuses); an offer of 0 is none."""
    walk = types.walk * jnp.maximum(1 - offer / (types.insult * types.price), 0)
    return jnp.where(offer > 0, 1 - walk, 1.0)


def hear(types: Types, turn: Array, history: History, offer: Array, ask: Array) -> History:
    """The history after `offer` was refused and `ask` was heard. Asks are rounded up to the tick."""
    read = jnp.ceil(ask / types.tick) * types.tick
    at_least = asks_more(types, turn, history, offer, read - types.tick)
    belief = history.belief * (at_least - asks_more(types, turn, history, offer, read) + LEAST)
    return History(belief=belief / jnp.sum(belief), cap=ask, last=jnp.where(offer > 0, offer, history.last))

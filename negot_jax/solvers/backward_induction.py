"""The exact optimum against a monotone seller (such as Floor, TimeDependent), by backward induction.

Such a seller takes an offer of at least a threshold and otherwise asks a price; both depend only on the turn and its
floor, and do not fall as the floor rises. So whatever the buyer has heard, the floors still possible are contiguous: a
refused offer removes the lowest, and an ask separates floors that ask differently. With products sorted by floor, the
lowest product still possible says everything (the highest is the last one that has asked the same so far), and the
belief is exactly one index.

In turn t, with i the lowest product still possible, j = n(p) the first whose threshold is above the offer p, and sums
over products in place of means:

    V_t(i) = max_p  sum_{i <= l < j} u(p, l)  +  discount * (the sum of V_{t+1} over what the ask may leave, from j up)

Accepting the standing ask needs no move of its own: no later threshold exceeds it, so offering it is the same.
"""

import dataclasses
import functools

import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from negot_jax.game import sellers
from negot_jax.game.bargaining import reset_to, scenario
from negot_jax.game.types import BUYER, SELLER, Action, GameParams, Kind, Observation, Products
from negot_jax.solvers import market
from negot_jax.solvers.problem import Problem
from negot_jax.solvers.utilities import of_each


@functools.partial(jax.jit, static_argnames=("seller", "turns"))
def replies(seller: sellers.Seller, products: Products, turns: int) -> tuple[Array, Array]:
    """How the seller of each product responds, by querying it: thresholds and asks, int32[T, N] cents.

    The threshold is the least offer it takes in that turn, found by bisection, or one cent above the budget if it takes
    none within it. The ask is what it says to a buyer who has offered nothing.
    """
    params = GameParams(products, turns)

    def of_product(row: Array) -> tuple[Array, Array]:
        _, state = reset_to(scenario(products, row, jax.random.key(0)), params)
        state = state.replace(player=jnp.int32(SELLER))
        budget = state.scenario.budget

        def turn(state, now):
            state = state.replace(turn=now)

            def halve(_, bounds):
                low, high = bounds  # Refused, and taken or out of reach.
                middle = (low + high) // 2
                offered = state.replace(
                    offers=state.offers.at[BUYER].set(middle),
                    kinds=state.kinds.at[now, BUYER].set(Kind.OFFER),
                    prices=state.prices.at[now, BUYER].set(middle),
                )
                taken = sellers.respond(seller, offered, params).kind == Kind.DEAL
                return jnp.where(taken, low, middle), jnp.where(taken, middle, high)

            _, threshold = jax.lax.fori_loop(0, market.MAX_LIST_PRICE.bit_length(), halve, (jnp.int32(-1), budget + 1))
            ask = sellers.respond(seller, state, params).price
            said = state.replace(
                kinds=state.kinds.at[now, SELLER].set(Kind.OFFER), prices=state.prices.at[now, SELLER].set(ask)
            )
            return said, (threshold, ask)

        return jax.lax.scan(turn, state, jnp.arange(turns))[1]

    return jax.vmap(of_product, out_axes=1)(jnp.arange(products.price.shape[0]))


@dataclasses.dataclass(frozen=True, eq=False)
class BestResponse:
    """A buyer that looks its offer up by the lowest product that the history leaves possible.

    Hashed by identity, so that it can be static under jit. Prices are in `unit`.
    thresholds, asks: int32[T, N], products in order. offers: int32[T, N + 1], by the lowest product; the last column is
    for a floor above all of them.
    """

    unit: market.Unit
    thresholds: np.ndarray
    asks: np.ndarray
    offers: np.ndarray

    def act(self, key: Array, obs: Observation, turns: int) -> Action:
        del key
        if turns != self.offers.shape[0]:
            raise ValueError(f"a best response to {self.offers.shape[0]} turns cannot play {turns}: solve for {turns}")
        price = jnp.asarray(self.offers)[obs.turn, self.lowest(obs)]
        return self.unit.propose(price, obs)

    def lowest(self, obs: Observation) -> Array:
        """int32 in 0 .. N: the first product that no refused offer and no ask has ruled out."""
        own_T, asks_T = self.unit.recall(obs)
        refused_T = jax.vmap(functools.partial(jnp.searchsorted, side="right"))(jnp.asarray(self.thresholds), own_T)
        asked_T = jax.vmap(jnp.searchsorted)(jnp.asarray(self.asks), asks_T)
        return jnp.max(jnp.maximum(refused_T, asked_T)).astype(jnp.int32)

    def ladder(self) -> np.ndarray | None:
        """int[T] cents: the offers if each is refused; None if they depend on the asks."""
        if (self.asks != self.asks[:, :1]).any():
            return None
        lowest, offers = 0, []
        for thresholds, by_lowest in zip(self.thresholds, self.offers, strict=True):
            offers.append(by_lowest[lowest])
            lowest = max(lowest, np.searchsorted(thresholds, offers[-1], side="right"))
        return np.array(offers)


def solve(problem: Problem, *, step: int = 1) -> tuple[float, float, BestResponse]:
    """The optimum of the buyer who knows P0, B, the other products and the history, and of the clairvoyant.

    Exact for offers on the grid, up to float32; step=1 covers every whole cent.

    Args:
      problem: its seller is `monotone`, its products have one list price and budget.
      step: of the grid of offers, cents. The grid also holds the seller's asks.
    Returns:
      The mean utility over products; that of a buyer who knows the cost; and the buyer that earns the former.
    Raises:
      ValueError: products differ in list price or budget, or the step does not fit.
    """
    seller, products, turns, unit = problem.seller, problem.products, problem.turns, problem.unit
    thresholds, asks = (np.asarray(reply) for reply in replies(seller, products, turns))
    # Products for which no offer is ever taken earn every buyer 0, so they change no decision.
    order = np.argsort((thresholds + asks).sum(axis=0))  # All of them rise together.
    sells = thresholds.min(axis=0)[order] <= unit.budget
    order = order[sells] if sells.any() else order
    thresholds, asks = thresholds[:, order], asks[:, order]
    assert (np.diff(thresholds) >= 0).all() and (np.diff(asks) >= 0).all(), f"{seller} is not monotone"

    prices = np.union1d(market.price_grid(unit, step), asks[asks <= unit.budget]).astype(np.int32)
    sold = jax.tree.map(lambda column: column[order], products)
    payoff_KxN = problem.utility(jnp.asarray(prices), sold)
    counts = np.stack([np.searchsorted(row, prices, side="right") for row in thresholds])
    value, best = _induct(payoff_KxN, jnp.asarray(counts), jnp.asarray(_ends(asks)), problem.discount)

    at_cost = np.where(thresholds <= unit.budget, of_each(problem.utility, thresholds.T, sold).T, 0)
    clairvoyant = (problem.discount ** np.arange(turns)[:, None] * at_cost).max(axis=0)
    buyer = BestResponse(unit, thresholds, asks, np.c_[prices[np.asarray(best)], np.full(turns, unit.budget)])
    everyone = len(products.price)
    return float(value) / everyone, float(clairvoyant.sum()) / everyone, buyer


def _ends(asks: np.ndarray) -> np.ndarray:
    """int[T + 1, N]: the last product with the same asks as this one in all turns before."""
    turns, count = asks.shape
    differs = np.zeros((turns + 1, count), bool)
    differs[:, -1] = True
    differs[1:, :-1] = np.logical_or.accumulate(asks[:, 1:] != asks[:, :-1], axis=0)
    indices = np.where(differs, np.arange(count), count)
    return np.minimum.accumulate(indices[:, ::-1], axis=1)[:, ::-1]


@jax.jit
def _induct(payoff_KxN: Array, counts_TxK: Array, ends: Array, discount: float) -> tuple[Array, Array]:
    """V_0(0), summed over products, and the index of the best price by turn and lowest product, int32[T, N].

    counts: how many products take a price. ends: see `_ends`.
    """
    size = payoff_KxN.shape[1]
    sums_KxM = jnp.pad(jnp.cumsum(payoff_KxN, axis=1), ((0, 0), (1, 0)))
    lowest = jnp.arange(size)

    def turn(future_M: Array, known: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        count_K, end_N, next_end_N = known
        # The value of continuing with products m .. end: the ask splits them, and its lowest identifies each part.
        starts = jnp.diff(next_end_N, prepend=-1) > 0
        parts_M = jnp.pad(jnp.cumsum(jnp.where(starts, future_M[:-1], 0)[::-1])[::-1], (0, 1))
        stay_M = future_M.at[:-1].add(parts_M[next_end_N + 1] - parts_M[end_N + 1])
        left_NxK = jnp.clip(count_K, lowest[:, None], end_N[:, None] + 1)
        gained_NxK = jnp.take_along_axis(sums_KxM, left_NxK.T, axis=1).T - sums_KxM[:, :-1].T
        value_NxK = gained_NxK + discount * jnp.where(left_NxK <= end_N[:, None], stay_M[left_NxK], 0)
        return jnp.pad(jnp.max(value_NxK, axis=1), (0, 1)), jnp.argmax(value_NxK, axis=1)

    known = (counts_TxK, ends[:-1], ends[1:])
    value_M, best_TxN = jax.lax.scan(turn, jnp.zeros(size + 1), known, reverse=True)
    return value_M[0], best_TxN

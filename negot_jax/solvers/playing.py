"""What a buyer earns when it is played in the game, and the best ladder of offers, found by playing."""

import functools

from flax import struct
import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from negot_jax.game.bargaining import scenario
from negot_jax.game.play import Buyer, episode
from negot_jax.game.sellers import Seller
from negot_jax.game.types import Action, End, GameParams, GameState, Observation, Products
from negot_jax.solvers import market
from negot_jax.solvers.utilities import Utility


@struct.dataclass
class Ladder:
    """A buyer that makes the same offers whatever it is asked: int32[T] prices of a market."""

    offers: Array
    unit: market.Unit = struct.field(pytree_node=False)

    def act(self, key: Array, obs: Observation, turns: int) -> Action:
        del key, turns
        return self.unit.propose(self.offers[obs.turn], obs)


def _utility_of(state: GameState, utility: Utility, discount: float) -> Array:
    """The discounted utility of a finished episode."""
    scenario = state.scenario
    product = Products(scenario.price, scenario.budget, scenario.cost, scenario.scale)
    worth = utility(state.deal_price[None], product)[0, 0] * discount ** state.turn.astype(jnp.float32)
    return jnp.where(state.end == End.DEAL, worth, 0.0)


def _play(
    key: Array, buyer: Buyer, seller: Seller, params: GameParams, utility: Utility, discount, draws: int
) -> Array:
    """Utilities [draws, N]: every product `draws` times. The scenarios depend on the key and on `draws` alone."""
    rows = jnp.tile(jnp.arange(params.products.price.shape[0]), draws)
    key_buyer, key_seller = jax.random.split(key)
    scenarios = jax.vmap(scenario, (None, 0, 0))(params.products, rows, jax.random.split(key_seller, rows.size))
    states = jax.vmap(lambda scenario: episode(key_buyer, buyer, seller, scenario, params))(scenarios)
    worth = jax.vmap(lambda state: _utility_of(state, utility, discount))(states)
    return worth.reshape(draws, -1)


_play_static = jax.jit(_play, static_argnums=(1, 2, 4, 6))
_play_data = jax.jit(_play, static_argnums=(2, 4, 6))


def mean_utility(
    key: Array,
    buyer: Buyer,
    seller: Seller,
    params: GameParams,
    utility: Utility,
    *,
    discount: float = 1.0,
    draws: int = 4,
) -> tuple[float, float]:
    """The mean utility over `draws` episodes of every product, and its standard error for these products.

    Deals alone count, so the buyer must not overshoot.
    """
    play = _play_data if isinstance(buyer, Ladder) else _play_static
    worth_DxN = np.asarray(play(key, buyer, seller, params, utility, discount, draws), np.float64)
    error = np.sqrt(worth_DxN.var(axis=0, ddof=1).mean() / worth_DxN.size) if draws > 1 else np.nan
    return float(worth_DxN.mean()), float(error)


@functools.partial(jax.jit, static_argnames=("seller", "unit", "utility", "draws"))
def _ladder_utilities(
    key: Array,
    offers_SxT: Array,
    seller: Seller,
    unit: market.Unit,
    params: GameParams,
    utility: Utility,
    discount,
    draws,
) -> Array:
    """The mean utility of each ladder, float32[S], all on the same episodes."""

    def mean(offers_T: Array) -> Array:
        return jnp.mean(_play(key, Ladder(offers_T, unit), seller, params, utility, discount, draws))

    return jax.lax.map(mean, offers_SxT, batch_size=8)


def tune_ladder(
    key: Array,
    seller: Seller,
    params: GameParams,
    utility: Utility,
    *,
    discount: float = 1.0,
    draws: int = 2,
    step: int = 100,
) -> Ladder:
    """The best buyer that does not read asks, by coordinate ascent on the game: one offer at a time, from the last.

    The products are of one list price and budget. It begins with offers that rise evenly from half the budget, tries
    every fourth price of the grid for each until none gains, then every neighbour up to four steps away likewise.
    """
    unit = market.unit(params.products)
    offers = np.linspace(unit.budget / 2, unit.budget, params.turns).astype(np.int32) // step * step
    every, near = np.arange(0, unit.budget + 1, 4 * step), np.arange(-4, 5) * step
    best = -np.inf
    for candidates in (lambda offer: every, lambda offer: np.clip(offer + near, 0, unit.budget)):
        gained = True
        while gained:
            gained = False
            for turn in reversed(range(params.turns)):
                prices = candidates(offers[turn])
                tried = np.tile(offers, (prices.size, 1))
                tried[:, turn] = prices
                means = np.asarray(
                    _ladder_utilities(key, jnp.asarray(tried), seller, unit, params, utility, discount, draws)
                )
                if means.max() > best + 1e-6:
                    best, offers, gained = means.max(), tried[means.argmax()], True
    return Ladder(jnp.asarray(offers), unit)

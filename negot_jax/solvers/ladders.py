"""What a buyer earns when played, and the best ladders of offers, found by playing."""

from collections.abc import Callable, Sequence
import functools

from flax import struct
import jax
from jax import Array
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from negot_jax.game import bargaining, play
from negot_jax.game.buyers import Buyer
from negot_jax.game.sellers import Seller
from negot_jax.game.types import NONE, SELLER, Action, End, GameParams, GameState, Kind, Observation
from negot_jax.solvers import market
from negot_jax.solvers.problem import Problem
from negot_jax.solvers.utilities import of_each


@struct.dataclass
class Ladders:
    """A buyer that follows a ladder of offers, which the first ask selects; it reads no other ask.

    offers: int32[C, T], prices in `unit`, 0 for a turn without an offer; the first one, made before any ask, is the
    same in all ladders.
    cuts: int32[C - 1], prices in `unit`, rising: ladder c is for first asks in [cuts[c - 1], cuts[c]).
    """

    offers: Array
    cuts: Array
    unit: market.Unit = struct.field(pytree_node=False)

    def act(self, key: Array, obs: Observation, turns: int) -> Action:
        del key, turns
        ask = self.unit.heard(obs.prices[0, SELLER], obs)
        chosen = jnp.sum((self.cuts <= ask) & (obs.turn > 0))
        return self.unit.propose_or_wait(self.offers[chosen, obs.turn], obs)


def single(offers_T: ArrayLike, unit: market.Unit) -> Ladders:
    """A buyer that reads no asks: one ladder, int32[T], prices in `unit`."""
    return Ladders(jnp.asarray(offers_T, jnp.int32)[None], jnp.zeros(0, jnp.int32), unit)


def episodes(key: Array, buyer: Buyer, seller: Seller, params: GameParams, draws: int) -> GameState:
    """Final states [draws * N]: every product `draws` times. The scenarios depend only on the key and `draws`."""
    rows = jnp.tile(jnp.arange(params.products.price.shape[0]), draws)
    key_buyer, key_seller = jax.random.split(key)
    scenarios = bargaining.scenarios(params.products, rows, key_seller)
    return play.episodes(jax.random.split(key_buyer, rows.size), buyer, seller, scenarios, params)


def utilities(key: Array, buyer: Buyer, problem: Problem, draws: int) -> Array:
    """The discounted utilities [draws, N] of the buyer in `episodes`."""
    states = episodes(key, buyer, problem.seller, problem.params, draws)
    worth = of_each(problem.utility, states.deal_price[:, None], states.scenario)[:, 0]
    worth = worth * problem.discount ** states.turn.astype(jnp.float32)
    return jnp.where(states.end == End.DEAL, worth, 0.0).reshape(draws, -1)


_utilities_of_static = jax.jit(utilities, static_argnums=(1, 3))
_utilities_of_data = jax.jit(utilities, static_argnums=3)


def mean_utility(key: Array, buyer: Buyer, problem: Problem, *, draws: int = 4) -> tuple[float, float]:
    """The mean utility over `draws` episodes of every product, and its standard error for these products.

    Only deals count, so the buyer must not overshoot.
    """
    play_all = _utilities_of_data if not jax.tree_util.all_leaves([buyer]) else _utilities_of_static
    worth_DxN = np.asarray(play_all(key, buyer, problem, draws), np.float64)
    error = np.sqrt(worth_DxN.var(axis=0, ddof=1).mean() / worth_DxN.size) if draws > 1 else np.nan
    return float(worth_DxN.mean()), float(error)


def tune_ladder(key: Array, problem: Problem, *, draws: int = 2, step: int = 100) -> Ladders:
    """The best buyer that does not read asks, by coordinate ascent on the game.

    All products share one list price and budget. `step`: of the price grid, cents.
    """
    unit, turns = problem.unit, problem.turns
    rising = np.linspace(unit.budget / 2, unit.budget, turns).astype(np.int32) // step * step
    alike = np.zeros((draws, problem.products.price.size), int)
    return _ascend(key, problem, single(rising, unit), alike, range(turns), step)[1]


def tune_by_first_ask(
    key: Array, ladder: Ladders, problem: Problem, *, draws: int = 4, step: int = 100, classes: int = 16
) -> Ladders:
    """The best buyer found that reads only the first ask: like `tune_ladder`, except for the first offer.

    The first offer is that of `ladder`, a single one, or half of it, or nothing (which is never a deal), whichever
    earns most. First asks are divided into classes of about equally many episodes, each with a ladder of its own. More
    classes read the ask more precisely but leave fewer episodes to choose each ladder from.
    """

    def tuned(share: float) -> tuple[float, Ladders]:
        start = ladder.replace(offers=ladder.offers.at[:, 0].set(int(share * ladder.offers[0, 0])))
        asks = np.asarray(_first_asks(key, start, problem, draws))
        spoken = asks[asks != NONE] if (asks != NONE).any() else np.zeros(1)
        cuts = np.unique(np.quantile(spoken, np.arange(1, classes) / classes).astype(np.int32))
        offers = np.tile(start.offers, (cuts.size + 1, 1))
        chosen = np.searchsorted(cuts, asks, side="right")
        return _ascend(key, problem, Ladders(offers, cuts, ladder.unit), chosen, range(1, problem.turns), step)

    return max(map(tuned, (1.0, 0.5, 0.0)), key=lambda found: found[0])[1]


@functools.partial(jax.jit, static_argnames="draws")
def _first_asks(key: Array, buyer: Buyer, problem: Problem, draws: int) -> Array:
    """int32[draws, N] cents, NONE where the seller answered otherwise: a deal's price is no ask."""
    states = episodes(key, buyer, problem.seller, problem.params, draws)
    asks = jnp.where(states.kinds[:, 0, SELLER] == Kind.OFFER, states.prices[:, 0, SELLER], NONE)
    return asks.reshape(draws, -1)


@functools.partial(jax.jit, static_argnames="draws")
def _tried(key: Array, buyer: Ladders, offers_SxCxT: Array, problem: Problem, draws: int) -> Array:
    """Utilities [S, draws, N] of the buyer with each set of ladders, all on the same episodes."""

    def worth(offers_CxT: Array) -> Array:
        return utilities(key, buyer.replace(offers=offers_CxT), problem, draws)

    return jax.lax.map(worth, offers_SxCxT, batch_size=8)


def _ascend(
    key: Array, problem: Problem, buyer: Ladders, chosen_DxN: np.ndarray, turns: Sequence[int], step: int
) -> tuple[float, Ladders]:
    """The mean utility and an improved buyer; each ladder is improved on the episodes that select it.

    Starts once from the buyer's own offers and once from offers of nothing: if early offers are accepted, later ones
    are never reached.
    """
    members_CxDN = chosen_DxN.ravel() == np.arange(len(buyer.offers))[:, None]

    def means(offers_SxCxT: np.ndarray) -> np.ndarray:
        worth = np.asarray(_tried(key, buyer, jnp.asarray(offers_SxCxT), problem, len(chosen_DxN)), np.float64)
        return worth.reshape(len(worth), -1) @ members_CxDN.T / np.maximum(members_CxDN.sum(axis=1), 1)

    nothing = np.array(buyer.offers)
    nothing[:, turns] = 0
    best_C, offers = climb((buyer.offers, nothing), turns, np.arange(0, buyer.unit.budget + 1, step), means)
    return float(members_CxDN.mean(axis=1) @ best_C), buyer.replace(offers=jnp.asarray(offers))


def climb(
    starts: Sequence[ArrayLike], turns: Sequence[int], grid_S: np.ndarray, means: Callable[[np.ndarray], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """The best ladders found by coordinate ascent: what each earns, [C], and their rungs, [C, T].

    Tries every price of the grid for one rung at a time, from the last turn to the first, until none gains.

    Args:
      starts: rungs [C, T] to begin from; of each ladder the better result is kept. turns: the rungs to choose.
      means: what each ladder earns, [S, C], with each of the rungs [S, C, T].
    """

    def ascend(rungs_CxT: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        best_C, gained = np.full(len(rungs_CxT), -np.inf), True
        while gained:
            gained = False
            for turn in reversed(turns):
                tried_SxCxT = np.tile(rungs_CxT, (len(grid_S), 1, 1))
                tried_SxCxT[:, :, turn] = grid_S[:, None]
                means_SxC = means(tried_SxCxT)
                better_C = means_SxC.max(axis=0) > best_C + 1e-6
                rungs_CxT[better_C, turn] = grid_S[means_SxC.argmax(axis=0)][better_C]
                best_C = np.where(better_C, means_SxC.max(axis=0), best_C)
                gained |= better_C.any()
        return best_C, rungs_CxT

    best_KxC, rungs_KxCxT = map(np.stack, zip(*(ascend(np.array(start)) for start in starts), strict=True))
    first_C = best_KxC.argmax(axis=0)
    return best_KxC.max(axis=0), rungs_KxCxT[first_C, np.arange(first_C.size)]

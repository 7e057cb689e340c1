"""The best seller found against scripted buyers: ladders of asks, by coordinate ascent on the game.

The mirror of `solvers.ladders`. What it earns is a lower bound on what the best seller does.
"""

from collections.abc import Sequence
import dataclasses
import functools

import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from negot_jax.game import rewards
from negot_jax.game.buyers import Buyer
from negot_jax.game.history import offers_made
from negot_jax.game.money import BP, part_up
from negot_jax.game.seller import Seller, deal_or, quote
from negot_jax.game.types import BUYER, NONE, SELLER, Action, GameParams, GameState, Observation
from negot_jax.solvers import ladders
from negot_jax.solvers.schedules import PERCENT

_CLASSES = 3  # Of costs, and of first offers.


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["asks", "costs", "offers"], meta_fields=["tick", "persona"]
)
@dataclasses.dataclass(frozen=True)
class AskLadders(Seller):
    """A seller that follows a ladder of asks, which its cost and the buyer's first offer select.

    It takes a standing offer of at least its ask. All numbers but the tick are basis points of the list price: asks,
    [(F + 1) * (C + 1), T]; costs, [C], and offers, [F], rising, the borders of the classes. As arrays they are data,
    as tuples static.
    """

    asks: Array
    costs: Array
    offers: Array
    tick: int = 1

    def act(self, key: Array, hidden: tuple, obs: Observation, turns: int) -> Action:
        del key, hidden, turns
        row = self.row(obs.price, obs.private, offers_made(obs, BUYER)[0])
        ask = quote(part_up(obs.price, jnp.asarray(self.asks)[row, obs.turn]), obs.private, obs, self.tick)
        offer = obs.offers[BUYER]
        return deal_or((offer != NONE) & (offer >= ask), offer, ask)

    def row(self, price: Array, cost: Array, first: Array) -> Array:
        """Of its ladders, int32, for a list price, a cost and a first offer (`NONE`: as an offer of nothing), cents."""
        rank = lambda borders, cents: jnp.searchsorted(jnp.asarray(borders, jnp.int32), _share(cents, price), "right")
        return rank(self.costs, cost) * (len(self.offers) + 1) + rank(self.offers, first)


def _share(cents: Array, price: Array) -> Array:
    """Basis points of the list price; in float, since the product overflows int32."""
    return (jnp.maximum(cents, 0) / price.astype(jnp.float32) * BP).astype(jnp.int32)


def best_seller(
    key: Array, buyers: Sequence[Buyer], params: GameParams, *, draws: int = 4, step: int = 4, tick: int = 1
) -> AskLadders:
    """The best ladders found against these buyers, equally likely.

    Args:
      draws: episodes of each product and buyer that the search plays. step: of the asks, percent of the list price.
      tick: asks are rounded up to it, cents.
    """
    games = functools.partial(_games, key, tuple(buyers), params, draws)
    earned = jax.jit(lambda own: jax.vmap(lambda state: rewards.outcome(state, params, SELLER).reward)(games(own)))
    falling = np.linspace(BP, BP // 2, params.turns).astype(np.int32)
    nothing = np.zeros(0, np.int32)
    played = games(AskLadders(falling[None], nothing, nothing, tick))
    price, cost, first = played.scenario.price, played.scenario.cost, played.prices[:, 0, BUYER]
    found = AskLadders(falling, _borders(_share(cost, price)), _borders(_share(first, price)), tick)
    rows = (len(found.costs) + 1) * (len(found.offers) + 1)
    # The first offer comes before any ask, so each ladder is chosen on the same episodes whatever it asks.
    members_RxN = np.asarray(found.row(price, cost, first)) == np.arange(rows)[:, None]

    def means(asks_SxRxT: np.ndarray) -> np.ndarray:
        worth_SxN = [earned(dataclasses.replace(found, asks=jnp.asarray(asks_RxT))) for asks_RxT in asks_SxRxT]
        return np.asarray(worth_SxN, np.float64) @ members_RxN.T / np.maximum(members_RxN.sum(axis=1), 1)

    # An ask is never above the last one, so from asks that fall a later one cannot rise: the second start asks all.
    starts = [np.tile(asks_T, (rows, 1)) for asks_T in (falling, np.full_like(falling, BP))]
    _, asks_RxT = ladders.climb(starts, range(params.turns), np.arange(0, 101, step) * PERCENT, means)
    static = lambda table: tuple(map(tuple, table.tolist())) if table.ndim > 1 else tuple(table.tolist())
    return AskLadders(static(asks_RxT), static(found.costs), static(found.offers), tick)


def _borders(shares: Array) -> np.ndarray:
    """Those of classes of about equal size, basis points."""
    return np.unique(np.quantile(shares, np.arange(1, _CLASSES) / _CLASSES).astype(np.int32))


def _games(key: Array, buyers: tuple[Buyer, ...], params: GameParams, draws: int, seller: AskLadders) -> GameState:
    """Final states [buyers * draws * products], of the same draws for every seller."""
    keys = jax.random.split(key, len(buyers))
    played = [ladders.episodes(*pair, seller, params, draws) for pair in zip(keys, buyers, strict=True)]
    return jax.tree.map(lambda *own: jnp.concatenate(own), *played)

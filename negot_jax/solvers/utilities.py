"""A buyer's utility of a deal, for every price and product: float32[K, N].

`prices_K` is int32 cents; `products` has N rows. Under every utility, no deal is worth 0.
"""

from collections.abc import Callable
import functools

import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from negot_jax.game.rewards import REWARDS, Reward, paper
from negot_jax.game.types import NONE, End, Outcome, Products

Utility = Callable[[Array, Products], Array]


def surplus(prices_K: Array, products: Products) -> Array:
    """B - P, cents."""
    return jnp.float32(products.budget - prices_K[:, None])


def surplus_per_price(prices_K: Array, products: Products) -> Array:
    """(B - P) / P0."""
    return surplus(prices_K, products) / products.price


@functools.cache
def of_reward(reward: Reward) -> Utility:
    """The buyer's reward for a deal at each price, as a utility. Cached: utilities are static under jit."""

    def utility(prices_K: Array, products: Products) -> Array:
        outcome = _outcome(End.DEAL, prices_K[:, None], products, turns=1)
        return jnp.broadcast_to(reward(outcome), outcome.ratio.shape)

    return utility


def of_each(utility: Utility, prices_NxM: Array, products: Products) -> Array:
    """float32[N, M]: the utility of each product at prices of its own."""
    return jax.vmap(lambda prices, product: utility(prices, product)[:, 0])(prices_NxM, products)


def unsuitable(name: str, products: Products) -> str | None:
    """Why the solvers cannot optimize a reward, a key of `REWARDS`, or None.

    They need one that is 0 without a deal and, with a deal, depends on the price alone and does not rise with it.
    """
    reward, product = REWARDS[name], jax.tree.map(lambda column: column[0], products)
    for end in (End.TURN_LIMIT, End.BUYER_QUIT, End.SELLER_QUIT):
        if (paid := float(reward(_outcome(end, jnp.int32(NONE), product, turns=1)))) != 0:
            return f"the reward {name} pays {paid:g} for {end.name}, and the solvers need 0 without a deal"
    early, late = (float(reward(_outcome(End.DEAL, product.budget // 2, product, turns))) for turns in (1, 6))
    if early != late:
        return f"the reward {name} of a deal depends on more than the price; the solvers need one of the price alone"
    prices = jnp.linspace(0, jnp.max(products.budget), 101).astype(jnp.int32)
    if (np.diff(of_reward(reward)(prices, products), axis=0) > 0).any():
        return f"the reward {name} rises with the price somewhere, and the solvers need one that does not"
    return None


def _outcome(end: End, price: Array, products: Products, turns: int) -> Outcome:
    """The buyer's outcome of an end in that turn, a deal at `price` if it is one."""
    deal = end == End.DEAL
    bought, sold = (
        deal * gain / products.scale.astype(jnp.float32) for gain in (products.budget - price, price - products.cost)
    )
    return Outcome(
        end=jnp.int32(end),
        reward=jnp.float32(0),
        deal_price=price,
        first_offer=jnp.int32(turns),  # This and the like only have to differ between turns.
        turns=jnp.int32(turns),
        mutual=products.budget > products.cost,
        gains=jnp.float32(1 / turns),
        interventions=jnp.int32(turns - 1),
        ratio=bought,
        other_ratio=sold,
        failed=jnp.bool_(False),
        first_ratio=jnp.float32(1 / turns),
        high_asks=jnp.int32(turns - 1),
        acts=jnp.full(1, turns - 1),
    )


UTILITIES: dict[str, Utility] = {
    "reward": of_reward(paper),
    "surplus": surplus,
    "surplus_per_price": surplus_per_price,
}

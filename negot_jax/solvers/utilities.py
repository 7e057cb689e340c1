"""What a buyer may want from a deal: payoffs of every price with every product, float32[K, N].

`prices_K` is int32 cents; `products` has N rows. No deal is worth 0 under all of them.
"""

from collections.abc import Callable

from jax import Array
import jax.numpy as jnp

from negot_jax.game.types import Products

Utility = Callable[[Array, Products], Array]


def surplus(prices_K: Array, products: Products) -> Array:
    """B - P, cents."""
    return jnp.float32(products.budget - prices_K[:, None])


def surplus_per_price(prices_K: Array, products: Products) -> Array:
    """(B - P) / P0."""
    return surplus(prices_K, products) / products.price


def reward(prices_K: Array, products: Products) -> Array:
    """clip((B - P) / scale, -1, 1), the game's reward (arXiv 2604.09855)."""
    return jnp.clip(surplus(prices_K, products) / products.scale, -1.0, 1.0)


UTILITIES: dict[str, Utility] = {"reward": reward, "surplus": surplus, "surplus_per_price": surplus_per_price}

"""Markets to solve: products of one list price and budget."""

import jax.numpy as jnp
import numpy as np

from negot_jax.game.types import Products


def make_market(price: int, budget: int, costs) -> Products:
    """Products of these costs, cents."""
    cost = np.asarray(costs)
    columns = (np.full_like(cost, price), np.full_like(cost, budget), cost, np.maximum(abs(budget - cost), 1))
    return Products(*(jnp.asarray(column, jnp.int32) for column in columns))


def uniform(low: float, high: float, value: float, count: int = 1_000) -> Products:
    """Costs spread evenly over [low, high] of the list price of $100.00, for a buyer to whom it is worth `value`."""
    costs = 10_000 * (low + (high - low) * (np.arange(count) + 0.5) / count)
    return make_market(10_000, round(10_000 * value), np.ceil(costs).astype(int))

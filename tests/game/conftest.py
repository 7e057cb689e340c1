"""Catalogs to play with."""

import numpy as np
import pytest

from negot_jax.game.types import Products
from tests.game.scenarios import make_products


@pytest.fixture(scope="session")
def products() -> Products:
    """64 products at $5 to $1,000, one in eight of conflicting interest."""
    rng = np.random.default_rng(0)
    price = rng.integers(500, 100_000, 64)
    budget = -(-4 * price // 5)
    share = np.where(np.arange(64) % 8 == 0, rng.uniform(1.02, 1.2, 64), rng.uniform(0.3, 0.95, 64))
    return make_products(price, budget, (budget * share).astype(int))

"""The real products."""

import pytest

from negot_jax import catalog
from negot_jax.game.types import Products


@pytest.fixture(scope="session")
def real_products(amazon_data_dir, tmp_path_factory) -> Products:
    """The 930 products of AmazonHistoryPrice."""
    cache = tmp_path_factory.mktemp("catalog")
    return catalog.products(catalog.load("amazon_history_price", amazon_data_dir, cache))

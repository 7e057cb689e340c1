"""The real products."""

import pytest

from negot_jax import catalog


@pytest.fixture(scope="session")
def real(amazon_data_dir, tmp_path_factory):
    """The 930 products of AmazonHistoryPrice."""
    return catalog.load("amazon_history_price", amazon_data_dir, tmp_path_factory.mktemp("catalog"))

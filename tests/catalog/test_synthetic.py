"""The generated catalog: deterministic, unique titles, prices like the real ones."""

import hashlib

import jax
import numpy as np
import pytest
from scipy.stats import spearmanr

from negot_jax.catalog import products, synthetic
from negot_jax.game import buyers, rewards, sellers
from negot_jax.game.types import GameParams
from negot_jax.solvers import ladders

# Quantiles of cost / price and of the price in dollars over the 930 real products.
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_REAL_RATIO = (0.217, 0.369, 0.508, 0.647, 0.800)
_REAL_PRICE = (23.86, 59.07, 179.99, 399.99, 1199.99)


@pytest.fixture(scope="module", params=range(3))
def catalog(request):
    return synthetic.load(seed=request.param)


def test_texts_are_complete_and_titles_unique(catalog):
    assert len(catalog) == len(set(catalog.titles)) == len(set(catalog.codenames)) == 930
    described, featured = (
        np.array([bool(text) for text in texts]) for texts in (catalog.descriptions, catalog.features)
    )
    assert described.mean() == pytest.approx(832 / 930, abs=0.04)
    assert featured.mean() == pytest.approx(793 / 930, abs=0.04)
    assert not (described | featured).all()  # A product may have neither, as in the real data.
    assert {name: catalog.categories.count(name) for name in synthetic.SHARES} == synthetic.SHARES


def test_prices_are_like_the_real_ones(catalog):
    ratio, dollars = catalog.cost / catalog.price, catalog.price / 100
    assert ((catalog.price >= 499) & (catalog.price <= 430_000) & (catalog.cost > 0)).all()
    assert (catalog.cost <= catalog.price).all()
    np.testing.assert_allclose(np.quantile(ratio, _QUANTILES), _REAL_RATIO, atol=0.015)
    np.testing.assert_allclose(np.quantile(dollars, _QUANTILES), _REAL_PRICE, rtol=0.15)
    assert ratio.mean() == pytest.approx(0.511, abs=0.005) and ratio.std() == pytest.approx(0.183, abs=0.005)
    assert spearmanr(catalog.price, ratio).statistic == pytest.approx(0.36, abs=0.08)


def test_bargaining_room_is_like_the_real_one(catalog):
    assert 0.93 <= catalog.mutual.mean() <= 0.96
    assert not (catalog.budget == catalog.cost).any()
    first_best = np.maximum(0.8 - catalog.cost / catalog.price, 0).mean()
    assert first_best == pytest.approx(0.2926, abs=0.002)


def test_the_default_catalog_is_pinned():
    default = synthetic.load()
    text = "\n".join(default.titles + default.descriptions + default.features)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "f5f37bb4047b4257"
    assert (int(default.price.sum()), int(default.cost.sum())) == (30_166_211, 17_511_876)
    assert synthetic.load(seed=1).titles != default.titles


def test_size_is_kept_and_checked():
    assert len(synthetic.load(size=7)) == 7
    with pytest.raises(ValueError, match="the catalog is empty"):
        synthetic.load(size=0)


@pytest.mark.parametrize("share, efficiency", [(0.5, 3 / 4), (1.0, 1.0)])
def test_uniform_values_give_the_textbook_s_efficiency(share, efficiency):
    """One offer to a seller that takes what covers its cost: half the value is best, and realizes 3/4 of the gains."""
    params = GameParams(products(synthetic.uniform()), turns=1)
    buyer, seller = buyers.make(f"constant(share={share})"), sellers.make("floor")
    states = ladders.episodes(jax.random.key(0), buyer, seller, params, 1)
    metrics = rewards.metrics(jax.vmap(rewards.outcome, (0, None))(states, params))
    realized, possible = metrics["efficiency"]
    assert possible / len(states.end) == pytest.approx(1 / 6, abs=0.01)
    assert realized / possible == pytest.approx(efficiency, abs=0.02)

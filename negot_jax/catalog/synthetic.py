"""The generated catalog: invented products, with prices like those of AmazonHistoryPrice.

It needs no download and no license, so it is the default. The price and the cost/price ratio follow Beta distributions
fitted to the quantiles of the 930 real products (log price: root mean square error .09; ratio: .009), with their rank
correlation. The words are drawn independently of the prices.
"""

import dataclasses

import numpy as np
from scipy.special import betaincinv

from negot_jax.catalog.types import MIN_SCALE, Catalog, budget_of, from_rows
from negot_jax.catalog.words import ADJECTIVES, BENEFITS, BRANDS, CATEGORIES, COLORS, EXTRAS, OPENINGS, SHARES, USES

PRODUCTS = 930
_PRICE_RANGE = (4.99, 4300.0)  # Dollars.
_LOG_PRICE = (3.36, 3.17)  # Beta shapes, of the log price over that range.
_RATIO = (3.30, 3.17)  # Beta shapes, of cost / price.
_CORRELATION = 0.375  # Of the underlying normals, for the real rank correlation of .36.
_ENDINGS, _ENDING_SHARES = (99, 0, 95, 98), (0.72, 0.17, 0.07, 0.04)  # Cents that prices end with.
_NO_DESCRIPTION, _NO_FEATURES = 0.105, 0.147


def load(size: int = PRODUCTS, seed: int = 0) -> Catalog:
    """The generated catalog of `size` products, ordered by category; a function of its arguments alone.

    The marginal distributions are stratified: whatever the seed, prices, ratios and categories have their quantiles.
    """
    if size < 1:
        raise ValueError(f"size={size}: a catalog needs at least one product")
    rng = np.random.default_rng(seed)
    price, cost = _prices(rng, size)
    rows, titles, counts = [], set(), dict.fromkeys(SHARES, 0)
    for category, p, c in zip(_categories(size), price, cost, strict=True):
        counts[category] += 1
        numbers = {"codename": f"{category}_{counts[category]}", "price": int(p), "cost": int(c)}
        rows.append(_unique_text(rng, category, titles) | {"category": category} | numbers)
    return from_rows(rows)


def uniform(size: int = PRODUCTS, seed: int = 0) -> Catalog:
    """The generated products at one list price, $100, budgets and costs independent and uniform up to it.

    The setting of Chatterjee & Samuelson (1983), in which no equilibrium of two sides that know only their own value
    realizes more than 27/32 of the gains from trade (Myerson & Satterthwaite 1983).
    """
    rng = np.random.default_rng(seed)
    price = np.full(size, 10_000)
    budget, cost = ((_strata(rng.random(size)) * price).astype(np.int64) + 1 for _ in range(2))
    cost += cost == budget  # A tie would be neither MI nor CI.
    scale = np.maximum(np.abs(budget - cost), MIN_SCALE)
    return dataclasses.replace(load(size, seed), price=price, budget=budget, cost=cost, scale=scale)


def _prices(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Price and cost, int64[size] cents, 0 < cost <= price."""
    first, noise = rng.standard_normal((2, size))
    second = _CORRELATION * first + np.sqrt(1 - _CORRELATION**2) * noise
    low, high = np.log(_PRICE_RANGE)
    price = np.exp(low + (high - low) * betaincinv(*_LOG_PRICE, _strata(first)))
    price = np.clip(_as_marked(rng, price), 499, 430_000)
    cost = _as_marked(rng, price / 100 * betaincinv(*_RATIO, _strata(second)))
    cost = np.clip(cost, 2, price)
    return price, cost - (cost == budget_of(price))  # A tie of cost and budget would be neither MI nor CI.


def _strata(x: np.ndarray) -> np.ndarray:
    """Ranks of x as the midpoints of len(x) equal parts of (0, 1)."""
    return (np.argsort(np.argsort(x)) + 0.5) / len(x)


def _as_marked(rng: np.random.Generator, dollars: np.ndarray) -> np.ndarray:
    """int64 cents: the price nearest to `dollars` with a customary ending, such as $179.99; small ones stay as is."""
    ending = rng.choice(_ENDINGS, size=len(dollars), p=_ENDING_SHARES)
    marked = 100 * np.rint(dollars - ending / 100).astype(np.int64) + ending
    return np.where(dollars < 10, np.rint(100 * dollars).astype(np.int64), marked)


def _categories(size: int) -> list[str]:
    """One category per product, in the real catalog's proportions."""
    bounds = np.cumsum(list(SHARES.values())) / sum(SHARES.values())
    return np.array(list(SHARES))[np.searchsorted(bounds, (np.arange(size) + 0.5) / size)].tolist()


def _unique_text(rng: np.random.Generator, category: str, titles: set[str]) -> dict[str, str]:
    """Title, description and features of a product whose title is not yet in `titles`, where it is then added."""

    def pick(words):
        return words[rng.integers(len(words))]

    while True:
        brand, adjective, noun, color = pick(BRANDS), pick(ADJECTIVES), pick(CATEGORIES[category][1]), pick(COLORS)
        title = f"{brand} {adjective} {noun}, Model {pick('ABCDEFGHKLMNPRSTVWX')}{rng.integers(10, 1000)}, {color}"
        if title not in titles:
            break
    titles.add(title)
    use = pick(USES)
    description = f"{pick(OPENINGS).format(brand=brand, noun=noun.lower())} {pick(BENEFITS)} {use}"
    extras = [EXTRAS[i] for i in sorted(rng.choice(len(EXTRAS), size=3, replace=False))]
    return {
        "title": title,
        "description": "" if rng.random() < _NO_DESCRIPTION else description,
        "features": "" if rng.random() < _NO_FEATURES else "\n".join(extras),
    }

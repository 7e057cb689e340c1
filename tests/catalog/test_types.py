"""The catalog's contract: private numbers, order of the split, normalized prices, digest."""

import dataclasses
import hashlib

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from negot_jax import catalog as cat
from negot_jax.catalog import synthetic
from negot_jax.catalog.types import from_rows

_PRICES = st.tuples(st.integers(1, 999_999_999), st.integers(1, 999_999_999)).map(lambda p: (max(p), min(p)))


def _catalog(prices, titles=None, budgets=None):
    """Products of (price, cost). budgets: None for the default, four fifths of the price."""
    titles = titles or [f"product {i}" for i in range(len(prices))]
    texts = {"description": "", "features": "", "category": "other"}
    rows = [
        texts | {"title": title, "codename": f"other_{i + 1}", "price": price, "cost": cost}
        for i, (title, (price, cost)) in enumerate(zip(titles, prices, strict=True))
    ]
    return from_rows(rows if budgets is None else [r | {"budget": b} for r, b in zip(rows, budgets, strict=True)])


def test_budget_is_four_fifths_rounded_up_and_the_scale_at_least_a_dollar():
    catalog = _catalog([(17_999, 9_000), (10_000, 7_950), (10_000, 8_300), (10_000, 8_000)])
    assert catalog.budget.tolist() == [14_400, 8_000, 8_000, 8_000]  # .8 * 179.99 = 143.992
    assert catalog.scale.tolist() == [5_400, 100, 300, 100]
    assert catalog.mutual.tolist() == [True, True, False, False]


def test_take_picks_every_field_in_the_order_given():
    catalog = _catalog([(100, 50), (200, 60), (300, 70)])
    taken = catalog.take(np.array([2, 0]))
    assert taken.titles == ("product 2", "product 0") and taken.codenames == ("other_3", "other_1")
    assert taken.price.tolist() == [300, 100] and taken.cost.tolist() == [70, 50]


def test_a_catalog_refuses_to_be_empty_or_ragged():
    catalog = _catalog([(100, 50)])
    with pytest.raises(ValueError, match="empty"):
        catalog.take([])
    with pytest.raises(ValueError, match="'titles': 2"):
        dataclasses.replace(catalog, titles=("one", "two"))


def test_products_are_int32_on_the_device():
    products = cat.products(_catalog([(999_999_999, 1)]))
    assert [str(x.dtype) for x in dataclasses.astuple(products)] == ["int32"] * 4
    assert int(products.price[0]) == 999_999_999 and int(products.scale[0]) == 799_999_999


def test_split_of_the_generated_catalog_is_pinned():
    train, test = cat.split(synthetic.load())
    assert (len(train), len(test)) == (802, 128)
    assert hashlib.sha256("\n".join(test.titles).encode()).hexdigest()[:16] == "c9ee24a7f3c8b635"


@given(st.permutations(range(40)))
def test_split_does_not_depend_on_the_order_of_the_products(order):
    # Ten titles four times over: equal titles are told apart by their codenames.
    catalog = _catalog([(100 + i, 50) for i in range(40)], titles=[f"title {i % 10}" for i in range(40)])
    for side, shuffled in zip(cat.split(catalog, test=7), cat.split(catalog.take(order), test=7), strict=True):
        assert side.codenames == shuffled.codenames


@pytest.mark.parametrize("test", [-1, 0, 3, 4])
def test_an_empty_side_is_refused(test):
    with pytest.raises(ValueError, match=f"catalog.test={test} of 3 products .* from 1 to 2"):
        cat.split(_catalog([(100, 50)] * 3), test=test)


def test_the_digest_names_the_content():
    catalog = _catalog([(10_000, 5_000), (20_000, 9_000), (30_000, 7_000)])
    assert cat.digest(catalog) == cat.digest(catalog.take(range(3))) and len(cat.digest(catalog)) == 16
    others = [catalog.take([1, 0, 2]), catalog.take([0, 1])]
    for name, column in vars(catalog).items():
        changed = column + np.array([0, 0, 1]) if isinstance(column, np.ndarray) else (*column[:2], column[2] + "\0")
        others.append(dataclasses.replace(catalog, **{name: changed}))
    moved = ('1", "2', *catalog.descriptions[1:])  # Punctuation in a text is not taken for the end of it.
    others.append(dataclasses.replace(catalog, descriptions=moved))
    assert len({cat.digest(other) for other in [catalog, *others]}) == 13


def _check_normal(catalog, normal):
    """Interests are kept, every number lies where the game wants it, and shares of the price are kept nearly."""
    assert (normal.price == 10_000).all() and ((0 < normal.budget) & (normal.budget <= 10_000)).all()
    np.testing.assert_array_equal(np.sign(normal.budget - normal.cost), np.sign(catalog.budget - catalog.cost))
    assert ((0 < normal.cost) & (normal.cost <= 10_000)).all() and (normal.scale >= 1).all()
    for name in ("cost", "scale", "budget"):
        error = getattr(normal, name) / 10_000 - getattr(catalog, name) / catalog.price
        assert (np.abs(error) <= 3e-4 + 1 / catalog.price).all()  # A normalized cent or two, and a real one.


@given(st.lists(_PRICES, min_size=1, max_size=20))
def test_normalize_keeps_interests_and_nearly_keeps_rewards(prices):
    catalog = _catalog(prices)
    normal = cat.normalize(catalog)
    assert (normal.budget == 8_000).all()
    _check_normal(catalog, normal)


@given(st.lists(st.tuples(_PRICES, st.integers(1, 999_999_999)), min_size=1, max_size=20))
def test_normalize_keeps_budgets_of_their_own(drawn):
    budgets = [min(budget, price) for (price, _), budget in drawn]
    catalog = _catalog([prices for prices, _ in drawn], budgets=budgets)
    assert catalog.budget.tolist() == budgets
    _check_normal(catalog, cat.normalize(catalog))


def test_normalize_by_hand():
    close = 100_000_000  # A million dollars: a cent either side of the budget, and the dollar rounds up to a cent.
    normal = cat.normalize(_catalog([(20_000, 9_999), (close, 79_999_999), (close, 80_000_001), (1_000, 770)]))
    assert normal.cost.tolist() == [5_000, 7_999, 8_001, 7_700]
    assert normal.scale.tolist() == [3_000, 1, 1, 1_000]


def test_describe_counts_ties_apart():
    text = cat.describe(_catalog([(10_000, 5_000), (20_000, 18_000), (100_000, 80_000), (499, 400)]), test=1)
    assert text.splitlines() == [
        "4 products: 1 mutual / 1 conflicting interest / 2 ties; 3 train / 1 test",
        "list price $4.99 to $1,000.00, median $150.00; mean cost / price 0.750",
    ]

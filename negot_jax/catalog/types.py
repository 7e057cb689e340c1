"""The catalogue: products with their texts and, in integer cents, the three numbers that make each one a game."""

from collections.abc import Iterable, Mapping
import dataclasses
import hashlib

import jax.numpy as jnp
import numpy as np

from negot_jax.game.types import Products

TEST_PRODUCTS = 128  # Of 930, which leaves the paper's 802 for training.
MIN_SCALE = 100  # One dollar: the benchmark's least denominator of the reward.
NORMALISED_PRICE = 10_000  # The list price after `normalise`: $100.00, so that a dollar is a percent of it.


@dataclasses.dataclass(frozen=True, eq=False)
class Catalog:
    """N products, in a fixed order. Texts are tuples of N strings, numbers are int64[N] cents.

    descriptions, features: may be empty. codenames: `{category}_{i}`, i counting from 1 within the category's file;
    what a player writes to name the product. price: the public list price P0. budget: the buyer's private B.
    cost: the seller's private C. scale: the reward's denominator, |B - C| and at least one dollar.
    """

    titles: tuple[str, ...]
    descriptions: tuple[str, ...]
    features: tuple[str, ...]
    categories: tuple[str, ...]
    codenames: tuple[str, ...]
    price: np.ndarray
    budget: np.ndarray
    cost: np.ndarray
    scale: np.ndarray

    def __post_init__(self):
        lengths = {field.name: len(getattr(self, field.name)) for field in dataclasses.fields(self)}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"every field of a catalogue needs one entry a product, got lengths {lengths}")
        if not len(self):
            raise ValueError("the catalogue is empty: it needs at least one product")

    def __len__(self) -> int:
        return len(self.titles)

    @property
    def mutual(self) -> np.ndarray:
        """bool[N]: mutual interest (MI), where a deal that pleases both sides exists: B > C."""
        return self.budget > self.cost

    def take(self, indices: Iterable[int]) -> "Catalog":
        """The products at `indices`, in that order."""
        indices = np.asarray(list(indices), dtype=np.int64)

        def pick(column):
            return column[indices] if isinstance(column, np.ndarray) else tuple(column[i] for i in indices)

        return Catalog(**{field.name: pick(getattr(self, field.name)) for field in dataclasses.fields(self)})


def budget_of(price: np.ndarray) -> np.ndarray:
    """The buyer's budget B, cents: four fifths of the list price, rounded up to a cent.

    Rounding to the nearest cent, or down, would turn six of the benchmark's products into ties of B and C.
    """
    return -(-4 * price // 5)


def from_rows(rows: Iterable[Mapping]) -> Catalog:
    """The catalogue of rows with `title`, `description`, `features`, `category`, `codename`, and `price` and `cost`.

    `price` (P0) and `cost` (C) are integer cents; the budget follows from the price.
    """
    rows = list(rows)

    def texts(name):
        return tuple(row[name] for row in rows)

    price, cost = (np.array([row[name] for row in rows], dtype=np.int64) for name in ("price", "cost"))
    budget = budget_of(price)
    return Catalog(
        titles=texts("title"),
        descriptions=texts("description"),
        features=texts("features"),
        categories=texts("category"),
        codenames=texts("codename"),
        price=price,
        budget=budget,
        cost=cost,
        scale=np.maximum(np.abs(budget - cost), MIN_SCALE),
    )


def split(catalog: Catalog, test: int = TEST_PRODUCTS) -> tuple[Catalog, Catalog]:
    """The training and test products, each in the order of the SHA-256 of their titles.

    The paper's split is not public, so this one is ours: the first `test` products of that order are the test set.
    It depends on the titles alone, except that products of equal title are ordered by codename.

    Raises:
      ValueError: `test` leaves no product on one of the two sides.
    """
    if not 0 < test < len(catalog):
        raise ValueError(
            f"test={test} of {len(catalog)} products leaves one side of the split empty; "
            f"give a number from 1 to {len(catalog) - 1}"
        )

    def rank(i):
        return hashlib.sha256(catalog.titles[i].encode()).digest(), catalog.codenames[i]

    order = sorted(range(len(catalog)), key=rank)
    return catalog.take(order[test:]), catalog.take(order[:test])


def normalise(catalog: Catalog) -> Catalog:
    """Prices in units of the list price: P0 becomes $100.00 and B $80.00, so a spoken price is a percentage.

    A simplification for models too small to learn the arithmetic of real prices; results that use it say so. A cost
    is rounded up to a cent and stays on its side of the budget, so MI, CI and ties are kept. The scale is again
    |B - C|, or what the one dollar comes to where that was the scale.
    """

    def units(cents):
        return -(-cents * NORMALISED_PRICE // catalog.price)

    price = np.full_like(catalog.price, NORMALISED_PRICE)
    budget = budget_of(price)
    cost = np.select(
        [catalog.cost < catalog.budget, catalog.cost > catalog.budget],
        [np.minimum(units(catalog.cost), budget - 1), np.maximum(units(catalog.cost), budget + 1)],
        budget,
    )
    widened = catalog.scale != np.abs(catalog.budget - catalog.cost)
    scale = np.where(widened, units(catalog.scale), np.abs(budget - cost))
    return dataclasses.replace(catalog, price=price, budget=budget, cost=cost, scale=scale)


def products(catalog: Catalog) -> Products:
    """What the game needs of the catalogue, as int32[N] arrays on the device."""
    return Products(**{name: jnp.asarray(getattr(catalog, name), jnp.int32) for name in Products.__annotations__})


def describe(catalog: Catalog, test: int = TEST_PRODUCTS) -> str:
    """Two lines to print: interests and the sizes of the split; prices and costs."""
    mutual, ties = int(catalog.mutual.sum()), int((catalog.budget == catalog.cost).sum())
    low, median, high = (f"${cents / 100:,.2f}" for cents in np.percentile(catalog.price, [0, 50, 100]))
    return (
        f"{len(catalog)} products: {mutual} mutual / {len(catalog) - mutual - ties} conflicting interest"
        + (f" / {ties} ties" if ties else "")
        + f"; {len(catalog) - test} train / {test} test\n"
        f"list price {low} to {high}, median {median}; mean cost / price {(catalog.cost / catalog.price).mean():.3f}"
    )

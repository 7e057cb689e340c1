"""The catalog: products with their texts and, in integer cents, the three numbers that make each one a game."""

from collections.abc import Iterable, Mapping
import dataclasses
import hashlib
import json

import jax.numpy as jnp
import numpy as np

from negot_jax.game.types import Products

TEST_PRODUCTS = 128  # Of 930, which leaves the paper's 802 for training.
MIN_SCALE = 100  # One dollar: the benchmark's smallest denominator of the reward.
NORMALIZED_PRICE = 10_000  # The list price after `normalize`: $100.00, so that a dollar is one percent of it.
# A row's texts, and the columns of a catalog that hold them.
TEXTS = {"title": "titles", "description": "descriptions", "features": "features"}
TEXTS |= {"category": "categories", "codename": "codenames"}


@dataclasses.dataclass(frozen=True, eq=False)
class Catalog:
    """N products in a fixed order. Texts are tuples of N strings, numbers are int64[N] cents.

    descriptions, features: may be empty. codenames: `{category}_{i}`, where i counts from 1 within a category's file;
    players write it to name the product. price: the public list price P0. budget: the buyer's private B. cost: the
    seller's private C. scale: the reward's denominator, |B - C| but at least one dollar.
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
        lengths = {name: len(column) for name, column in vars(self).items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"every field of a catalog needs one entry per product, got lengths {lengths}")
        if not len(self):
            raise ValueError("the catalog is empty: it needs at least one product")

    def __len__(self) -> int:
        return len(self.titles)

    @property
    def mutual(self) -> np.ndarray:
        """bool[N]: mutual interest (MI), B > C: some price is good for both sides."""
        return self.budget > self.cost

    def take(self, indices: Iterable[int]) -> "Catalog":
        """The products at `indices`, in that order."""
        indices = [int(i) for i in indices]
        pick = lambda column: column[indices] if isinstance(column, np.ndarray) else tuple(column[i] for i in indices)
        return Catalog(**{name: pick(column) for name, column in vars(self).items()})


def budget_of(price: np.ndarray) -> np.ndarray:
    """The buyer's budget B, cents: four fifths of the list price, rounded up to a cent.

    Rounding to the nearest cent, or down, would turn six of the benchmark's products into ties of B and C.
    """
    return -(-4 * price // 5)


def from_rows(rows: Iterable[Mapping]) -> Catalog:
    """Builds a catalog of rows with `title`, `description`, `features`, `category`, `codename`, `price` and `cost`.

    `price` (P0), `cost` (C) and, if a row has it, `budget` (B) are integer cents; by default B follows from P0.
    """
    rows = [{"budget": budget_of(row["price"])} | dict(row) for row in rows]
    texts = {column: tuple(row[name] for row in rows) for name, column in TEXTS.items()}
    cents = {name: np.array([row[name] for row in rows], dtype=np.int64) for name in ("price", "budget", "cost")}
    return Catalog(**texts, **cents, scale=np.maximum(np.abs(cents["budget"] - cents["cost"]), MIN_SCALE))


def digest(catalog: Catalog) -> str:
    """Names a catalog by its content: 16 hexadecimal digits of the SHA-256 of all columns, in order."""
    columns = json.dumps(vars(catalog), default=np.ndarray.tolist)
    return hashlib.sha256(columns.encode()).hexdigest()[:16]


def split(catalog: Catalog, test: int = TEST_PRODUCTS) -> tuple[Catalog, Catalog]:
    """The training and the test products, each ordered by the SHA-256 of their titles, then by codename.

    The paper's split is not public, so this one is ours: the first `test` products of that order are the test set.
    Raises ValueError if that leaves one side empty.
    """
    size = len(catalog)
    if not 0 < test < size:
        way_out = f"give a number from 1 to {size - 1}" if size > 1 else "add products"
        raise ValueError(f"catalog.test={test} of {size} products leaves one side of the split empty; {way_out}")
    rank = lambda i: (hashlib.sha256(catalog.titles[i].encode()).digest(), catalog.codenames[i])
    order = sorted(range(size), key=rank)
    return catalog.take(order[test:]), catalog.take(order[:test])


def normalize(catalog: Catalog) -> Catalog:
    """Expresses prices in units of the list price: P0 becomes $100.00, so a spoken price is a percentage.

    This spares small models the arithmetic of real prices; results that use it say so. B becomes $80.00, or for a
    product with a budget of its own the same share of P0. Costs are rounded up to a cent and stay on their side of the
    budget, which preserves MI, CI and ties. The scale is again |B - C|, or one dollar in the new units where it was
    one dollar.
    """
    price = np.full_like(catalog.price, NORMALIZED_PRICE)
    units = lambda cents: -(-cents * NORMALIZED_PRICE // catalog.price)
    # Between two cents and one below P0, so that a cost fits on either side.
    own = np.where(catalog.budget == catalog.price, price, np.clip(units(catalog.budget), 2, price - 1))
    budget = np.where(catalog.budget == budget_of(catalog.price), budget_of(price), own)
    cost = np.select(
        [catalog.cost < catalog.budget, catalog.cost > catalog.budget],
        [np.minimum(units(catalog.cost), budget - 1), np.maximum(units(catalog.cost), budget + 1)],
        budget,
    )
    widened = catalog.scale != np.abs(catalog.budget - catalog.cost)
    scale = np.where(widened, units(catalog.scale), np.abs(budget - cost))
    return dataclasses.replace(catalog, price=price, budget=budget, cost=cost, scale=scale)


def products(catalog: Catalog) -> Products:
    """Returns what the game needs of the catalog: int32[N] arrays on the device."""
    return Products(**{name: jnp.asarray(getattr(catalog, name), jnp.int32) for name in Products.__annotations__})


def describe(catalog: Catalog, test: int = TEST_PRODUCTS) -> str:
    """Two lines: interests and the sizes of the split; prices and costs."""
    mutual, ties = int(catalog.mutual.sum()), int((catalog.budget == catalog.cost).sum())
    low, median, high = (f"${cents / 100:,.2f}" for cents in np.percentile(catalog.price, [0, 50, 100]))
    return (
        f"{len(catalog)} products: {mutual} mutual / {len(catalog) - mutual - ties} conflicting interest"
        + (f" / {ties} ties" if ties else "")
        + f"; {len(catalog) - test} train / {test} test\n"
        f"list price {low} to {high}, median {median}; mean cost / price {(catalog.cost / catalog.price).mean():.3f}"
    )

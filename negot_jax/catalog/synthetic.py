"""The generated catalog: invented products, with prices like those of AmazonHistoryPrice.

It needs no download and no license, so it is the default. The price and the cost/price ratio follow Beta distributions
fitted to the quantiles of the 930 real products (log price: root mean square error .09; ratio: .009), with their rank
correlation. The words are drawn independently of the prices.
"""

import dataclasses

import numpy as np
from scipy.special import betaincinv

from negot_jax.catalog.types import MIN_SCALE, Catalog, budget_of, from_rows

PRODUCTS = 930
_PRICE_RANGE = (4.99, 4300.0)  # Dollars.
_LOG_PRICE = (3.36, 3.17)  # Beta shapes, of the log price over that range.
_RATIO = (3.30, 3.17)  # Beta shapes, of cost / price.
_CORRELATION = 0.375  # Of the underlying normals, for the real rank correlation of .36.
_ENDINGS, _ENDING_SHARES = (99, 0, 95, 98), (0.72, 0.17, 0.07, 0.04)  # Cents that prices end with.
_NO_DESCRIPTION, _NO_FEATURES = 0.105, 0.147

# Of each category of AmazonHistoryPrice its number of products, and invented names of some.
CATEGORIES = {
    "automotive": (7, ("Battery Charger", "Roof Rack", "Floor Mat Set", "Dash Camera", "Tyre Inflator")),
    "baby-products": (11, ("Stroller", "High Chair", "Car Seat", "Sleep Monitor", "Travel Cot")),
    "beauty": (12, ("Hair Dryer", "Face Serum", "Trimmer", "Perfume Set", "Make-up Mirror")),
    "books": (13, ("Field Guide", "Atlas", "Cookbook", "Novel Box Set", "Dictionary")),
    "electronics": (284, ("Headphones", "Laptop", "Monitor", "Camera Lens", "Speaker", "Tablet", "Router", "Keyboard")),
    "health-personal-care": (2, ("Shaver", "Massager", "Toothbrush", "Scale")),
    "home-kitchen": (23, ("Espresso Machine", "Blender", "Pan Set", "Vacuum Cleaner", "Duvet", "Table Lamp")),
    "industrial-scientific": (2, ("Microscope", "Caliper", "Label Printer", "Thermal Camera")),
    "movies-tv": (75, ("Film Collection", "Series Box Set", "Documentary Set", "Concert Film", "Animation Set")),
    "music": (5, ("Vinyl Box Set", "Live Album", "Piano Works", "Jazz Anthology")),
    "other": (288, ("Office Chair", "Backpack", "Wall Clock", "Storage Rack", "Guitar", "Printer", "Suitcase", "Desk")),
    "patio-lawn-garden": (10, ("Lawn Mower", "Patio Heater", "Garden Hose", "Gas Grill", "Leaf Blower")),
    "pet-supplies": (5, ("Dog Bed", "Cat Tree", "Pet Fountain", "Aquarium")),
    "software": (4, ("Photo Editor", "Tax Suite", "Language Course", "Backup Suite")),
    "sports-outdoors": (16, ("Tent", "Kayak", "Mountain Bike", "Rowing Machine", "Sleeping Bag")),
    "tools-home-improvement": (144, ("Cordless Drill", "Table Saw", "Tool Chest", "Sander", "Ladder", "Light Fixture")),
    "toys-games": (22, ("Board Game", "Building Set", "Toy Train", "Puzzle", "Drone")),
    "video-games": (7, ("Game Console", "Controller", "Racing Wheel", "Gaming Headset")),
}
SHARES = {name: share for name, (share, _) in CATEGORIES.items()}

BRANDS = (
    *("Aldera", "Bravik", "Corvona", "Delmero", "Elstow", "Farnholt", "Galvery", "Hestrin", "Ivelda", "Jorvane"),
    *("Keldric", "Lumaro", "Mirrelle", "Norvick", "Ostrava Hill", "Pellwood", "Quenby", "Rostane", "Silvarn"),
    *("Tremore", "Ulvane", "Verrick", "Wexlow", "Yarrowby"),
)
ADJECTIVES = (
    *("Compact", "Classic", "Premium", "Portable", "Advanced", "Quiet", "Heavy-Duty", "Lightweight", "Smart"),
    *("Deluxe", "Essential", "Professional", "Foldable", "Signature", "Everyday", "Extended"),
)
COLORS = ("Black", "White", "Slate Grey", "Navy Blue", "Forest Green", "Red", "Silver", "Sand")

OPENINGS = (
    "The {brand} {noun} does one job and does it well.",
    "{brand} built this {noun} for people who use theirs every day.",
    "A {noun} from {brand}, redesigned from the ground up.",
    "Meet the {noun} that {brand} owners recommend to their friends.",
    "This {noun} by {brand} is ready to use out of the box.",
)
BENEFITS = (
    "It is easy to set up and easy to look after.",
    "Careful materials keep it in good shape for years.",
    "It takes up little room and is simple to store.",
    "Every part can be replaced by hand.",
    "It was tested for a full year before it went on sale.",
)
USES = (
    "A sound choice for a first purchase.",
    "Makes a good present.",
    "Suited to home and travel alike.",
    "Made for long use by demanding owners.",
    "Works well for beginners and experts.",
)
EXTRAS = (
    "Two-year warranty from the maker",
    "Spare parts included in the box",
    "Printed guide in four languages",
    "Recycled packaging",
    "Free support by telephone",
    "Carrying case included",
    "Tested to European and American safety standards",
    "Ships within one working day",
    "Thirty days to return it",
    "Assembled by hand",
)


def load(size: int = PRODUCTS, seed: int = 0) -> Catalog:
    """The generated catalog of `size` products, ordered by category; a function of its arguments alone.

    The marginal distributions are stratified: whatever the seed, prices, ratios and categories have their quantiles.
    """
    rng = np.random.default_rng(seed)
    price, cost = _prices(rng, size)
    bounds = np.cumsum(list(SHARES.values())) / sum(SHARES.values())  # Categories in the real catalog's proportions.
    categories = np.array(list(SHARES))[np.searchsorted(bounds, (np.arange(size) + 0.5) / size)].tolist()
    rows, titles, counts = [], set(), dict.fromkeys(SHARES, 0)
    for category, p, c in zip(categories, price, cost, strict=True):
        counts[category] += 1
        numbers = {"codename": f"{category}_{counts[category]}", "price": int(p), "cost": int(c)}
        rows.append(_unique_text(rng, category, titles) | {"category": category} | numbers)
    return from_rows(rows)


def uniform(size: int = PRODUCTS, seed: int = 0) -> Catalog:
    """The generated products at one list price, $100, budgets and costs independent and uniform up to it.

    The setting of Chatterjee & Samuelson (1983), in which no equilibrium of two sides that know only their own value,
    and are paid the surplus itself, realizes more than 27/32 of the gains from trade (Myerson & Satterthwaite 1983).
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


def _unique_text(rng: np.random.Generator, category: str, titles: set[str]) -> dict[str, str]:
    """Title, description and features of a product whose title is not yet in `titles`, where it is then added."""
    pick = lambda words: words[rng.integers(len(words))]
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

"""Products to bargain over: where they come from, their private numbers, and their split."""

from negot_jax.catalog.registry import load
from negot_jax.catalog.types import Catalog, describe, normalise, products, split

__all__ = ["Catalog", "describe", "load", "normalise", "products", "split"]

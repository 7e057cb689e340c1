"""Catalogues by name."""

from collections.abc import Callable
import difflib
import os

from negot_jax.catalog import synthetic
from negot_jax.catalog.types import Catalog

CACHE_DIR = "~/.cache/negot_jax"


def _generated(data_dir, cache_dir) -> Catalog:
    if data_dir is not None:
        raise ValueError(f"catalog 'generated' reads no files: leave out data_dir, got {str(data_dir)!r}")
    return synthetic.load()


def _amazon_history_price(data_dir, cache_dir) -> Catalog:
    from negot_jax.catalog import amazon_history_price  # Imported here for its weight: TensorFlow Datasets.

    return amazon_history_price.load(data_dir, cache_dir)


CATALOGS: dict[str, Callable[..., Catalog]] = {
    "generated": _generated,
    "amazon_history_price": _amazon_history_price,
}


def load(name: str, data_dir: str | os.PathLike | None = None, cache_dir: str | os.PathLike | None = None) -> Catalog:
    """The catalogue called `name`, a key of `CATALOGS`.

    Args:
      data_dir: folder of the source files of amazon_history_price; None downloads them.
      cache_dir: where downloads and built datasets are kept; None means `CACHE_DIR`.

    Raises:
      ValueError: no such catalogue, a `data_dir` for one that reads no files, or a row that is not valid.
      FileNotFoundError: `data_dir` is no folder with JSON files.
      ConnectionError: a download is needed, and there is no network.
    """
    if name not in CATALOGS:
        nearest = difflib.get_close_matches(name, CATALOGS, n=1, cutoff=0)[0]
        raise ValueError(f"catalog {name!r} is unknown; did you mean {nearest!r}? Known: {', '.join(CATALOGS)}")
    return CATALOGS[name](data_dir, CACHE_DIR if cache_dir is None else cache_dir)

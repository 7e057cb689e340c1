"""Products to bargain over: where they come from, their private numbers, and their split."""

import os

from negot_jax.catalog import synthetic, user_file
from negot_jax.catalog.types import Catalog, describe, digest, normalize, products, split
from negot_jax.config import require_known

__all__ = ["CATALOGS", "Catalog", "describe", "digest", "load", "normalize", "products", "split"]

GENERATED = {"generated": synthetic.load, "uniform": synthetic.uniform}
CATALOGS = (*GENERATED, "amazon_history_price", "file")


def load(name: str, data_dir: str | os.PathLike | None = None, cache_dir: str | os.PathLike | None = None) -> Catalog:
    """The catalog called `name`, one of `CATALOGS`.

    data_dir: for 'file', the user's own product file; for 'amazon_history_price', the folder of the benchmark's JSON
    files, which are downloaded if it is None. cache_dir: where the download is kept; by default in the user's cache.

    Raises:
      ValueError: an unknown name, a `data_dir` that is missing or not needed, or an invalid row.
      FileNotFoundError: there is nothing to read at `data_dir`.
      ConnectionError: the download failed.
    """
    if require_known("catalog", name, CATALOGS) in GENERATED:
        if data_dir is not None:
            raise ValueError(f"catalog {name!r} reads no files: leave out data_dir, got {str(data_dir)!r}")
        return GENERATED[name]()
    if name == "file":
        if data_dir is None:
            raise ValueError("catalog 'file' needs data_dir: the path of your products, a .csv, .json or .jsonl file")
        return user_file.load(data_dir)
    from negot_jax.catalog import amazon_history_price  # Imported late: TensorFlow Datasets takes seconds.

    return amazon_history_price.load(data_dir, cache_dir)

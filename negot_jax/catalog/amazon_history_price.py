"""AmazonHistoryPrice, 930 real products of the benchmark of arXiv 2402.15813, as a TensorFlow Datasets builder.

It writes ArrayRecord files and reads them back by `as_data_source`, so TensorFlow itself is not needed. The 18 files
are downloaded from the benchmark's repository, pinned by commit and by the checksums in checksums.tsv; or else read
from a local folder of files of the same form. What was built is kept in a cache.

The repository is under Apache 2.0, but its item texts were collected from public price pages and may not be covered by
that licence: use them for research, and do not redistribute them.
"""

import dataclasses
import hashlib
import os
from pathlib import Path

import numpy as np
import requests
import tensorflow_datasets as tfds

from negot_jax.catalog import rows
from negot_jax.catalog.types import Catalog, from_rows

_COMMIT = "834ad9066d0627f0332504d5fa6d236706f2402b"
_FILES = f"https://raw.githubusercontent.com/TianXiaSJTU/AmazonPriceHistory/{_COMMIT}/data/AmazonHistoryPrice"
_CATEGORIES = (
    *("automotive", "baby-products", "beauty", "books", "electronics", "health-personal-care", "home-kitchen"),
    *("industrial-scientific", "movies-tv", "music", "other", "patio-lawn-garden", "pet-supplies", "software"),
    *("sports-outdoors", "tools-home-improvement", "toys-games", "video-games"),
)
_TEXTS = ("title", "description", "features", "category", "codename")


@dataclasses.dataclass
class Source(tfds.core.BuilderConfig):
    """Where the rows come from: a local folder, or the pinned download where it is None."""

    folder: Path | None = None


UPSTREAM = Source(name="upstream", description=f"Downloaded from the benchmark's repository at commit {_COMMIT}.")


def local_source(folder: str | os.PathLike) -> Source:
    """The JSON files of a folder. Named by a digest of their contents, so that no other folder's cache can answer.

    Raises:
      FileNotFoundError: there is no such folder, or it holds no JSON file.
    """
    folder = Path(folder).expanduser().resolve()
    way_out = "give the folder that holds the category files (automotive.json, ...), or leave it out to download them"
    if not folder.is_dir():
        raise FileNotFoundError(f"data_dir={str(folder)!r} is not a folder; {way_out}")
    if not (files := _json_files(folder)):
        raise FileNotFoundError(f"data_dir={str(folder)!r} holds no *.json file; {way_out}")
    digest = hashlib.sha256()
    for name, path in sorted(files.items()):
        digest.update(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return Source(name=f"local-{digest.hexdigest()[:16]}", description="Read from a local folder.", folder=folder)


def _check_online() -> None:
    """Fails at once where there is no network; the download itself would retry for minutes first."""
    try:
        requests.head(_FILES, timeout=20)
    except requests.exceptions.RequestException as error:
        raise ConnectionError(
            f"cannot download AmazonHistoryPrice: {error}\nRun again when online, or give a local copy by data_dir."
        ) from error


def _json_files(folder: Path) -> dict[str, Path]:
    return {path.name: path for path in folder.glob("*.json")}


class AmazonHistoryPrice(tfds.core.GeneratorBasedBuilder):
    """One split, `products`, in the order of file and row; fields as `types.from_rows` takes them."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [UPSTREAM]

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Real products with their list price (P0) and the seller's cost (C), both in cents.",
            features=tfds.features.FeaturesDict(
                {name: tfds.features.Text() for name in _TEXTS}
                | {name: tfds.features.Scalar(np.int64, doc="US cents") for name in ("price", "cost")}
            ),
            homepage="https://github.com/TianXiaSJTU/AmazonPriceHistory",
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        folder = self.builder_config.folder
        if folder is None:
            paths = dl_manager.download({f"{name}.json": f"{_FILES}/{name}.json" for name in _CATEGORIES})
        else:
            paths = _json_files(folder)
        # Read at once: a bad row is reported before anything is written.
        products = list(rows.read_rows(paths))
        if not products:
            raise ValueError(f"no product in any of {', '.join(sorted(paths))}: every list is empty")
        return {"products": self._generate_examples(products)}

    def _generate_examples(self, products):
        yield from enumerate(products)


def load(data_dir: str | os.PathLike | None, cache_dir: str | os.PathLike) -> Catalog:
    """The catalogue of the folder `data_dir`, or of the pinned download; built into `cache_dir` where not yet there.

    Raises:
      ConnectionError: a download is needed, and there is no network.
      FileNotFoundError: see `local_source`.
      ValueError: a row is not valid (see `rows.parse_row`), or there is none.
    """
    tfds.disable_progress_bar()  # A second's work; its bars would break up the training's own.
    source = UPSTREAM if data_dir is None else local_source(data_dir)
    builder = AmazonHistoryPrice(
        data_dir=Path(cache_dir).expanduser(), config=source, file_format=tfds.core.FileFormat.ARRAY_RECORD
    )
    if source is UPSTREAM and not builder.is_prepared():
        _check_online()
    builder.download_and_prepare()
    return from_rows(_decoded(row) for row in builder.as_data_source(split="products"))


def _decoded(row: dict) -> dict:
    return row | {name: row[name].decode() for name in _TEXTS}

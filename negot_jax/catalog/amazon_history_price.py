"""AmazonHistoryPrice, 930 real products of the benchmark of arXiv 2402.15813.

A local copy of its JSON files is read as it is. Otherwise the 18 files are downloaded from the benchmark's repository,
pinned by commit and by the checksums in checksums.tsv, by a TensorFlow Datasets builder. It writes ArrayRecord files,
which `as_data_source` reads without TensorFlow, and these are kept in a cache.

The repository is under Apache 2.0, but its item texts were collected from public price pages and may not be covered by
that license: use them for research, and do not redistribute them.
"""

import contextlib
import io
import os
from pathlib import Path
import tempfile

import numpy as np
import requests
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError
from tensorflow_datasets.core.download.util import DownloadError

from negot_jax import cache
from negot_jax.catalog import rows
from negot_jax.catalog.synthetic import SHARES
from negot_jax.catalog.types import TEXTS, Catalog, digest, from_rows

_COMMIT = "834ad9066d0627f0332504d5fa6d236706f2402b"
_FILES = f"https://raw.githubusercontent.com/TianXiaSJTU/AmazonPriceHistory/{_COMMIT}/data/AmazonHistoryPrice"
_DIGEST = "9977127821e0fb66"  # Digest of the catalog that these files make.


def load(data_dir: str | os.PathLike | None, cache_dir: str | os.PathLike | None = None) -> Catalog:
    """The catalog of the JSON files in `data_dir`, or of the pinned download without one; raises as `catalog.load`."""
    if data_dir is None:
        return _downloaded(Path(cache_dir).expanduser() if cache_dir else cache.folder("tfds"))
    return from_rows(rows.read_rows(_json_files(Path(os.path.expanduser(data_dir)).resolve())))


def _json_files(folder: Path) -> dict[str, Path]:
    """The JSON files of a folder by name, without hidden ones, which other programs leave there."""
    way_out = "give the folder that holds the category files (automotive.json, ...), or leave it out to download them"
    if not folder.is_dir():
        raise FileNotFoundError(
            f"data_dir={str(folder)!r} is not a folder; {way_out}. Products of your own are read by catalog.name=file"
        )
    files = {path.name: path for path in folder.glob("*.json") if path.is_file() and not path.name.startswith(".")}
    if not files:
        raise FileNotFoundError(f"data_dir={str(folder)!r} holds no *.json file; {way_out}")
    return files


class AmazonHistoryPrice(tfds.core.GeneratorBasedBuilder):
    """One split, `products`, in the order of file and row; fields as `types.from_rows` takes them."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Real products with their list price (P0) and the seller's cost (C), both in cents.",
            features=tfds.features.FeaturesDict(
                {name: tfds.features.Text() for name in TEXTS}
                | {name: tfds.features.Scalar(np.int64, doc="US cents") for name in ("price", "cost")}
            ),
            homepage="https://github.com/TianXiaSJTU/AmazonPriceHistory",
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        paths = dl_manager.download({f"{name}.json": f"{_FILES}/{name}.json" for name in SHARES})
        return {"products": self._generate_examples(rows.read_rows(paths))}

    def _generate_examples(self, products):
        yield from enumerate(products)


def _builder(folder: Path) -> AmazonHistoryPrice:
    return AmazonHistoryPrice(data_dir=folder, file_format=tfds.core.FileFormat.ARRAY_RECORD)


def _downloaded(folder: Path) -> Catalog:
    """The pinned catalog from `folder`; downloads and builds it there if it is missing or damaged."""
    with contextlib.suppress(Exception):  # Damage may raise nearly anything, or nothing.
        if digest(catalog := _built(folder)) == _DIGEST:
            return catalog
    print("downloading AmazonHistoryPrice: 18 files, 2.4 MB")
    folder.mkdir(parents=True, exist_ok=True)
    # Built aside, so that other processes see all of it or nothing.
    with tempfile.TemporaryDirectory(dir=folder, prefix="building_") as scratch:
        _download(Path(scratch))
        catalog = _built(Path(scratch))
        built = Path(_builder(Path(scratch)).data_dir)
        kept = folder / built.relative_to(scratch)
        with contextlib.suppress(OSError):  # Another process may have been first.
            kept.parent.mkdir(parents=True, exist_ok=True)
            if kept.exists():
                kept.rename(Path(scratch) / "damaged")
            built.rename(kept)
    return catalog


def _download(folder: Path) -> None:
    tfds.disable_progress_bar()
    try:
        requests.head(_FILES, timeout=20)  # Fails at once without a network; the download would retry for minutes.
        with contextlib.redirect_stdout(io.StringIO()):
            _builder(folder).download_and_prepare()
    except (requests.RequestException, DownloadError, NonMatchingChecksumError) as error:
        raise ConnectionError(
            f"cannot download AmazonHistoryPrice: {error}\nRun again when online, or give a local copy by data_dir."
        ) from error


def _built(folder: Path) -> Catalog:
    source = _builder(folder).as_data_source(split="products")
    return from_rows(row | {name: row[name].decode() for name in TEXTS} for row in source)

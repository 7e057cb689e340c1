"""A folder made here, and the real files: read as they are, and through the TFDS builder."""

import hashlib
import json

import numpy as np
import pytest
import tensorflow_datasets as tfds

from negot_jax import catalog as cat
from negot_jax.catalog import amazon_history_price as ahp
from negot_jax.catalog.rows import RowError

ROWS = [
    {"title": "Lamp", "category": "other", "list_price": "$50.00", "highest_price": "$60.00", "lowest_price": "$20.00"},
    {"title": "Café chair – “oak”", "category": "other", "description": "Seats one.", "features": "Oak\nGlue"}
    | {"list_price": "$1,299.00", "highest_price": "$999.00", "lowest_price": "$999.00"},
]


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "other.json").write_text(json.dumps(ROWS))
    (folder / "NOTES.md").write_text("not read")
    (folder / "._other.json").write_bytes(b"\x00\x05\x16\x07")  # A Mac leaves such files; not read.
    return folder


def _load(folder, tmp_path):
    return cat.load("amazon_history_price", data_dir=folder, cache_dir=tmp_path / "cache")


def test_a_local_folder_is_read_as_it_is(folder, tmp_path):
    catalog = _load(folder, tmp_path)
    assert catalog.titles == ("Lamp", "Café chair – “oak”") and catalog.codenames == ("other_1", "other_2")
    assert catalog.descriptions == ("", "Seats one.") and catalog.features == ("", "Oak\nGlue")
    assert catalog.price.tolist() == [6_000, 129_900] and catalog.cost.tolist() == [2_000, 99_900]
    assert not (tmp_path / "cache").exists()


def test_an_invalid_row_is_named(folder, tmp_path):
    (folder / "other.json").write_text(json.dumps([ROWS[0], ROWS[1] | {"lowest_price": "free"}]))
    with pytest.raises(RowError, match="other.json, row 1, field 'lowest_price': 'free' is not a positive price"):
        _load(folder, tmp_path)


def test_a_source_without_products_is_refused(folder, tmp_path):
    (folder / "other.json").write_text("[]")
    with pytest.raises(ValueError, match="no product in any of other.json"):
        _load(folder, tmp_path)
    (folder / "other.json").unlink()
    with pytest.raises(FileNotFoundError, match="holds no .*json file"):
        _load(folder, tmp_path)
    with pytest.raises(FileNotFoundError, match="'/no/such/folder' is not a folder"):
        _load("/no/such/folder", tmp_path)


def test_every_download_has_its_checksum(tmp_path):
    class Recorder:
        def download(self, urls):
            self.urls = urls
            return {}

    recorder = Recorder()
    with pytest.raises(ValueError, match="no product"):
        ahp.AmazonHistoryPrice(data_dir=tmp_path)._split_generators(recorder)
    assert set(recorder.urls.values()) == set(ahp.AmazonHistoryPrice.url_infos)
    assert len(recorder.urls) == 18 and all(url.endswith(f"/{name}") for name, url in recorder.urls.items())


@pytest.fixture(scope="module")
def real(amazon_data_dir, tmp_path_factory):
    return cat.load("amazon_history_price", amazon_data_dir, tmp_path_factory.mktemp("cache"))


def test_real_figures(real):
    assert cat.digest(real) == ahp._DIGEST  # Of what a download must make.
    conflicting = int((real.budget < real.cost).sum())
    assert (len(real), int(real.mutual.sum()), conflicting) == (930, 886, 44)
    assert [len(side) for side in cat.split(real)] == [802, 128]
    assert (real.price.min(), np.median(real.price), real.price.max()) == (499, 17_999, 429_998)
    assert (real.cost / real.price).mean() == pytest.approx(0.511, abs=5e-4)
    # In dollars |.8 P0 - C| < 1 for 15 products; of these one is a full dollar apart once B is in whole cents.
    assert (np.abs(4 * real.price - 5 * real.cost) < 500).sum() == 15
    assert (np.abs(real.budget - real.cost) < 100).sum() == 14
    ceiling = np.clip((real.budget - real.cost) / real.scale, 0, 1)
    assert ceiling.mean() == pytest.approx(0.9398, abs=5e-5)
    assert len(set(real.codenames)) == 930 and max(map(len, real.descriptions)) == 16_915
    assert sum(map(bool, real.descriptions)) == 832 and sum(map(bool, real.features)) == 793


def test_real_split_is_pinned(real):
    test = cat.split(real)[1]
    assert hashlib.sha256("\n".join(test.codenames).encode()).hexdigest()[:16] == "0849c5f4f09af10a"


def test_real_figures_are_the_same_when_normalized(real):
    normal = cat.normalize(real)
    np.testing.assert_array_equal(normal.mutual, real.mutual)
    ceiling = np.clip((normal.budget - normal.cost) / normal.scale, 0, 1)
    assert ceiling.mean() == pytest.approx(0.9398, abs=5e-4)


def test_upstream_checksums_are_those_of_the_real_files(amazon_data_dir, tmp_path):
    """Through TFDS's own check, with the files lying where a download would have put them."""
    builder = ahp.AmazonHistoryPrice(data_dir=tmp_path / "cache", file_format="array_record")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=amazon_data_dir))
    assert builder.info.splits["products"].num_examples == 930

    altered = tmp_path / "altered"
    altered.mkdir()
    for path in amazon_data_dir.glob("*.json"):
        (altered / path.name).write_bytes(path.read_bytes())
    (altered / "music.json").write_bytes(b"[]")
    builder = ahp.AmazonHistoryPrice(data_dir=tmp_path / "other", file_format="array_record")
    with pytest.raises(tfds.download.download_manager.NonMatchingChecksumError, match="music.json"):
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=altered))

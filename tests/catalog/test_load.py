"""Catalogs by name."""

import pytest

from negot_jax import catalog as cat


def test_generated_is_the_offline_default():
    assert len(cat.load("generated")) == 930


@pytest.mark.parametrize(
    ("name", "nearest"), [("generate", "generated"), ("amazon", "amazon_history_price"), ("", "uniform")]
)
def test_an_unknown_name_gives_the_nearest_known_one(name, nearest):
    with pytest.raises(ValueError, match=f"{name!r} is unknown; did you mean {nearest!r}"):
        cat.load(name)


def test_a_folder_is_refused_where_nothing_would_read_it(tmp_path):
    with pytest.raises(ValueError, match=".generated. reads no files: leave out data_dir"):
        cat.load("generated", data_dir=tmp_path)

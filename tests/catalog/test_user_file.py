"""Products of the user's own: three formats of one table, and what is refused. More mistakes: tests/outside."""

import json
import pathlib

import pytest

from negot_jax import catalog as cat
from negot_jax.catalog import rows, user_file

EXAMPLE = pathlib.Path(__file__).parents[2] / "docs/products.csv"
ROWS = [
    {"title": "Lamp", "price": "$1,299.00", "cost": "20", "category": "home-kitchen"},
    {"title": "Chair, oak", "price": "12.50", "cost": "$7.25", "budget": "9", "description": "One.\nTwo."},
    {"title": "Café", "price": "30", "lowest_price": "12.5", "features": "x"},
]


def _csv(rows):
    def cell(value):
        return '"' + value.replace('"', '""') + '"'

    lines = [",".join(cell(row.get(column, "")) for column in user_file.COLUMNS) for row in rows]
    return "\n".join([",".join(user_file.COLUMNS), *lines])


FORMATS = {
    "products.csv": _csv(ROWS),
    "Products.CSV": "\ufeff" + _csv(ROWS).replace("\n", "\r\n") + "\r\n,,,,,,,\r\n",  # As spreadsheets save it.
    "products.json": json.dumps(ROWS),
    "products.jsonl": "\n".join(map(json.dumps, ROWS)) + "\n\n",
    "numbers.json": json.dumps([ROWS[0], ROWS[1] | {"price": 12.5, "budget": 9}, ROWS[2] | {"price": 30}]),
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_says_the_same(tmp_path, name):
    (tmp_path / name).write_bytes(FORMATS[name].encode())
    catalog = cat.load("file", data_dir=tmp_path / name)
    assert catalog.titles == ("Lamp", "Chair, oak", "Café") and catalog.features == ("", "", "x")
    assert [text.split() for text in catalog.descriptions] == [[], ["One.", "Two."], []]
    assert catalog.codenames == ("home-kitchen_1", "other_1", "other_2")
    assert catalog.price.tolist() == [129_900, 1_250, 3_000] and catalog.cost.tolist() == [2_000, 725, 1_250]
    assert catalog.budget.tolist() == [103_920, 900, 2_400] and catalog.scale.tolist() == [101_920, 175, 1_150]


@pytest.mark.parametrize(
    ("field", "value"),
    [("price", "free"), ("price", None), ("cost", "12.51"), ("cost", ""), ("budget", "12.51"), ("budget", "0")]
    + [("title", " "), ("category", "Home & Kitchen"), ("features", ["a"]), ("lowest_price", "3")],
)
def test_an_invalid_field_is_named(field, value):
    row = {"title": "Lamp", "price": "12.50", "cost": "7"} | {field: value}
    with pytest.raises(rows.RowError) as error:
        user_file.parse_row(row, "mine.csv", 4)
    assert str(error.value).startswith(f"mine.csv, row 4, field {field!r}: {value!r} is not ")


def test_the_example_has_ten_products():
    catalog = cat.load("file", data_dir=EXAMPLE)
    assert len(catalog) == 10 and len(set(catalog.codenames)) == 10 and set(catalog.mutual.tolist()) == {True, False}

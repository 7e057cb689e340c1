"""Validation of the benchmark's rows: what is wrong is named by file, row, field and value."""

import json

from hypothesis import given
from hypothesis import strategies as st
import pytest

from negot_jax.catalog import rows

ROW = {
    "title": "Walnut Desk, 48 in",
    "category": "home-kitchen",
    "description": "A desk.",
    "features": "Two drawers",
    "list_price": "$1,299.00",
    "highest_price": "$1,250.50",
    "lowest_price": "$899.99",
}


def test_price_is_the_greater_of_list_and_highest_and_cost_the_lowest():
    row = rows.parse_row(ROW, "home-kitchen.json", 4)
    assert (row["price"], row["cost"], row["codename"]) == (129_900, 89_999, "home-kitchen_5")
    assert rows.parse_row(ROW | {"list_price": "$900"}, "home-kitchen.json", 4)["price"] == 125_050


@pytest.mark.parametrize("field", ["description", "features"])
def test_missing_or_null_texts_are_valid(field):
    assert rows.parse_row(ROW | {field: None}, "f.json", 0)[field] == ""
    assert rows.parse_row({k: v for k, v in ROW.items() if k != field}, "f.json", 0)[field] == ""


@given(st.integers(1, 999_999_999), st.booleans())
def test_price_is_the_inverse_of_formatting(cents, commas):
    text = f"${cents // 100:,}" if commas else f"${cents // 100}"
    text += f".{cents % 100:02d}"
    assert rows.parse_price(text) == rows.parse_price(text.removeprefix("$")) == cents
    assert rows.parse_price(text.removesuffix("0")) == cents  # As spreadsheets write it.


_BAD_PRICES = (None, "", "$", "12.", "$1.505", "$1,29.00", "$-5.00", "$0.00", "$10,000,000.00", "$1 2", "$1\n")


@pytest.mark.parametrize(
    ("field", "value"),
    [(field, value) for field in ("list_price", "highest_price", "lowest_price") for value in _BAD_PRICES]
    + [("lowest_price", "$1,250.51"), ("title", ""), ("title", " \n"), ("title", None), ("category", "a b")]
    + [("category", None), ("description", 3), ("features", ["a list"])],
)
def test_an_invalid_field_is_named_with_its_file_row_and_value(field, value):
    with pytest.raises(rows.RowError) as error:
        rows.parse_row(ROW | {field: value}, "desks.json", 17)
    assert str(error.value).startswith(f"desks.json, row 17, field {field!r}: {value!r} is not ")


def test_a_missing_price_is_an_error():
    with pytest.raises(rows.RowError, match="f.json, row 0, field 'lowest_price': None is not a positive price"):
        rows.parse_row({k: v for k, v in ROW.items() if k != "lowest_price"}, "f.json", 0)


def _write(folder, **files):
    paths = {}
    for name, content in files.items():
        paths[f"{name}.json"] = folder / f"{name}.json"
        paths[f"{name}.json"].write_text(content if isinstance(content, str) else json.dumps(content))
    return paths


def test_files_are_read_in_the_order_of_their_names(tmp_path):
    paths = _write(tmp_path, b=[ROW | {"category": "b"}], a=[ROW | {"category": "a"}] * 2)
    assert [row["codename"] for row in rows.read_rows(paths)] == ["a_1", "a_2", "b_1"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1,", "bad.json: not JSON"),
        ({"a": 1}, "bad.json: holds a dict, not a list"),
        (["text"], r"bad.json, row 0, field '\(whole row\)': 'text' is not a JSON object"),
    ],
)
def test_a_file_of_another_form_is_named(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        list(rows.read_rows(_write(tmp_path, bad=content)))


def test_two_files_may_not_make_the_same_codename(tmp_path):
    with pytest.raises(rows.RowError, match="b.json, row 0, field 'category': .*home-kitchen_1 is taken"):
        list(rows.read_rows(_write(tmp_path, a=[ROW], b=[ROW])))

"""Reading and validating the benchmark's JSON rows.

Each file is a list of products of one category. Only the fields that the game uses are read; every error names the
file, the row (counted from 0), the field and the value found.
"""

from collections.abc import Iterator, Mapping
import json
import os
from pathlib import Path
import re
from typing import Any

from negot_jax.game.types import MAX_PRICE

_PRICE = re.compile(r"\$(\d+|\d{1,3}(?:,\d{3})+)(?:\.(\d\d))?", re.ASCII)
_CATEGORY = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")  # Must be writable inside an action: no spaces or brackets.


class RowError(ValueError):
    """A value that no product may have. Names the file, the row, the field and the value."""

    def __init__(self, file: str, row: int, field: str, value: Any, wanted: str):
        super().__init__(f"{file}, row {row}, field {field!r}: {value!r} is not {wanted}")


def parse_price(text: Any) -> int | None:
    """Cents of a price such as '$1,299.00', or None where the text is no positive price within the game's bounds."""
    match = _PRICE.fullmatch(text) if isinstance(text, str) else None
    cents = int(match[1].replace(",", "")) * 100 + int(match[2] or 0) if match else 0
    return cents if 0 < cents <= MAX_PRICE else None


def parse_row(raw: Any, file: str, row: int) -> dict[str, Any]:
    """One product, as `types.from_rows` takes it: P0 = max(list, highest price), C = lowest price, in cents.

    A missing or null description or features is valid, and becomes empty.

    Raises:
      RowError: a field is missing or malformed, or the lowest price lies above the highest.
    """
    if not isinstance(raw, dict):
        raise RowError(file, row, "(whole row)", raw, "a JSON object")

    def text(field, pattern, wanted):
        if not isinstance(value := raw.get(field), str) or not pattern.fullmatch(value):
            raise RowError(file, row, field, value, wanted)
        return value

    def optional_text(field):
        if not isinstance(value := raw.get(field), str | None):
            raise RowError(file, row, field, value, "a text")
        return value or ""

    def price(field):
        if (cents := parse_price(raw.get(field))) is None:
            raise RowError(file, row, field, raw.get(field), "a positive price such as '$1,299.00'")
        return cents

    category = text("category", _CATEGORY, "a category of lower-case letters, digits and hyphens")
    highest, lowest = price("highest_price"), price("lowest_price")
    if lowest > highest:
        raise RowError(file, row, "lowest_price", raw["lowest_price"], f"at most the highest, {raw['highest_price']}")
    return {
        "title": text("title", re.compile(r"(?s).*\S.*"), "a non-empty text"),
        "description": optional_text("description"),
        "features": optional_text("features"),
        "category": category,
        "codename": f"{category}_{row + 1}",
        "price": max(price("list_price"), highest),
        "cost": lowest,
    }


def read_rows(paths: Mapping[str, os.PathLike]) -> Iterator[dict[str, Any]]:
    """The products of JSON files, given as {name to use in errors: where it lies}, ordered by name and row.

    Raises:
      RowError: as `parse_row`, and where two files make the same codename.
      ValueError: a file is not a JSON list.
    """
    seen = set()
    for file, path in sorted(paths.items()):
        try:
            raws = json.loads(Path(path).read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{file}: not a JSON file in UTF-8: {error}") from error
        if not isinstance(raws, list):
            raise ValueError(f"{file}: holds a {type(raws).__name__}, not a list of products")
        for i, raw in enumerate(raws):
            row = parse_row(raw, file, i)
            if row["codename"] in seen:
                wanted = f"a category of this file alone (codename {row['codename']} is taken)"
                raise RowError(file, i, "category", row["category"], wanted)
            seen.add(row["codename"])
            yield row

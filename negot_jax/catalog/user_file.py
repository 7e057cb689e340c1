"""A user's own products, one file: CSV with a header, a JSON list of objects, or JSON lines."""

from collections import Counter
import csv
import io
import os
from pathlib import Path
from typing import Any

from negot_jax.catalog.rows import SHORT, Row, parse_json, parse_list, read_text, twice
from negot_jax.catalog.types import Catalog, budget_of, from_rows
from negot_jax.config import nearest

COLUMNS = ("title", "price", "cost", "lowest_price", "budget", "category", "description", "features")
CATEGORY = "other"  # Of a product that names none.


def load(path: str | os.PathLike) -> Catalog:
    """The products of a file, in its order.

    Title, price and cost are required; `lowest_price` is another name of the cost. The budget is four fifths of the
    price unless a product has its own. Codenames count the products of each category from 1. Raises FileNotFoundError;
    RowError for a value that no product may have; ValueError for another kind of file, an unknown column, or no
    product.
    """
    path = Path(os.path.expanduser(path))
    if path.suffix.lower() not in _READERS:
        raise ValueError(f"data_dir={str(path)!r} is not a product file: its name must end in {', '.join(_READERS)}")
    if not path.is_file():
        raise FileNotFoundError(f"data_dir={str(path)!r} is not a file; give the path of your products")
    raws = _READERS[path.suffix.lower()](read_text(path, path.name), path.name)
    if not raws:
        raise ValueError(f"{path.name}: holds no product; each needs a title, a price and a cost")
    counts = Counter()
    for row in (rows := [parse_row(raw, path.name, i) for i, raw in enumerate(raws)]):
        counts[row["category"]] += 1
        row["codename"] = f"{row['category']}_{counts[row['category']]}"
    return from_rows(rows)


def parse_row(raw: Any, file: str, index: int) -> dict[str, Any]:
    """Returns one product, as `types.from_rows` takes it but for its codename. Raises as `load` does."""
    row = Row(raw, file, index)
    for name in raw:
        if name not in COLUMNS:
            raise ValueError(
                f"{file}, row {index}: unknown column {SHORT.repr(name)}; did you mean {nearest(name, COLUMNS)!r}? "
                f"Known: {', '.join(COLUMNS)}"
            )
    if row.has("cost") and row.has("lowest_price"):
        raise row.error("lowest_price", "wanted beside 'cost', which means the same: keep one of them")
    price = row.price("price")
    return row.texts(CATEGORY) | {
        "price": price,
        "cost": row.price("lowest_price" if row.has("lowest_price") else "cost", most=price),
        "budget": row.price("budget", most=price) if row.has("budget") else budget_of(price),
    }


def _read_csv(text: str, file: str) -> list[dict[str, str]]:
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    reader = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True, strict=True)
    try:
        lines = [line for line in reader if any(line)]
    except csv.Error as error:
        raise ValueError(f"{file}, line {reader.line_num}: not CSV that can be read: {error}") from error
    header, *rows = lines or [[]]
    if (repeated := twice(header)) is not None:
        raise ValueError(f"{file}: column {SHORT.repr(repeated)} appears twice; keep one of them")
    for i, row in enumerate(rows):
        if len(row) != len(header):
            raise ValueError(
                f"{file}, row {i}: {len(row)} values for {len(header)} columns; separate them by commas, and put a "
                'value that contains a comma in quotes, "$1,299.00"'
            )
    return [dict(zip(header, row, strict=True)) for row in rows]


def _read_lines(text: str, file: str) -> list[Any]:
    return [parse_json(line, f"{file}, row {i}") for i, line in enumerate(filter(str.strip, text.split("\n")))]


_READERS = {".csv": _read_csv, ".json": parse_list, ".jsonl": _read_lines}

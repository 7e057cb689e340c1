"""Reading and checking product files. Errors name file, row (from 0), field, value, and what is wanted instead."""

from collections import Counter
from collections.abc import Iterable, Mapping
import json
import os
from pathlib import Path
import re
import reprlib
from typing import Any

from negot_jax import hub
from negot_jax.game.types import MAX_PRICE

# The number of digits is bounded, since `int` refuses thousands of them.
_PRICE = re.compile(r"\$?(\d{1,9}|\d{1,3}(?:,\d{3}){1,2})(?:\.(\d\d?))?", re.ASCII)
_CATEGORY = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")  # Part of the codename, which actions spell: no spaces or brackets.
SHORT = reprlib.Repr()  # For errors: a value may be megabytes long, or nested too deeply for `repr`.
SHORT.maxstring = SHORT.maxother = 80


class RowError(ValueError):
    """A value that no product may have."""

    def __init__(self, file: str, row: int, field: str, value: Any, wanted: str):
        super().__init__(f"{file}, row {row}, field {field!r}: {SHORT.repr(value)} is not {wanted}")


class Number(str):
    """A JSON number as written: it may be a price, but not a text."""


def parse_price(text: Any) -> int | None:
    """The cents of a price such as '$1,299.00' or '12.5'; None for anything else, also beyond 0 and `MAX_PRICE`."""
    match = _PRICE.fullmatch(text) if isinstance(text, str) else None
    cents = int(match[1].replace(",", "")) * 100 + int((match[2] or "").ljust(2, "0")) if match else 0
    return cents if 0 < cents <= MAX_PRICE else None


class Row:
    """A product as read from a file. Fields are checked on access; every method raises RowError."""

    def __init__(self, raw: Any, file: str, index: int):
        if not isinstance(raw, dict):
            raise RowError(file, index, "(whole row)", raw, "a JSON object")
        self.raw, self.file, self.index = raw, file, index

    def error(self, field: str, wanted: str) -> RowError:
        return RowError(self.file, self.index, field, self.raw.get(field), wanted)

    def has(self, field: str) -> bool:
        """Whether there is a value that is neither null nor empty."""
        return self.raw.get(field) not in (None, "")

    def text(self, field: str, default: str = "") -> str:
        """A text that UTF-8 can encode, or `default` where there is none."""
        value = self.raw[field] if self.has(field) else default
        if type(value) is not str:
            raise self.error(field, "a text")
        try:
            value.encode()
        except UnicodeEncodeError as error:
            half = f"character {error.start} is {value[error.start]!r}, half a surrogate pair"
            raise self.error(field, f"a text that UTF-8 can encode: {half}") from error
        return value

    def texts(self, category: str = "") -> dict[str, str]:
        """Title, description, features and category. category: the default for a row without one."""
        texts = {name: self.text(name) for name in ("title", "description", "features")}
        texts["category"] = self.text("category", category)
        if not texts["title"].strip():
            raise self.error("title", "a non-empty text")
        if not _CATEGORY.fullmatch(texts["category"]):
            raise self.error("category", "a category of lower-case letters, digits and hyphens, such as 'home-kitchen'")
        return texts

    def price(self, field: str, most: int = MAX_PRICE) -> int:
        """A price in cents, at most `most`."""
        if (cents := parse_price(self.raw.get(field))) is None:
            raise self.error(field, "a positive price such as '$1,299.00' or '12.50', below $10,000,000")
        if cents > most:
            raise self.error(field, f"at most the price, ${most / 100:,.2f}")
        return cents


def parse_row(raw: Any, file: str, index: int) -> dict[str, Any]:
    """One product of the benchmark, as `types.from_rows` takes it; raises RowError.

    P0 is the greater of list and highest price, C the lowest price, in cents. Description and features may be missing.
    """
    row = Row(raw, file, index)
    texts, highest = row.texts(), row.price("highest_price")
    return texts | {
        "codename": f"{texts['category']}_{index + 1}",
        "price": max(row.price("list_price"), highest),
        "cost": row.price("lowest_price", most=highest),
    }


def parse_json(text: str, where: str) -> Any:
    """The value of a JSON text, its numbers as `Number`. Raises ValueError, which names `where`."""
    try:
        return json.loads(text, parse_int=Number, parse_float=Number, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: not JSON that can be read: {error}") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if (repeated := twice(name for name, _ in pairs)) is not None:
        raise ValueError(f"{SHORT.repr(repeated)} appears twice")
    return dict(pairs)


def twice(names: Iterable[str]) -> str | None:
    """The first name that appears twice, if there is one."""
    return next((name for name, count in Counter(names).items() if count > 1), None)


def read_text(path: os.PathLike, file: str) -> str:
    """The text of a UTF-8 file, with or without a byte order mark.

    Raises ValueError, which names `file`, if it is not, or if it stands for a file that was not downloaded.
    """
    if os.path.getsize(path):
        hub.require_content(Path(path))
    try:
        return Path(path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: not a text in UTF-8: {error}. Save it as UTF-8.") from error


def parse_list(text: str, file: str) -> list[Any]:
    """The entries of a JSON list. Raises ValueError for any other text."""
    if not isinstance(raws := parse_json(text, file), list):
        raise ValueError(f"{file}: holds a {type(raws).__name__}, not a list of products")
    return raws


def read_rows(paths: Mapping[str, os.PathLike]) -> list[dict[str, Any]]:
    """The products of the benchmark's JSON files, given as {name for errors: path}, ordered by name and row.

    Raises RowError as `parse_row`, and if two files make the same codename; ValueError if a file is not a JSON list, or
    there is no product in any.
    """
    rows = {}
    for file, path in sorted(paths.items()):
        for i, raw in enumerate(parse_list(read_text(path, file), file)):
            row = parse_row(raw, file, i)
            if row["codename"] in rows:
                wanted = f"a category of this file alone (codename {row['codename']} is taken)"
                raise RowError(file, i, "category", row["category"], wanted)
            rows[row["codename"]] = row
    if not rows:
        raise ValueError(f"no product in any of {', '.join(sorted(paths))}: every list is empty")
    return list(rows.values())

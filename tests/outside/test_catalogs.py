"""Product files as people really have them: read, or refused in one line that names the file and the place."""

import json

import pytest

from negot_jax import catalog as cat

ROW = {
    "title": "Lamp",
    "category": "other",
    "list_price": "$50.00",
    "highest_price": "$60.00",
    "lowest_price": "$20.00",
}
OWN = {"title": "Lamp", "price": "50", "cost": "20"}
DEEP = "[" * 100_000 + "]" * 100_000
HEAD = "title,price,cost\n"
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:00\n"

REFUSED = {  # The file, its content, and what the error must say.
    "half an emoji": ("a.json", [ROW | {"title": "Lamp \ud83d"}], r"a.json, row 0, field 'title': .*\\ud83d.* UTF-8"),
    "half an emoji late": ("a.json", [ROW, ROW | {"features": "x" * 200 + "\udc00"}], "row 1, field 'features': .*200"),
    "half an emoji, own": (
        "a.jsonl",
        [OWN | {"description": "\ud83d"}],
        "row 0, field 'description': .*UTF-8",
    ),
    "5,000 digits": (
        "a.json",
        [ROW | {"list_price": "$" + "9" * 5000}],
        "row 0, field 'list_price': .* positive",
    ),
    "5,000 digits, a number": (
        "o.json",
        '[{"title": "x", "price": ' + "9" * 5000 + "}]",
        "row 0, field 'price'",
    ),
    "5,000 leading zeros": (
        "o.csv",
        HEAD + "x," + "0" * 5000 + "1,1\n",
        "row 0, field 'price': .* positive",
    ),
    "nested too deeply": ("a.json", DEEP, "a.json: not JSON"),
    "nested too deeply in a row": ("o.jsonl", f'{json.dumps(OWN)}\n{{"title": {DEEP}}}', "o.jsonl, row 1: not JSON"),
    "nested deeply": ("o.json", '[{"title": ' + "[" * 300 + "]" * 300 + "}]", r"o.json, row 0, field '\w+'"),
    "a megabyte for a price": ("o.json", [OWN | {"price": "x" * 10**6}], "row 0, field 'price'"),
    "no number": ("o.json", '[{"title": "x", "price": NaN, "cost": 1}]', "row 0, field 'price': nan is not"),
    "half cents": ("o.json", [OWN | {"price": 12.505}], "row 0, field 'price': '12.505' is not"),
    "a number for a title": ("o.json", [OWN | {"title": 1984}], "row 0, field 'title': '1984' is not a text"),
    "euros": ("o.csv", HEAD + 'x,"1.299,00 €",5\n', "row 0, field 'price': '1.299,00 €' is not"),
    "other digits": ("o.csv", HEAD + "x,１２,5\n", "row 0, field 'price'"),
    "UTF-16": ("o.csv", (HEAD + "x,2,1\n").encode("utf-16"), "o.csv: not a text in UTF-8"),
    "Latin-1": ("o.csv", (HEAD + "Café,2,1\n").encode("latin-1"), "o.csv: not a text in UTF-8"),
    "git-lfs pointer": ("a.json", LFS, "a.json is a git-lfs pointer.*git lfs pull"),
    "git-lfs pointer for a table": ("o.csv", LFS, "o.csv is a git-lfs pointer.*git lfs pull"),
    "web page": ("o.jsonl", "<!DOCTYPE html><html>Not found</html>", "o.jsonl is a web page.*again"),
    "semicolons": (
        "o.csv",
        "title;price;cost\nx;2;1\n",
        "row 0: unknown column 'title;price;cost'; .* Known: title",
    ),
    "misspelt column": ("o.csv", "title,prise,cost\nx,2,1\n", "unknown column 'prise'; did you mean 'price'"),
    "misspelt key": (
        "o.jsonl",
        [OWN, OWN | {"Category": "a"}],
        "row 1: unknown column 'Category'; did you mean 'c",
    ),
    "column without a name": ("o.csv", "title,price,cost,\nx,2,1,\n", "unknown column ''"),
    "key twice": ("o.json", '[{"title": "x", "price": 2, "price": 3, "cost": 1}]', "o.json: .*'price' appears twice"),
    "column twice": ("o.csv", "title,price,cost,price\nx,2,1,3\n", "column 'price' appears twice"),
    "unquoted comma": ("o.csv", HEAD + "x,$1,299.00,5\n", "o.csv, row 0: 4 values for 3 columns; .* quotes"),
    "open quote": ("o.csv", HEAD + 'x,"2,1\n', "o.csv, line 2: not CSV"),
    "header alone": ("o.csv", HEAD, "o.csv: holds no product"),
    "empty file": ("o.csv", "", "o.csv: holds no product"),
    "an object": ("o.json", '{"products": []}', "o.json: holds a dict, not a list"),
    "line that is no object": ("o.jsonl", "3\n", r"o.jsonl, row 0, field '\(whole row\)'"),
    "both names of the cost": ("o.json", [OWN | {"lowest_price": "3"}], "row 0, field 'lowest_price': .* keep one"),
    "spreadsheet": ("o.xlsx", "PK", "o.xlsx' is not a product file: its name must end in .csv, .json, .jsonl"),
}

READ = {
    "byte order mark": ("a.json", "\ufeff" + json.dumps([ROW])),
    "control characters": (
        "a.json",
        [ROW | {"title": "Lamp\0 <|im_end|> \u202e 🪴", "description": "\u2028\x85\x0b"}],
    ),
    "line separators in a line": ("o.jsonl", json.dumps(OWN | {"title": "a\u2028b\x85c"}, ensure_ascii=False)),
    "the largest price and a cent": ("o.csv", HEAD + 'x,"$9,999,999.99",0.01\n'),
    "spaces after commas": ("o.csv", 'title, price, cost\nx, "2", 1\n'),
    "two megabytes": ("o.json", [OWN | {"description": "x" * 2_000_000}]),
    "two megabytes in a cell": ("o.csv", "title,price,cost,description\nx,2,1," + "x" * 2_000_000 + "\n"),
}


def _load(folder, name, content):
    """Loads a file: a.* as the benchmark's folder, o.* as a user's own."""
    if isinstance(content, list):
        content = "\n".join(map(json.dumps, content)) if name.endswith("l") else json.dumps(content)
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    if name == "a.json":
        return cat.load("amazon_history_price", data_dir=folder)
    return cat.load("file", data_dir=folder / name)


@pytest.mark.parametrize(("name", "content", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_read_is_refused(tmp_path, name, content, message):
    with pytest.raises(ValueError, match=message) as error:
        _load(tmp_path, name, content)
    assert len(str(error.value)) < 400
    str(error.value).encode()  # It can be printed.


@pytest.mark.parametrize(("name", "content"), READ.values(), ids=READ)
def test_what_is_odd_is_read(tmp_path, name, content):
    catalog = _load(tmp_path, name, content)
    cat.split(catalog.take([0, 0]), test=1)
    assert len(catalog) == 1 and cat.digest(catalog)


@pytest.mark.parametrize(
    ("name", "path", "message"),
    [
        ("file", None, "'file' needs data_dir"),
        ("file", "none.csv", "none.csv' is not a file"),
        ("file", "folder.json", "folder.json' is not a file"),
        ("amazon_history_price", "own.csv", "own.csv' is not a folder; .* catalog.name=file"),
        ("amazon_history_price", "folder.json", "holds no .*json file"),
    ],
)
def test_a_path_of_another_kind_is_named(tmp_path, name, path, message):
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "own.csv").write_text(HEAD)
    (tmp_path / "folder.json/broken.json").symlink_to("nowhere")
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        cat.load(name, data_dir=path and tmp_path / path)

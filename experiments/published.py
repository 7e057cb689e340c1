"""Renders the tables of docs/results/*.json into the pages that show them, and draws the README's figure.

  python -m experiments.published

A table stands between `<!-- results: NAME -->` and the blank line after it; its numbers are those of
docs/results/NAME.json, which also says by what command, at what commit, on what hardware and with which seeds.
"""

import json
import pathlib
import re
from typing import Any

from matplotlib import rc_context

from experiments import cli
from negot_jax.evaluation import figures, tables
from negot_jax.evaluation.statistics import Interval

ROOT = pathlib.Path(__file__).parents[1]
RESULTS = ROOT / "docs/results"
FIGURE = "rewards.svg"
_STYLES = {"plain": tables.plain, "signed": tables.signed, "percent": tables.percent}


def read(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def table(result: dict[str, Any]) -> str:
    """The Markdown table of a result: a cell is a text, or [value, low, high] in its column's style."""
    styles = [_STYLES[column["style"]] for column in result["columns"]]
    shown = lambda cell, style: cell if isinstance(cell, str) else style(Interval(*cell, n=0))
    rows = [list(map(shown, row, styles)) for row in result["rows"]]
    names = [column["name"] for column in result["columns"]]
    lines = [f"| {' | '.join(row)} |" for row in (names, *rows)]
    return "\n".join([lines[0], "|---" * len(names) + "|", *lines[1:]]).replace("|  |", "| |")


def rendered(page: str) -> str:
    """A page with each of its marked tables made anew."""
    make = lambda found: f"<!-- results: {found[1]} -->\n\n{table(read(found[1]))}\n\n"
    return re.sub(r"<!-- results: (\w+) -->\n+(?:\|.*\n)*\n*", make, page).rstrip("\n") + "\n"


def draw(result: dict[str, Any], path: pathlib.Path) -> None:
    """Draws the rewards of the quickstart's buyers with their intervals, best on top, as SVG."""
    shown = {"trained": "trained by GRPO", "warm start": "the same model before"}
    rewards = {shown.get(row[0], row[0]): Interval(*row[1], n=0) for row in result["rows"]}
    figure, ((axis,),) = figures.sheet(1, 1, (8, 3.4))
    figures.intervals(axis, rewards, shown["trained"])
    axis.set_xlabel("mean reward, the buyer's share of the surplus, on held-out products (95 % intervals)")
    with rc_context({"svg.hashsalt": "negot_jax", "svg.fonttype": "none"}):  # The same bytes each time.
        figure.savefig(path, format="svg", metadata={"Date": None})


def main() -> None:
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        page.write_text(rendered(page.read_text(encoding="utf-8")), encoding="utf-8")
    draw(read("quickstart"), ROOT / "docs" / FIGURE)


if __name__ == "__main__":
    cli.run(main)

"""What the best buyer earns against a scripted seller, beside the tuned linear schedule and the best ladder.

  python -m experiments.best_response --seller="neutral(tick=100)" [--seller=SELLER ...] [--output=DIR]
  python -m experiments.best_response --seller=floor --turns=3 --cost="uniform(0, 1)" --value=1 \
      --utility=surplus_per_price --grid=20

The prior is the training products of a catalogue, or a distribution of cost over list price. What each row means, and
how far it can be trusted, is told in docs/optimum.md. With an output folder, best_response.json and best_response.png
(values against the number of turns) are written there. Several sellers are told of one by one, then in one table.
"""

import ast
import dataclasses
import itertools
import json
import pathlib
import re
import sys

from absl import flags
import jax
from matplotlib.figure import Figure
import matplotlib.ticker
import numpy as np

from experiments import cli
from negot_jax import catalog as catalogs
from negot_jax.catalog.types import MIN_SCALE, NORMALISED_PRICE, budget_of
from negot_jax.game import sellers
from negot_jax.game.types import GameParams, Products
from negot_jax.solvers import best_response, ladders, market, schedules
from negot_jax.solvers.backward_induction import BestResponse
from negot_jax.solvers.utilities import UTILITIES

_FIRST = "ladder by first ask"
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#56B4E9", "#CC79A7", "#E69F00")
_MARKERS = "osDP^v"


@dataclasses.dataclass(frozen=True)
class Row:
    """A mean utility, its standard error (0 where it is exact), and, of a buyer, its offers over the list price."""

    value: float
    error: float = 0.0
    offers: tuple[float, ...] | None = None


def uniform(spec: str, value: float) -> Products:
    """Products at $100.00 worth `value` of that to the buyer, with costs as "uniform(low, high)" of the list price.

    Raises:
      ValueError: the spec cannot be read, or a number is out of range.
    """
    match = re.fullmatch(r"uniform(\(.*\))", spec.strip())
    try:
        low, high = (float(x) for x in ast.literal_eval(match[1]))
    except (TypeError, ValueError, SyntaxError) as error:
        raise ValueError(f"--cost={spec!r} cannot be read; write uniform(low, high), as in uniform(0, 1)") from error
    if not 0 <= low <= high <= 2 or not 0 < value <= 1:
        raise ValueError(f"--cost={spec!r}, --value={value}: need 0 <= low <= high <= 2 and 0 < value <= 1")
    products = market.uniform(low, high, value)
    return products.replace(scale=jax.numpy.maximum(products.scale, MIN_SCALE))


def compare(
    seller: sellers.Seller,
    prior: Products,
    played: Products,
    turns: int,
    utility: str,
    discount: float,
    grids: list[int | None],
) -> tuple[dict[str, Row], list[best_response.Solution]]:
    """The table's rows by name, and the solutions on each grid, of which the last is in the table.

    Args:
      prior: the products at one list price, for which all is solved. played: the same ones, as they are played.
    """
    keys = jax.random.split(jax.random.key(0), 3)
    options = dict(discount=discount)
    worth, params = UTILITIES[utility], GameParams(played, turns)
    solutions = best_response.refine(keys[0], seller, prior, turns, worth, grids, **options)
    best = solutions[-1]
    rungs = best.buyer.ladder() if isinstance(best.buyer, BestResponse) else None
    if rungs is None:
        rungs = ladders.tune_ladder(keys[1], seller, GameParams(prior, turns), worth, **options).offers
    ladder = ladders.Ladder(jax.numpy.asarray(rungs), market.unit(prior))
    linear, _ = schedules.tune_linear(seller, GameParams(prior, turns), keys[1], draws=4)

    def earned(buyer):
        return ladders.mean_utility(keys[2], buyer, seller, params, worth, **options)

    shares = tuple((np.asarray(rungs) / ladder.unit.price).tolist())
    reading = ladders.tune_by_first_ask(keys[1], ladder, seller, GameParams(prior, turns), worth, **options)
    found, first, fixed = Row(*earned(best.buyer)), Row(*earned(reading)), Row(*earned(ladder), shares)
    # A class of first asks may have chosen by too few episodes.
    first = max(first, fixed, key=lambda row: row.value)
    # The fitted buyer is not always the best one: a ladder needs no fit.
    if not best.exact:
        found = max(found, first, key=lambda row: row.value)
    rows = {
        "clairvoyant": Row(best.clairvoyant),
        "optimum" if best.exact else "upper bound": Row(best.upper, best.upper_error),
        "optimal buyer, played" if best.exact else "optimum (achieved)": found,
        _FIRST: dataclasses.replace(first, offers=None),
        "best ladder": fixed,
        f"tuned linear({linear.start:g}, {linear.end:g})": Row(*earned(linear)),
    }
    return rows, solutions


def table(rows: dict[str, Row]) -> str:
    """The rows, and how far the tuned linear schedule and reading the asks are from the optimum."""
    lines = [f"{'':26}   value  +- s.e.   offers / list price"]
    for name, row in rows.items():
        offers = "" if row.offers is None else " ".join(f"{offer:.3f}" for offer in row.offers)
        lines.append(f"{name:26} {row.value:7.4f}  {row.error:6.4f}   {offers}")
    *_, best, first, ladder, linear = (row.value for row in rows.values())
    room = best - linear
    reads = ""
    if room > 0:
        once, always = (100 * (value - ladder) / room for value in (first, best))
        reads = f", of which {always:.0f} % by reading the asks ({once:.0f} % by the first one alone)"
    return "\n".join([*lines, f"headroom over the tuned linear schedule: {room:.4f}{reads}"])


def refinement(grids: list[int], solutions: list[best_response.Solution]) -> str:
    """Each grid's bounds, and by how much the last step of refinement moved them."""
    lines = [
        f"grid of {grid} cents: {solution.lower:.4f} to {solution.upper:.4f}"
        for grid, solution in zip(grids, solutions, strict=True)
    ]
    moved = (solutions[-1].lower - solutions[-2].lower, solutions[-1].upper - solutions[-2].upper)
    return "\n".join([*lines, f"the last refinement moved them by {moved[0]:+.4f} and {moved[1]:+.4f}"])


def plot(by_turns: list[dict[str, Row]], utility: str, path: pathlib.Path) -> None:
    """Values against the number of turns, as PNG."""
    figure = Figure(figsize=(7, 4.6), dpi=150, layout="constrained")
    axis = figure.subplots()
    turns = np.arange(len(by_turns)) + 1
    for place, name in enumerate([*list(by_turns[-1])[:-1], "tuned linear"]):
        rows = [list(rows.values())[place] for rows in by_turns]
        style = dict(color=_COLOURS[place], marker=_MARKERS[place], capsize=3)
        axis.errorbar(turns, [row.value for row in rows], [1.96 * row.error for row in rows], label=name, **style)
    axis.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
    axis.set_xlabel("turns")
    axis.set_ylabel(f"mean {utility.replace('_', ' ')}")
    axis.grid(alpha=0.25)
    axis.legend(frameon=False)
    figure.savefig(path)


def summary(rows_of: dict[str, dict[str, Row]]) -> str:
    """One line a seller, in Markdown: its rows without their offers, and the headroom."""
    head = ("seller", "tuned linear", "best ladder", _FIRST, "achieved", "at most", "clairvoyant", "headroom")
    head = (*head, "by reading, %", "by the first ask, %")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for seller, rows in rows_of.items():
        clairvoyant, upper, best, first, ladder, linear = (row.value for row in rows.values())
        room = best - linear
        read = [f"{100 * (value - ladder) / room:.0f}" if room > 0 else "—" for value in (best, first)]
        numbers = [f"{x:.3f}" for x in (linear, ladder, first, best, upper, clairvoyant, room)]
        lines.append(f"| {' | '.join([seller, *numbers, *read])} |")
    return "\n".join(lines)


def main() -> None:
    with cli.checking_input():
        turns, grids, makers = _TURNS.value, steps(_GRID.value), {spec: sellers.make(spec) for spec in _SELLER.value}
        if _OUTPUT.value and len(makers) > 1:
            raise ValueError(f"--output={_OUTPUT.value} is for one seller; there are {len(makers)}. Leave it out.")
        if _OUTPUT.value and pathlib.Path(_OUTPUT.value).is_file():
            raise ValueError(f"--output={_OUTPUT.value} is a file. Name a folder.")
        prior, played = priors()
        for seller, grid in itertools.product(makers.values(), grids):
            if reason := best_response.unsupported(seller, prior, step=grid):
                raise ValueError(reason)
        setting, rows_of = (_UTILITY.value, _DISCOUNT.value), {}
        for spec, seller in makers.items():
            rows_of[spec], solutions = compare(seller, prior, played, turns, *setting, grids)
            print(
                f"{seller}\n{turns} turns, {len(prior.price)} products, discount {_DISCOUNT.value:g}, {_UTILITY.value}"
            )
            print(table(rows_of[spec]), flush=True)
            if len(grids) > 1:
                print(refinement(grids, solutions))
        if len(makers) > 1:
            print(summary(rows_of))
        if _OUTPUT.value:
            fewer = [compare(seller, prior, played, n, *setting, grids[-1:])[0] for n in range(1, turns)]
            write(pathlib.Path(_OUTPUT.value), [*fewer, rows_of[spec]])


def steps(given: list[str]) -> list[int | None]:
    """The grids' steps, cents.

    Raises:
      ValueError: one is not a whole number.
    """
    if wrong := [step for step in given if not re.fullmatch(r"0*[1-9]\d*", step.strip(), re.ASCII)]:
        raise ValueError(f"--grid={','.join(given)}: {wrong[0]!r} is no number of cents from 1; write --grid=400,200")
    return [int(step) for step in given] or [None]


def priors() -> tuple[Products, Products]:
    """The products at one list price, and as they are played."""
    if _COST.value is not None:
        value = budget_of(NORMALISED_PRICE) / NORMALISED_PRICE if _VALUE.value is None else _VALUE.value
        prior = uniform(_COST.value, value)
        return prior, prior
    if _VALUE.value is not None:
        raise ValueError(f"--value={_VALUE.value} goes with --cost; a catalogue has its own budgets")
    train, _ = catalogs.split(catalogs.load(_CATALOG.value, data_dir=_DATA_DIR.value))
    prior = catalogs.products(catalogs.normalise(train))
    return prior, prior if _PRICES.value == "normalised" else catalogs.products(train)


def write(folder: pathlib.Path, by_turns: list[dict[str, Row]]) -> None:
    """best_response.json and best_response.png."""
    folder.mkdir(parents=True, exist_ok=True)
    flagged = {flag.name: flag.value for flag in flags.FLAGS.get_key_flags_for_module(sys.argv[0])}
    rows_of = [{name: dataclasses.asdict(row) for name, row in rows.items()} for rows in by_turns]
    (folder / "best_response.json").write_text(json.dumps({"flags": flagged, "by_turns": rows_of}, indent=2))
    plot(by_turns, _UTILITY.value, folder / "best_response.png")
    print(f"wrote {folder}/best_response.json and best_response.png")


if __name__ == "__main__":
    _SELLER = flags.DEFINE_multi_string(
        "seller", ["neutral(tick=100)"], "A scripted seller, with fields to change; may be given several times."
    )
    _TURNS = flags.DEFINE_integer("turns", 6, "Turn limit.", lower_bound=1)
    _UTILITY = flags.DEFINE_enum("utility", "reward", list(UTILITIES), "What the buyer wants.")
    _DISCOUNT = flags.DEFINE_float("discount", 1.0, "Factor on a deal for each completed round before it.")
    _CATALOG = flags.DEFINE_string("catalog", "generated", "generated or amazon_history_price; the training products.")
    _DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of that catalogue's JSON files.")
    _PRICES = flags.DEFINE_enum(
        "prices", "normalised", ["normalised", "dollars"], "At what prices the buyers are played; solved is normalised."
    )
    _GRID = flags.DEFINE_list(
        "grid",
        [],
        "Step of the price grid, in cents of a list price of $100; several, such as 400,200,100, show its error. By "
        "default 1, which is exact; for a stochastic seller 200 for its buyer and 100 for the upper bound.",
    )
    _COST = flags.DEFINE_string("cost", None, "A prior of cost over list price instead of a catalogue: uniform(0, 1).")
    _VALUE = flags.DEFINE_float("value", None, "With --cost: budget over list price, 0.8 if not given.")
    _OUTPUT = flags.DEFINE_string("output", None, "Folder for JSON and plot; solves for fewer turns as well.")
    cli.run(main)

"""The best buyer against a scripted seller, beside the best ladders and the tuned linear schedule.

docs/optimum.md says what each row means and how far it can be trusted.
"""

import ast
from collections.abc import Callable, Mapping, Sequence
import dataclasses
import json
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np

from negot_jax.catalog.types import MIN_SCALE
from negot_jax.evaluation import figures
from negot_jax.game.types import Products
from negot_jax.solvers import best_response, ladders, market, schedules
from negot_jax.solvers.backward_induction import BestResponse
from negot_jax.solvers.problem import Problem

FILES = ("best_response.json", "best_response.png")
_FIRST = "ladder by first ask"


@dataclasses.dataclass(frozen=True)
class Row:
    """A mean utility, its standard error (0 if it is exact), and a ladder's offers over the list price."""

    value: float
    error: float = 0.0
    offers: tuple[float, ...] | None = None


Rows = dict[str, Row]  # By name: clairvoyant, bound, best buyer, ladder by first ask, best ladder, tuned linear.


def uniform_prior(spec: str, value: float) -> Products:
    """Products at $100.00 worth `value` of that to the buyer, with costs as "uniform(low, high)" of the list price.

    Raises ValueError if the spec cannot be read, or a number is out of range.
    """
    match = re.fullmatch(r"uniform(\(.*\))", spec.strip())
    try:
        low, high = (float(x) for x in ast.literal_eval(match[1]))
    except (TypeError, ValueError, SyntaxError) as error:
        raise ValueError(f"--cost={spec!r} cannot be read; write uniform(low, high), as in uniform(0, 1)") from error
    if not 0 <= low <= high <= 2 or not 0 < value <= 1:
        raise ValueError(f"--cost={spec!r}, --value={value}: need 0 <= low <= high <= 2 and 0 < value <= 1")
    products = market.uniform(low, high, value)
    return products.replace(scale=jnp.maximum(products.scale, MIN_SCALE))


def steps(given: Sequence[str]) -> list[int | None]:
    """The steps of the price grids, cents. Raises ValueError if one is not a whole number."""
    if wrong := [step for step in given if not re.fullmatch(r"0*[1-9]\d*", step.strip(), re.ASCII)]:
        raise ValueError(f"--grid={','.join(given)}: {wrong[0]!r} is no number of cents from 1; write --grid=400,200")
    return [int(step) for step in given] or [None]


def compare(
    problem: Problem, played: Products, grids: Sequence[int | None], say: Callable[[str], None]
) -> tuple[Rows, list[best_response.Solution]]:
    """The rows of a problem's seller, and the solutions on each grid of prices (cents), the last one in the rows.

    All is solved for the problem's products, at one list price; `played` are the same ones, as they are played.
    """
    keys, turns = jax.random.split(jax.random.key(0), 4), problem.turns
    say_of = lambda what: say(f"{turns} turn{'s' * (turns > 1)}: {what}")

    solutions = []
    for grid in grids:
        say_of("solving" + (f" on a grid of {grid} cents" if grid else ""))
        solutions.append(best_response.solve(keys[0], problem, step=grid))
    best = solutions[-1]
    rungs = best.buyer.ladder() if isinstance(best.buyer, BestResponse) else None
    if rungs is None:
        say_of("searching the best ladder")
        rungs = ladders.tune_ladder(keys[1], problem).offers[0]
    ladder = ladders.single(rungs, problem.unit)
    say_of("searching the best linear schedule")
    linear, _ = schedules.tune_linear(problem.seller, problem.params, keys[1], draws=4)
    reading = ladder
    if turns > 1:  # No ask comes before the only offer.
        say_of("searching the best ladder by first ask")
        reading = ladders.tune_by_first_ask(keys[1], ladder, problem)

    say_of("playing the buyers")
    of_each = lambda key, buyer: ladders.mean_utility(key, buyer, problem.replace(products=played))
    earned = lambda buyer: Row(*of_each(keys[2], buyer))
    # Classes of first asks may have been tuned on too few episodes, and the fitted buyer is not always the best one.
    chosen = lambda *found: max(found, key=lambda buyer: of_each(keys[3], buyer)[0])
    reading = chosen(reading, ladder)
    shares = tuple((np.asarray(rungs) / ladder.unit.price).tolist())
    return {
        "clairvoyant": Row(best.clairvoyant),
        "optimum" if best.exact else "upper bound": Row(best.upper, best.upper_error),
        "optimal buyer, played" if best.exact else "optimum (achieved)": earned(
            best.buyer if best.exact else chosen(best.buyer, reading)
        ),
        _FIRST: earned(reading),
        "best ladder": dataclasses.replace(earned(ladder), offers=shares),
        f"tuned linear(start={linear.start:g}, end={linear.end:g})": earned(linear),
    }, solutions


def headroom(rows: Rows) -> tuple[float, float, float] | tuple[float, None, None]:
    """The best buyer's lead over the tuned linear schedule, and the percent of it that is won by reading all asks, and
    by reading the first alone; None without a lead.
    """
    *_, best, first, ladder, linear = (row.value for row in rows.values())
    if (room := best - linear) <= 0:
        return room, None, None
    return room, *(100 * (value - ladder) / room for value in (best, first))


def table(rows: Rows) -> str:
    """The rows, and the headroom, for a terminal."""
    lines = [f"{'':26}   value  +- s.e.   offers / list price"]
    for name, row in rows.items():
        offers = "" if row.offers is None else " ".join(f"{offer:.3f}" for offer in row.offers)
        lines.append(f"{name:26} {row.value:7.4f}  {row.error:6.4f}   {offers}")
    room, always, once = headroom(rows)
    reads = "" if always is None else f", of which {always:.0f} % by reading the asks ({once:.0f} % by the first alone)"
    return "\n".join([*lines, f"headroom over the tuned linear schedule: {room:.4f}{reads}"])


def refinement(grids: Sequence[int], solutions: Sequence[best_response.Solution]) -> str:
    """The bounds on each grid, and by how much the last refinement moved them."""
    lines = [
        f"grid of {grid} cents: {solution.lower:.4f} to {solution.upper:.4f}"
        for grid, solution in zip(grids, solutions, strict=True)
    ]
    moved = (solutions[-1].lower - solutions[-2].lower, solutions[-1].upper - solutions[-2].upper)
    return "\n".join([*lines, f"the last refinement moved them by {moved[0]:+.4f} and {moved[1]:+.4f}"])


def summary(rows_of: Mapping[str, Rows]) -> str:
    """A Markdown table with one line per seller: values without offers, and the headroom."""
    head = ("seller", "tuned linear", "best ladder", _FIRST, "achieved", "at most", "clairvoyant", "headroom")
    head = (*head, "by reading, %", "by the first ask, %")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for seller, rows in rows_of.items():
        clairvoyant, upper, best, first, ladder, linear = (row.value for row in rows.values())
        room, *read = headroom(rows)
        numbers = [f"{x:.3f}" for x in (linear, ladder, first, best, upper, clairvoyant, room)]
        percent = ["—" if share is None else f"{share:.0f}" for share in read]
        lines.append(f"| {' | '.join([seller, *numbers, *percent])} |")
    return "\n".join(lines)


def save(folder: pathlib.Path, by_turns: Sequence[Rows], utility: str, flags: Mapping[str, object]) -> None:
    """Writes `FILES`: the flags and the rows for 1, 2, ... turns, and the values against the number of turns."""
    folder.mkdir(parents=True, exist_ok=True)
    rows_of = [{name: dataclasses.asdict(row) for name, row in rows.items()} for rows in by_turns]
    (folder / FILES[0]).write_text(json.dumps({"flags": dict(flags), "by_turns": rows_of}, indent=2))
    names = [*list(by_turns[-1])[:-1], "tuned linear"]
    lines = {name: [list(rows.values())[place] for rows in by_turns] for place, name in enumerate(names)}
    values = {name: [(row.value, 1.96 * row.error) for row in rows] for name, rows in lines.items()}
    figures.values_by_turns(values, f"mean {utility.replace('_', ' ')}", folder / FILES[1])

"""Known results of bargaining theory, from the project's own game and solvers, beside what is known of them.

  python -m experiments.theory                                  all of T1 to T10, at the values that are usually printed
  python -m experiments.theory T2 --discount=0.8 --rounds=3     one of them, at other values
  python -m experiments.theory real --data_dir=DATA             the same solver on the products of AmazonHistoryPrice

Each result is printed for several values of some options, unless those are given. Results and their options:

"""

import ast
from collections.abc import Callable
import difflib
import inspect
import sys
from typing import Any

from absl import flags
import numpy as np

from experiments import cli, theory_results
from experiments.theory_results import Line
from negot_jax.solvers.utilities import UTILITIES

RESULTS: dict[str, tuple[Callable[..., list[Line]], list[dict[str, Any]]]] = {
    "T1": (theory_results.ultimatum, [{}]),
    "T2": (
        theory_results.alternating_offers,
        [{"rounds": n} for n in range(1, 6)]
        + [{"discount": (0.5,), "rounds": 4}, {"discount": (0.8,)}, {"discount": (1.0,), "breakdown": 0.1}],
    ),
    "T3": (
        theory_results.rubinstein,
        [{}, {"discount": (0.9, 0.8)}, {"discount": (1.0,), "breakdown": 0.1}],
    ),
    "T4": (theory_results.posted_price, [{}]),
    "T5": (theory_results.myopic_seller, [{"offers": n} for n in (1, 2, 3, 6, 10)]),
    "T5_whole": (theory_results.whole_prices, [{"offers": n} for n in (1, 2, 3, 6, 10)]),
    "T6": (theory_results.discounted_offers, [{"offers": n} for n in (1, 2, 3, 4, 60)]),
    "T7": (theory_results.patient_seller, [{"offers": n} for n in (1, 2, 3)]),
    "T8": (theory_results.double_auction, [{}]),
    "T9": (
        theory_results.concession,
        [{"beta": beta} for beta in (0.2, 1.0, 5.0)] + [{"beta": 5.0, "progress": 0.2}],
    ),
    "T10": (theory_results.known_seller, [{"seller": "floor"}, {}, {"seller": "conceder(k=0.1, tick=25)"}]),
    "real": (
        theory_results.real,
        [{"offers": n} for n in (1, 2, 3)]
        + [{"schedule": (0.5, 1.0)}]
        + [{"utility": "reward", "ladder": (0.25, 0.35, 0.44, 0.51, 0.6, 0.7)}]
        + [{"utility": "reward", "schedule": ends} for ends in ((0.42, 0.94), (0.4, 1.0), (0.5, 1.0))]
        + [{"utility": "reward", "schedule": (0.5, 1.0), "margin": margin} for margin in (0.1, 0.2, 0.3)],
    ),
}
MEANINGS = {
    "beta": "How early a seller concedes: below 1 late, above 1 early.",
    "breakdown": "Chance that a refusal ends the game.",
    "buyer_discount": "The buyer's factor on each round of waiting.",
    "catalog": "amazon_history_price, generated or file.",
    "cost": "What the product costs the seller.",
    "costs": "How many costs stand for the distribution.",
    "data_dir": "Folder of the catalogue's JSON files; without it they are downloaded.",
    "discount": "Factor on each round of waiting; in T2 and T3 of both players, or two factors between commas.",
    "high": "The highest cost.",
    "k": "Share conceded at once.",
    "ladder": "Offers to play as well, one a turn: of the list price.",
    "list_price": "The seller's opening price, cents.",
    "low": "The lowest cost.",
    "margin": "The seller's margin: it takes cost * (1 + margin) or more.",
    "offers": "How many offers the buyer has, one a turn.",
    "prices": "How many prices the buyer may choose from.",
    "progress": "The part of the time that has passed, t/T.",
    "rounds": "How many offers there are, of both players together.",
    "schedule": "A linear schedule to play as well: first and last offer, of the budget.",
    "seller": "A scripted seller, with fields to change, such as floor(margin=0.1).",
    "seller_discount": "The seller's factor on each round of waiting.",
    "share": "The price is this share of the bid and the rest of the ask: the k of the literature.",
    "step": "Step of the grid of offers, in cents where the value (T4 to T6) or the list price is $100.00.",
    "ticks": "Ticks of the pie.",
    "types": "How many values and costs stand for the distribution.",
    "utility": f"What the buyer wants: {', '.join(UTILITIES)}.",
    "value": "What the product is worth to the buyer, its budget.",
}
_DATA = ("real",)  # Not without being named: it needs files or a download.


def options(result: str) -> dict[str, inspect.Parameter]:
    """A result's options by name, with type and default."""
    return dict(inspect.signature(RESULTS[result][0]).parameters)


def title(result: str) -> str:
    return inspect.getdoc(RESULTS[result][0]).splitlines()[0].removesuffix(".")


def parse(option: inspect.Parameter, text: str) -> Any:
    """An option's value from the command line, of its default's type.

    Raises:
      ValueError: it is of another type.
    """
    if option.annotation in (str, str | None):
        return text
    try:
        value = ast.literal_eval(text)
        if option.annotation is int:
            assert type(value) is int
            return value
        numbers = value if isinstance(value, tuple) else (value,)
        assert all(type(number) in (int, float) and np.isfinite(number) for number in numbers)
        if option.annotation is float:
            (number,) = numbers
            return float(number)
        return tuple(map(float, numbers))
    except (ValueError, SyntaxError, AssertionError, TypeError, OverflowError) as error:
        wanted = {int: "a whole number", float: "a number"}.get(option.annotation, "numbers between commas")
        raise ValueError(f"--{option.name}={text} is not {wanted}; by default it is {shown(option.default)}") from error


def settings(result: str, given: dict[str, str]) -> list[dict[str, Any]]:
    """All values of the result's options in each of its settings, with those given on the command line.

    Raises:
      ValueError: an option that the result has not, or a value of another type.
    """
    known = options(result)
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
            raise ValueError(
                f"--{name} is no option of {result}; did you mean --{near}? Its options: {', '.join(known)}"
            )
    values = {name: parse(known[name], text) for name, text in given.items()}
    defaults = {name: option.default for name, option in known.items()}
    # Settings that vary what was given make way for it.
    kept = [own for own in RESULTS[result][1] if not own.keys() & values.keys()] or [{}]
    return [defaults | own | values for own in kept]


def shown(value: Any) -> str:
    """An option's value, or a number, as text."""
    if isinstance(value, tuple | np.ndarray):
        texts = [shown(number) for number in value]
        return ",".join(texts if len(texts) <= 12 else [*texts[:10], "...", texts[-1]]) or "none"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def table(lines: list[Line]) -> str:
    rows = [("", "computed", "known", "difference")]
    for line in lines:
        known = difference = ""
        if line.known is not None:
            known = shown(line.known)
            difference = f"{np.abs(np.subtract(line.computed, line.known)).max():.1e}"
        rows.append((line.name, shown(line.computed), known, difference))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("    " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def main(*names: str) -> None:
    given = {name: flags.FLAGS[name].value for name in _OPTIONS if flags.FLAGS[name].value is not None}
    with cli.checking_input():
        for name in names:
            if name not in RESULTS:
                near = difflib.get_close_matches(name, RESULTS, n=1, cutoff=0.0)[0]
                raise ValueError(f"result {name!r} is unknown; did you mean {near!r}? Known: {', '.join(RESULTS)}")
        if given and not names:
            raise ValueError(f"--{next(iter(given))} goes with a result: name one of {', '.join(RESULTS)}")
        asked = {name: settings(name, given) for name in names or [name for name in RESULTS if name not in _DATA]}
        for name, every in asked.items():
            for place, own in enumerate(every):
                lines = RESULTS[name][0](**own)
                if place == 0:
                    print(f"{name}  {title(name)}")
                print("  " + " ".join(f"{option}={shown(value)}" for option, value in own.items()))
                print(table(lines), flush=True)


def _help() -> str:
    return "\n".join(
        f"  {name:9} {title(name)}\n"
        + "".join(f"            --{option.name}={shown(option.default)}\n" for option in options(name).values())
        for name in RESULTS
    )


if __name__ == "__main__":  # Flags are global: as a module, this one defines none.
    _OPTIONS = sorted({name for result in RESULTS for name in options(result)})
    for _name in _OPTIONS:
        flags.DEFINE_string(_name, None, MEANINGS[_name])
    sys.modules[__name__].__doc__ += _help()
    cli.run(main, names=True)

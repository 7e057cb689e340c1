"""Evaluation tables: for the terminal, as Markdown and as JSON, all made from one `Summary`."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import json
import os
import pathlib
import re
import textwrap
from typing import Any, Literal

import tabulate

from negot_jax.config import require_known
from negot_jax.evaluation.episodes import Row
from negot_jax.evaluation.statistics import Interval, Summary
from negot_jax.game.types import Argument

FILE = "evaluation.json"  # In a report.
MISSING = "—"
WIDTH = 160  # columns of the terminal that the text tables keep to
_PRICES = {"normalized": "normalized to the list price", "dollars": "in dollars"}
_DECODING = {"constrained": ", decoding constrained by the grammar", "free": ", decoding free", "": ""}

Style = Callable[[Interval], str]


@dataclasses.dataclass(frozen=True)
class TrainedRun:
    """A run whose buyer was played: its id and seed, and after how many iterations."""

    run_id: str
    seed: int
    iterations: int


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the numbers were measured on; printed with them and saved beside them."""

    catalog: str
    products: int
    episodes: int  # of each product, in each run
    prices: Literal["normalized", "dollars"]
    decoding: Literal["constrained", "free"]
    seller: str
    runs: tuple[TrainedRun, ...]  # more than one are pooled
    identity: Mapping[str, Any]  # what pooled runs must agree in: their configuration but for the seed, and its inputs
    command: str  # makes the numbers again
    buyer: str = ""  # who bought, where the rows are sellers
    # Mean reward on the training products: the best response's, and what no buyer and no clairvoyant exceeds.
    bounds: tuple[float, float, float] | None = None

    def __post_init__(self):
        require_known("prices", self.prices, _PRICES)
        require_known("decoding", self.decoding, _DECODING)

    @property
    def side(self) -> str:
        """The side of the rows."""
        return "seller" if self.buyer else "buyer"


def plain(interval: Interval, form: str = "z.3f") -> str:
    low, high = (re.sub(r"^([+-]?)0\.", r"\1.", f"{bound:{form}}") for bound in (interval.low, interval.high))
    return f"{interval.value:{form}} [{low}, {high}]"


def signed(interval: Interval) -> str:
    return plain(interval, "+z.3f")


def percent(interval: Interval) -> str:
    low, high = (f"{100 * bound:z.{0 if 0.1 <= bound <= 0.99 else 1}f}" for bound in (interval.low, interval.high))
    return f"{100 * interval.value:z.1f} [{low}, {high}]"


def hits(interval: Interval) -> str:
    """Of a rate: how many episodes it holds for."""
    return f"{round(interval.value * interval.n):,}"


def misses(interval: Interval) -> str:
    return f"{round((1 - interval.value) * interval.n):,}"


DIFFERENCE, GAP, HEADROOM = "differences", "gaps", "headroom"  # In place of a metric: a field of the summary, by row.

_OPTIMUM = "Against the best response"
_FORMAT = "Format errors of the buyer"
_SELLER = "What the seller did, per episode"
_FAILED = "Episodes, of which the incomplete ones count in no other table"
_ARGUMENTS = "Messages of the buyer that argue, per episode: the matter"
_MANNERS = "Messages of the buyer that argue, per episode: the person"


def _kinds(first: Argument, last: Argument) -> dict[str, tuple[str, Style]]:
    return {kind.name.lower(): (f"arguments/{kind.name.lower()}", plain) for kind in Argument if first <= kind <= last}


TABLES: dict[str, dict[str, tuple[str, Style]]] = {
    "Results": {
        "reward": ("reward", plain),
        "Δ reward": (DIFFERENCE, signed),
        "deal rate %": ("deal_rate", percent),
        "bargained ratio": ("bargained_ratio", plain),
        "first offer / B": ("first_offer_ratio", plain),
        "overshoot MI %": ("overshoot/mi", percent),
        "overshoot CI %": ("overshoot/ci", percent),
    },
    _OPTIMUM: {"gap in reward": (GAP, plain), "headroom recovered %": (HEADROOM, percent)},
    "How the other episodes end, and how long a deal takes": {
        "buyer quits MI %": ("buyer_quit/mi", percent),
        "buyer quits CI %": ("buyer_quit/ci", percent),
        "seller quits MI %": ("seller_quit/mi", percent),
        "seller quits CI %": ("seller_quit/ci", percent),
        "turn limit %": ("turn_limit", percent),
        "turns to deal": ("turns_to_deal", plain),
        "gains realized %": ("efficiency", percent),
    },
    _FORMAT: {
        "all %": ("format_error", percent),
        "no action %": ("format_error/missing", percent),
        "unreadable %": ("format_error/unreadable", percent),
        "cut %": ("format_error/cut", percent),
        "no offer to DEAL %": ("format_error/deal_without_offer", percent),
        "another price %": ("format_error/deal_mismatch", percent),
    },
    _SELLER: {
        "illegal moves replaced": ("interventions", plain),
        "asks above the list price or its own last": ("high_asks", plain),
    },
    _ARGUMENTS: {"all": ("arguments", plain)} | _kinds(Argument.COMPARISON, Argument.URGENCY),
    _MANNERS: _kinds(Argument.COURTESY, Argument.FAIRNESS),
    _FAILED: {"complete": ("complete", hits), "incomplete": ("complete", misses)},
}


def shown(summary: Summary) -> dict[str, dict[str, tuple[str, Style]]]:
    """The tables that the summary has numbers for."""

    def differs(metric: str, usual: float) -> bool:
        """Whether any player's value is anything but the usual one."""
        return any(own[metric] is not None and own[metric].value != usual for own in summary.metrics.values())

    tables = TABLES | ({} if summary.gaps else {_OPTIMUM: {}})
    for title, usual in ((_FORMAT, 0), (_SELLER, 0), (_ARGUMENTS, 0), (_MANNERS, 0), (_FAILED, 1)):
        tables[title] = {name: column for name, column in TABLES[title].items() if differs(column[0], usual)}
    return {title: columns for title, columns in tables.items() if columns}


def cells(summary: Summary, columns: dict[str, tuple[str, Style]], side: str = "buyer") -> list[dict[str, str]]:
    """Returns a dict for each row, of its cells by column header; `MISSING` where a metric has no value."""

    def cell(row: Row, metric: str, style: Style) -> str:
        compared = metric in (DIFFERENCE, GAP, HEADROOM)
        known = getattr(summary, metric).get(row) if compared else summary.metrics[row][metric]
        return MISSING if known is None else style(known)

    return [
        {side: row.label, **{header: cell(row, metric, style) for header, (metric, style) in columns.items()}}
        for row in summary.metrics
    ]


def tabulated(rows: Sequence[Mapping[str, str]], form: str, **options: Any) -> str:
    """A table of texts by column header, in a form of `tabulate`; options are `tabulate`'s."""
    if form == "github":
        rows = [{header: cell.replace("|", r"\|") for header, cell in row.items()} for row in rows]
    return tabulate.tabulate(rows, "keys", tablefmt=form, disable_numparse=True, **options)


def paragraph(summary: Summary, side: str = "buyer") -> str:
    """The result in three sentences: what is earned, how, and how far from the best."""
    own = summary.metrics[summary.reference]

    def lead(row: Row) -> str:
        behind = summary.differences[row]
        ahead = Interval(-behind.value, -behind.high, -behind.low, behind.n)
        return f"{signed(ahead)} on {row.label}"

    start = "".join(f", {lead(row)}" for row in summary.metrics if row.kind == "start")
    ratio = "" if own["bargained_ratio"] is None else f" at {plain(own['bargained_ratio'])} of the surplus"
    failed = "its budget" if side == "buyer" else "the buyer's budget"
    told = [
        f"The {summary.reference.label} {side} earns a mean reward of {plain(own['reward'])}{start}.",
        f"It closes {percent(own['deal_rate'])} % of its episodes with a deal{ratio}; {percent(own['overshoot'])} % "
        f"end above {failed} and {percent(own['format_error'])} % in a format error.",
    ]
    scripted = [row for row in summary.differences if row.kind in ("scripted", "tuned")]
    if summary.reference in summary.gaps:
        share = summary.headroom.get(summary.reference)
        baseline = "the tuned schedule" if side == "buyer" else "the first scripted seller"
        told.append(
            f"The best response found earns {plain(summary.gaps[summary.reference])} more"
            + ("." if share is None else f"; of its headroom over {baseline} {percent(share)} % is recovered.")
        )
    elif scripted:
        best = max(scripted, key=lambda row: summary.metrics[row]["reward"].value)
        told.append(f"Its lead is {lead(best)}, the best scripted {side}.")
    return " ".join(told)


def caption(summary: Summary, settings: Settings) -> str:
    """Says what was measured, and how to read it."""
    other = f"buyer {settings.buyer}" if settings.buyer else f"seller {settings.seller}"
    decoding = _DECODING[settings.decoding]
    if (temperature := settings.identity.get("evaluation.sampling.temperature")) is not None:
        decoding += f" at temperature {temperature:g}"
    seeds = ", ".join(str(run.seed) for run in settings.runs)
    trained = f", training seed{'s' * (len(settings.runs) > 1)} {seeds}" if settings.runs else ""
    drawn = "products" if len(settings.runs) <= 1 else "products and training runs"
    told = (
        f"{settings.products} products of {settings.catalog} × {settings.episodes} episodes, {other}, "
        f"prices {_PRICES[settings.prices]}{decoding}{trained}. "
        f"Δ: minus the row '{summary.reference.label}', paired by product. "
        f"In brackets: 95 % intervals of a bootstrap over {drawn} (for rates of 0 or 100 %: Wilson's). "
        "MI / CI: products whose budget is / is not above the cost."
    )
    if settings.buyer and summary.gaps:
        told += (
            " Best response: the best ladders of asks found against these buyers, on the training products. Headroom: "
            "how much more it earns than the first scripted seller."
        )
    elif settings.bounds is not None:
        found, upper, clairvoyant = settings.bounds
        told += (
            " Best response: the best buyer found against this seller, from the training products, where it earns "
            f"{found:.3f}; no buyer earns more than {upper:.3f} there, nor one who knows the cost and the seller's "
            f"type more than {clairvoyant:.3f}. Headroom: how much more it earns than the tuned linear schedule."
        )
    return told


def text(summary: Summary, settings: Settings) -> str:
    """Returns the tables for a terminal of `WIDTH` columns; the rows' names are wrapped where they must be."""
    told = [textwrap.fill(paragraph(summary, settings.side), WIDTH)]
    for title, columns in shown(summary).items():
        rows = cells(summary, columns, settings.side)
        numbers = sum(2 + max(len(row[header]) for row in rows) for header in columns)
        widths = [max(WIDTH - numbers, 10)] + [None] * len(columns)
        rows = [{header.replace(" ", "\n", 1): cell for header, cell in row.items()} for row in rows]
        aligned = ("left", *["right"] * len(columns))
        told.append(f"{title}\n\n{tabulated(rows, 'simple', maxcolwidths=widths, colalign=aligned)}")
    return "\n\n".join([*told, textwrap.fill(caption(summary, settings), WIDTH)]) + "\n"


def markdown(summary: Summary, settings: Settings) -> str:
    """Returns the tables as GitHub Markdown."""
    told = [paragraph(summary, settings.side)]
    for title, columns in shown(summary).items():
        aligned = ("left", *["right"] * len(columns))
        told.append(f"## {title}\n\n{tabulated(cells(summary, columns, settings.side), 'github', colalign=aligned)}")
    return "\n\n".join([*told, caption(summary, settings), f"`{settings.command}`"]) + "\n"


def to_json(summary: Summary, settings: Settings) -> dict[str, Any]:
    """The settings and, for each row, every metric as {value, low, high, n}, null where it has no value."""
    interval = lambda known: known and dataclasses.asdict(known)
    return {
        "settings": dataclasses.asdict(settings),
        "reference": summary.reference.label,
        "rows": [
            row.to_json()
            | {"label": row.label, "metrics": {name: interval(known) for name, known in metrics.items()}}
            | {name: interval(getattr(summary, name).get(row)) for name in (DIFFERENCE, GAP, HEADROOM)}
            for row, metrics in summary.metrics.items()
        ],
    }


def save(directory: str | os.PathLike, summary: Summary, settings: Settings) -> None:
    """Writes `FILE` and `table.md` into a directory, which is made if it is not there."""
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    evaluation = json.dumps(to_json(summary, settings), indent=2, ensure_ascii=False, allow_nan=False)
    (directory / FILE).write_text(evaluation + "\n", encoding="utf-8")
    (directory / "table.md").write_text(markdown(summary, settings), encoding="utf-8")

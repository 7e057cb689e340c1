"""The paper's tables (arXiv 2604.09855) from episodes: Markdown, CSV and LaTeX."""

from collections.abc import Iterator, Sequence
import csv
import dataclasses
import pathlib
from typing import Literal

import numpy as np

from negot_jax.evaluation import statistics, tables
from negot_jax.evaluation.episodes import TRAINED, Episode, Row, Rules
from negot_jax.evaluation.statistics import Interval, Summary, Totals
from negot_jax.evaluation.tables import DIFFERENCE, GAP, MISSING

# What the paper reports of its trained buyer in Table 1: reward, deal rate, bargained ratio, overshoot.
REPORTED = "0.766 / 92.0 % / 0.839 / 0.1 %"
_REPORTED_COLUMN = "reported by the paper †"
_TITLES = {
    "main": "Results on held-out products (the paper's Table 1)",
    "unseen_sellers": "Against sellers that were not trained against (its Table 2)",
    "personas": "Against adversarial personas (its Table 3)",
    "mi_ci": "Products of mutual and of conflicting interest (its MI / CI split)",
    "scale": "Sizes of the buyer's model",
    "matrix": "Reward of the trained buyer, by the seller it trained against (row) and the one it meets (column)",
}
NAMES = tuple(_TITLES)
_BRACKETS = (
    "In brackets: 95 % intervals of a bootstrap over products and seeds (Wilson's bounds for rates of 0 or 100 %)."
)
_COMPARED = (
    "Difference: minus the trained buyer, paired by product and seed. Gap: the reward of the best response minus the "
    "row's. A false deal is one below the seller's cost."
)
_NOTES = {
    "matrix": "A dash: the two do not speak the same tokens.",
    "scale": "Difference: minus the trained buyer of the smallest model, paired by product, on the seeds that both "
    "have. A dash: it was trained against another seller, or on other products.",
    "main": f"{_COMPARED} † Reward / deal rate / bargained ratio / overshoot that the paper reports of its trained 30B "
    "buyer: on another split, another seller, and not measured here.",
    "personas": f"{_COMPARED} The personas' prices are ours: the paper gives no numbers for them.",
}
COLUMNS: dict[str, tuple[str, tables.Style]] = {
    "reward": ("reward", tables.plain),
    "difference": (DIFFERENCE, tables.signed),
    "deal rate %": ("deal_rate", tables.percent),
    "bargained ratio": ("bargained_ratio", tables.plain),
    "first offer / B": ("first_offer_ratio", tables.plain),
    "overshoot %": ("overshoot", tables.percent),
    "format errors %": ("format_error", tables.percent),
    "buyer quits %": ("buyer_quit", tables.percent),
    "seller quits %": ("seller_quit", tables.percent),
    "interventions": ("interventions", tables.plain),
    "false deals %": ("false_deal", tables.percent),
    "gap": (GAP, tables.plain),
    "complete": ("complete", tables.hits),
    "incomplete": ("complete", tables.misses),
}
# Columns that a terminal has no room for.
_WIDE = {"first offer / B", "format errors %", "buyer quits %", "seller quits %", "interventions", "complete"}
_WIDE |= {"incomplete", "seeds", _REPORTED_COLUMN}


@dataclasses.dataclass(frozen=True)
class Pairing:
    """What one training configuration played against one seller: the episodes of each seed's run.

    trained: names the configuration: the seller that it trained against, and more where that does not tell it apart;
    empty in the report of a single run.
    parameters: of its model.
    """

    trained: str
    parameters: int
    seller: str
    runs: tuple[tuple[Episode, ...], ...]

    @property
    def seeds(self) -> list[int]:
        return [run[0].seed for run in self.runs]

    @property
    def rules(self) -> Rules:
        return self.runs[0][0].rules

    @property
    def scenarios(self) -> set[tuple[int, ...]]:
        return {(own.product, own.episode, own.price, own.budget, own.cost) for own in self.runs[0]}


@dataclasses.dataclass(frozen=True)
class Table:
    """A finished table. lines: cells by column header, as text. data: the same as numbers, a line for each value."""

    name: str
    lines: list[dict[str, str]]
    data: list[dict[str, object]]

    def save(self, folder: pathlib.Path) -> None:
        """Writes NAME.md, NAME.csv and NAME.tex."""
        note = f"{_BRACKETS} {_NOTES.get(self.name, _COMPARED)}"
        told = f"## {_TITLES[self.name]}\n\n{tables.tabulated(self.lines, 'github')}\n\n{note}\n"
        (folder / f"{self.name}.md").write_text(told, encoding="utf-8")
        plain = lambda text: text.replace(MISSING, "--").replace("†", "*")
        cells = [{plain(header): plain(cell) for header, cell in line.items()} for line in self.lines]
        (folder / f"{self.name}.tex").write_text(tables.tabulated(cells, "latex_booktabs") + "\n", encoding="utf-8")
        with (folder / f"{self.name}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(self.data[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.data)

    def text(self) -> str:
        """The most telling columns, for a terminal."""
        kept = [{name: cell for name, cell in line.items() if name not in _WIDE} for line in self.lines]
        return f"{_TITLES[self.name]}\n\n{tables.tabulated(kept, 'simple')}\n"


def make(name: str, played: Sequence[Pairing]) -> Table:
    """A table of `NAMES`, of what was played. Raises ValueError as `require_identity`, or if seeds do not match."""
    if name == "matrix":
        return _matrix(played)
    if name == "scale":
        played = sorted(played, key=lambda own: own.parameters)
    lines, data = [], []
    for own in played:
        for part in ("MI", "CI") if name == "mi_ci" else ("all",):
            if (summary := _summary(own, part)) is None:
                continue
            if name == "scale":
                summary = dataclasses.replace(summary, differences=_behind(played[0], own))
            shown = [row for row in summary.metrics if name in ("main", "mi_ci") or row.kind != "checkpoint"]
            shown = [row for row in shown if name != "scale" or row.kind in ("start", "trained")]
            lines += _lines(name, own, part, summary, shown)
            data += _data(own, part, summary, shown)
    return Table(name, lines, data)


def _summary(own: Pairing, part: Literal["all", "MI", "CI"]) -> Summary | None:
    """Of all products, or of those of one interest; None where there are none."""
    runs = [statistics.totals(run) for run in own.runs]
    for totals in runs:
        for row, metrics in totals.items():
            require_identity(f"{row.label} against {own.seller}", metrics, own.rules)
    mutual = {episode.product: episode.budget > episode.cost for episode in own.runs[0]}
    chosen = [product for product, is_mutual in mutual.items() if part == "all" or is_mutual == (part == "MI")]
    if not chosen:
        return None
    cut = [{row: {name: x[:, chosen] for name, x in own.items()} for row, own in totals.items()} for totals in runs]
    return statistics.summarize(cut)


def _behind(smallest: Pairing, own: Pairing) -> dict[Row, Interval]:
    """The reward of each row less that of the smallest model's trained buyer, on the scenarios that both played."""
    reference = Row("trained", f"trained, {smallest.parameters:,} parameters")
    common = [seed for seed in own.seeds if seed in smallest.seeds]
    if own.seller != smallest.seller or own.scenarios != smallest.scenarios or not common:
        return {}
    of = lambda pairing, seed: statistics.totals(pairing.runs[pairing.seeds.index(seed)])
    pairs = [of(own, seed) | {reference: of(smallest, seed)[TRAINED]} for seed in common]
    found = statistics.summarize(pairs, reference).differences
    return {row: difference for row, difference in found.items() if own is not smallest or row != TRAINED}


def require_identity(what: str, totals: Totals, rules: Rules) -> None:
    """Raises ValueError unless the sums of every product obey reward = deal rate x bargained ratio - rate of -1.

    Only the paper's reward does, and only where regulation keeps the seller's floor.
    """
    if rules.reward != "paper" or rules.regulation == "none":
        return
    missing_N = totals["reward"][0] - (totals["bargained_ratio"][0] - totals["penalty"][0])
    if (worst := np.abs(missing_N).max()) > 1e-3:
        raise ValueError(
            f"{what}: the rewards of a product differ by {worst:.4g} from its bargained ratios less its failures. The "
            "episodes are damaged, or were played by other rules than they say."
        )


def _lines(name: str, own: Pairing, part: str, summary: Summary, rows: Sequence[Row]) -> Iterator[dict[str, str]]:
    columns = {header: column for header, column in COLUMNS.items() if header != "gap" or summary.gaps}
    if own.rules.regulation != "none":
        columns.pop("false deals %")
    by_label = {cells["buyer"]: cells for cells in tables.cells(summary, columns)}
    for row in rows:
        told = {"trained against": own.trained, "parameters": f"{own.parameters:,}"} if name == "scale" else {}
        told |= {"seller": own.seller, **({"products": part} if name == "mi_ci" else {})}
        told |= by_label[row.label] | {"seeds": ", ".join(map(str, own.seeds))}
        if name == "main":
            told[_REPORTED_COLUMN] = REPORTED if row.kind == "trained" else MISSING
        yield told


def _data(own: Pairing, part: str, summary: Summary, rows: Sequence[Row]) -> Iterator[dict[str, object]]:
    facts = {"trained against": own.trained, "parameters": own.parameters, "seller": own.seller, "products": part}
    seeds = " ".join(map(str, own.seeds))
    for row in rows:
        compared = {name: getattr(summary, name).get(row) for name in (DIFFERENCE, GAP)}
        for metric, known in (summary.metrics[row] | compared).items():
            if known is not None:
                yield {**facts, "buyer": row.label, "metric": metric, **dataclasses.asdict(known), "seeds": seeds}


def _matrix(played: Sequence[Pairing]) -> Table:
    sellers, lines, data = dict.fromkeys((own.seller for own in played), MISSING), {}, []
    for own in played:
        summary = _summary(own, "all")
        line = lines.setdefault(own.trained, {"trained against": own.trained, **sellers, "seeds": ""})
        line[own.seller] = tables.plain(summary.metrics[summary.reference]["reward"])
        line["seeds"] = ", ".join(map(str, own.seeds))
        data += _data(own, "all", summary, [summary.reference])
    return Table("matrix", list(lines.values()), data)

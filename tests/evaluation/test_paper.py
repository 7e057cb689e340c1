"""The paper's tables and figures from made-up episodes: their cells, their files, and the identity that they check."""

import csv
import dataclasses

from matplotlib import image
import numpy as np
import pytest

from negot_jax.evaluation import paper, paper_figures
from negot_jax.evaluation.episodes import BEST_RESPONSE, TRAINED, Row, Rules
from negot_jax.evaluation.paper import Pairing
from negot_jax.game.types import End
from tests.evaluation.made import deals, episode

START = Row("start", "warm start")


def run(seed: int, **changes):
    """Six products, two of which are of conflicting interest and end in overshoot."""
    prices = np.random.default_rng(seed).integers(5000, 7900, (4, 2))
    over = [
        episode(buyer=row, product=product, episode=number, cost=9000, scale=1000, end=End.OVERSHOOT,
                messages=episode().messages[:1], deal_price=None, reward=-1.0, interventions=0)
        for row in (START, TRAINED, BEST_RESPONSE) for product in (4, 5) for number in range(2)
    ]  # fmt: skip
    played = [*deals(prices + 100, START), *deals(prices), *deals(prices * 0 + 5000, BEST_RESPONSE), *over]
    return tuple(dataclasses.replace(own, seed=seed, hidden={"floor": "$45.50"}, **changes) for own in played)


def played(seller="neutral", seeds=(0, 1), trained="neutral", **changes) -> Pairing:
    return Pairing(trained, 1234, seller, tuple(run(seed, **changes) for seed in seeds))


def cells(table, **which):
    (line,) = [line for line in table.lines if all(line[name] == value for name, value in which.items())]
    return line


def test_the_main_table_pools_seeds_and_marks_what_the_paper_reports():
    own = played()
    table = paper.make("main", [own])
    trained, start = cells(table, buyer="trained"), cells(table, buyer="warm start")
    mean = np.mean([episode.reward for run in own.runs for episode in run if episode.buyer == TRAINED])
    assert trained["reward"].startswith(f"{mean:.3f}") and trained["seeds"] == "0, 1"
    assert trained["overshoot %"].startswith("33.3") and start["difference"].startswith("-0.022")
    assert (trained["complete"], trained["incomplete"]) == ("24", "0")
    column = next(header for header in trained if "reported" in header)
    assert column.endswith("†") and trained[column] == paper.REPORTED and start[column] == "—"
    assert "false deals %" not in trained and float(cells(table, buyer="warm start")["gap"].split()[0]) > 0


def test_mutual_and_conflicting_interest_stand_apart():
    table = paper.make("mi_ci", [played()])
    assert cells(table, buyer="trained", products="MI")["overshoot %"].startswith("0.0")
    assert cells(table, buyer="trained", products="CI")["overshoot %"].startswith("100.0")
    assert cells(table, buyer="trained", products="CI")["complete"] == "8"


def test_unregulated_sellers_have_false_deals():
    false = [dataclasses.replace(own, cost=7950) for own in run(0, rules=Rules(regulation="none"))]
    table = paper.make("personas", [Pairing("neutral", 1, "begging", (tuple(false),))])
    assert cells(table, buyer="trained")["false deals %"].startswith("66.7")


def test_rows_that_break_the_identity_are_refused():
    broken = [dataclasses.replace(own, rules=Rules(), deal_price=own.deal_price and 20_000) for own in run(0)]
    with pytest.raises(ValueError, match="against neutral: the rewards of a product differ by"):
        paper.make("main", [Pairing("neutral", 1, "neutral", (tuple(broken),))])


def test_the_matrix_has_a_cell_for_each_pair_that_was_played():
    grid = [played(), played("boulware"), played("neutral", trained="floor", seeds=(3,))]
    table = paper.make("matrix", grid)
    assert [line["trained against"] for line in table.lines] == ["neutral", "floor"]
    assert table.lines[1]["boulware"] == "—" and table.lines[1]["seeds"] == "3"
    assert {(line["seller"], line["metric"]) for line in table.data} >= {("boulware", "reward"), ("boulware", "gaps")}


def test_sizes_are_compared_with_the_smallest_trained_buyer():
    small, large = played(), dataclasses.replace(played(seeds=(1,)), parameters=99_999)
    elsewhere = dataclasses.replace(played("boulware"), parameters=500_000)
    table = paper.make("scale", [elsewhere, large, small])
    assert [line["parameters"] for line in table.lines] == ["1,234"] * 2 + ["99,999"] * 2 + ["500,000"] * 2
    assert cells(table, parameters="1,234", buyer="trained")["difference"] == "—"
    assert cells(table, parameters="99,999", buyer="trained")["difference"].startswith("+0.000 [")
    alone = cells(paper.make("main", [played(seeds=(1,))]), buyer="warm start")
    assert cells(table, parameters="99,999", buyer="warm start")["difference"] == alone["difference"]
    assert cells(table, parameters="500,000", buyer="warm start")["difference"] == "—"


def test_every_form_is_written(tmp_path):
    odd = Row("scripted", "a|b_c & 50 %")
    renamed = tuple(dataclasses.replace(own, buyer=odd) if own.buyer == START else own for own in run(0))
    table = paper.make("main", [Pairing("neutral", 1, "neutral", (renamed,))])
    table.save(tmp_path)
    markdown, latex = ((tmp_path / f"main.{form}").read_text() for form in ("md", "tex"))
    assert r"a\|b_c & 50 %" in markdown and markdown.startswith("## ") and "not measured here" in markdown
    assert r"\toprule" in latex and r"a|b\_c \& 50 \%" in latex and "—" not in latex and "†" not in latex
    with (tmp_path / "main.csv").open() as file:
        found = {(line["buyer"], line["metric"]): line for line in csv.DictReader(file)}
    reward = found["trained", "reward"]
    assert f"{float(reward['value']):.3f} [" in cells(table, buyer="trained")["reward"] and reward["n"] == "12"
    assert float(reward["low"]) <= float(reward["value"]) <= float(reward["high"])
    assert "trained" in table.text() and max(map(len, table.text().splitlines())) < 160


@pytest.mark.parametrize(
    ("name", "several"), [("phases", True), *((name, False) for name in paper_figures.NAMES), ("matrix", True)]
)
def test_every_figure_is_drawn(name, several, tmp_path):
    iterations = np.arange(30.0)
    metrics = ("first_offer_ratio", "deal_rate", *(["bargained_ratio"] if several else []))  # A run without deals.
    metrics += ("arguments", "arguments/loyalty") if several else ()
    curves = {"iteration": iterations} | dict.fromkeys(metrics, np.where(iterations == 3, np.nan, iterations / 30))
    own = [played(), played("boulware", trained="boulware")] if several else [played(seeds=(0,))]
    paths = paper_figures.draw(name, own, {"neutral": [curves, curves], "boulware": [curves]}, tmp_path)
    assert len(paths) == (4 if several and name != "matrix" else 2) and len(set(paths)) == len(paths)
    assert all(image.imread(path).std() > 0 for path in paths if path.suffix == ".png")
    assert all(path.read_bytes().startswith(b"%PDF") for path in paths if path.suffix == ".pdf")


def test_nobody_beats_the_frontier():
    """At the floor of every product: the best deals first, and no deal where the floor is above the budget."""
    rich = dict(hidden={"floor": "$20"}, budget=8000, scale=6000)
    poor = dict(hidden={"floor": "$65.50"}, budget=8000, scale=3000)
    never = dict(hidden={"floor": "$90"}, budget=8000, scale=3000)
    rates, ratios = paper_figures.frontier([episode(**own) for own in (poor, rich, never, never)])
    np.testing.assert_allclose(rates, [0.25, 0.5])
    np.testing.assert_allclose(ratios, [1.0, (1.0 + 1450 / 3000) / 2])
    assert paper_figures.frontier([episode()]) is None

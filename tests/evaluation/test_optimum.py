"""Buyers compared against one seller: their order, what reading wins, and what is written."""

import json
import re

import numpy as np
import pytest

from negot_jax.evaluation import optimum
from negot_jax.game import sellers
from negot_jax.solvers import market
from negot_jax.solvers.problem import Problem
from negot_jax.solvers.utilities import UTILITIES

SELLER = "linear(k=0.2, tick=500)"


@pytest.fixture(scope="module")
def compared():
    """The rows for two turns, and what was said meanwhile."""
    products = market.make(10_000, 8_000, np.linspace(2_000, 9_000, 40).astype(int))
    problem, said = Problem(sellers.make(SELLER), products, 2, UTILITIES["reward"]), []
    return optimum.compare(problem, products, [500], said.append)[0], said


def test_rows_are_in_order(compared):
    rows, _ = compared
    clairvoyant, best, played, first, ladder, linear = (row.value for row in rows.values())
    assert clairvoyant + 1e-6 >= best and best + 1e-6 >= first > ladder >= linear
    assert played == pytest.approx(best, abs=1e-4)


def test_both_tables_tell_what_reading_wins(compared):
    rows, _ = compared
    last = optimum.table(rows).splitlines()[-1]
    found = re.search(r"of which (\d+) % by reading the asks \((\d+) % by the first alone\)$", last)
    head, _, line = optimum.summary({SELLER: rows}).splitlines()
    told = dict(zip(head.strip("| ").split(" | "), line.strip("| ").split(" | "), strict=True))
    assert told["seller"] == SELLER
    assert found.groups() == (told["by reading, %"], told["by the first ask, %"])
    assert 50 < int(found[2]) <= int(found[1]) <= 100


def test_every_step_is_announced(compared):
    _, said = compared
    steps = [line.removeprefix("2 turns: ") for line in said]
    assert steps[0] == "solving on a grid of 500 cents" and steps[-1] == "playing the buyers" and len(steps) == 5


def test_what_is_saved(compared, tmp_path):
    rows, _ = compared
    optimum.save(tmp_path / "new", [rows], "reward", {"turns": 2})
    saved = json.loads((tmp_path / "new/best_response.json").read_text())
    assert saved["flags"] == {"turns": 2}
    (written,) = saved["by_turns"]
    assert {name: row["value"] for name, row in written.items()} == {name: row.value for name, row in rows.items()}
    assert (tmp_path / "new/best_response.png").stat().st_size > 0

"""The comparison of buyers, its table, and the files that the command writes."""

import json
import re

import numpy as np
import pytest

from experiments import best_response
from negot_jax.game import sellers
from negot_jax.solvers import market
from tests import forked

SELLER = "linear(k=0.2, tick=500)"


def assert_in_order(rows: dict[str, dict]) -> None:
    clairvoyant, optimum, played, first, ladder, linear = (row["value"] for row in rows.values())
    assert clairvoyant + 1e-6 >= optimum and optimum + 1e-6 >= first > ladder >= linear
    assert played == pytest.approx(optimum, abs=1e-4)


def test_rows_are_in_order_and_tell_what_reading_wins():
    products = market.make(10_000, 8_000, np.linspace(2_000, 9_000, 40).astype(int))
    seller = sellers.make(SELLER)
    rows, _ = best_response.compare(seller, products, products, 2, "reward", 1.0, [500])
    assert_in_order({name: vars(row) for name, row in rows.items()})
    last = best_response.table(rows).splitlines()[-1]
    found = re.fullmatch(r"headroom .*, of which (\d+) % by reading the asks \((\d+) % by the first one alone\)", last)
    head, _, line = best_response.summary({SELLER: rows}).splitlines()
    told = dict(zip(head.strip("| ").split(" | "), line.strip("| ").split(" | "), strict=True))
    assert told["seller"] == SELLER
    assert found.groups() == (told["by reading, %"], told["by the first ask, %"])
    assert 50 < int(found[2]) <= int(found[1]) <= 100


@pytest.mark.slow
def test_what_is_written_is_what_is_printed(tmp_path):
    arguments = [f"--seller={SELLER}", "--turns=2", "--cost=uniform(0.2, 0.9)", "--grid=500", f"--output={tmp_path}"]
    code, out, err = forked.run("experiments.best_response", arguments)
    assert code == 0, err
    printed = re.findall(r"^(.{26}) +(\d\.\d{4}) ", out, re.MULTILINE)
    one_turn, two_turns = json.loads((tmp_path / "best_response.json").read_text())["by_turns"]
    assert printed == [(f"{name:26}", f"{row['value']:.4f}") for name, row in two_turns.items()]
    assert_in_order(two_turns)
    # There is no ask before the only offer.
    assert one_turn["ladder by first ask"]["value"] == one_turn["best ladder"]["value"]
    assert (tmp_path / "best_response.png").stat().st_size > 0

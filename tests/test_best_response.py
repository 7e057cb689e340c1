"""The command: what it prints is what it writes, and it is never silent for long."""

import json
import re

import pytest

from tests import forked


@pytest.mark.slow
def test_what_is_written_is_what_is_printed(tmp_path):
    seller = "--seller=linear(k=0.2, tick=500)"
    arguments = [seller, "--turns=2", "--cost=uniform(0.2, 0.9)", "--grid=500", f"--output={tmp_path}"]
    code, out, err = forked.run("experiments.best_response", arguments)
    assert code == 0, err
    assert "1 turn: solving on a grid of 500 cents ..." in err
    printed = re.findall(r"^(.{26}) +(\d\.\d{4}) ", out, re.MULTILINE)
    *_, two_turns = json.loads((tmp_path / "best_response.json").read_text())["by_turns"]
    assert printed == [(f"{name:26}", f"{row['value']:.4f}") for name, row in two_turns.items()]
    assert (tmp_path / "best_response.png").stat().st_size > 0


# The arguments, and what the line must say.
REFUSED = {
    "misspelt option": ("--discont=1", "flag 'discont'. Did you mean: discount"),
    "no turns": ("--turns=0", "--turns=0: turns must be an integer in the range|--turns=0"),
    "turns without end": ("--turns=101", r"--turns=101: .*\[1, 100\]"),
    "grid of words": ("--grid=400,fine", "--grid=400,fine: 'fine' is no number of cents from 1"),
    "grid of nothing": ("--grid=0", "--grid=0: '0' is no number of cents from 1"),
    "text for a margin": ("--seller=floor(margin='a')", "floor.margin='a': must have the type of its default, 0.0"),
    "a number for a range": ("--seller=neutral(beta=3)", "neutral.beta=3: must have the type of its default, .0.4, 2"),
    "output is a file": ("--output=README.md", "--output=.*README.md cannot be written to: it is not a folder"),
    "no such seller": ("--seller=nobody", "policy 'nobody' is unknown"),
    "no such utility": ("--utility=joy", "--utility=joy.*should be one of"),
    "no distribution": ("--cost=uniform", "--cost='uniform' cannot be read; write uniform"),
    "files and a distribution": (
        "--data_dir=x --cost=uniform(0,1)",
        r"--data_dir=x does not go with --cost=uniform\(0,1\)",
    ),
    "value without cost": ("--value=1", "--value=1.0 goes with --cost"),
    "no such discount for a response": ("--discount=0 --seller=floor --turns=1", "discount=0.0: a factor"),
    "several sellers into one file": ("--seller=floor --seller=linear --output=x", "is for one seller"),
    "too few products": ("--catalog=file --data_dir=docs/products.csv", "test=128 of 10 products .* from 1 to 9"),
    "a test set and a distribution": ("--test=3 --cost=uniform(0,1)", "--test=3 does not go with --cost"),
    "no such catalog": ("--catalog=amazon", "--catalog=amazon: .*amazon_history_price"),
    "stray argument": ("floor", "unexpected arguments floor: options are written --name=value"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_is_one_line(case):
    arguments, message = REFUSED[case]
    assert re.search(message, forked.refused("experiments.best_response", arguments.split()))


def test_ones_own_products_are_solved_for():
    own = ["--catalog=file", "--data_dir=docs/products.csv", "--test=3", "--seller=floor", "--turns=1", "--grid=500"]
    code, out, err = forked.run("experiments.best_response", own)
    assert code == 0 and "1 turns, 7 products" in out, err


def test_words_are_not_searched_for_a_seller_that_hears_none():
    line = forked.refused("experiments.persuasion", ["--seller=neutral"])
    assert "--seller=neutral hears no argument. Name one that does: persuadable, receptive" in line


@pytest.mark.parametrize("flag", ["--turns=101", "--draws=101", "--draws=99999999999999999999"])
def test_the_search_for_words_has_its_limits(flag):
    assert re.search(rf"{flag}: .*\[1, 100\]", forked.refused("experiments.persuasion", [flag]))

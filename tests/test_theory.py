"""The theory command: known numbers by the closed forms, and the games at other values than those printed."""

import numpy as np
import pytest

from experiments import theory, theory_results
from negot_jax.solvers import closed_forms
from tests import forked


def computed(result: str, **given: str) -> list[list[theory_results.Line]]:
    """The lines of each of a result's settings."""
    return [theory.RESULTS[result][0](**own) for own in theory.settings(result, given)]


def test_closed_forms_are_those_of_the_literature():
    shares = [closed_forms.alternating_share(rounds, (0.9, 0.9)) for rounds in range(1, 6)]
    np.testing.assert_allclose(shares, [1, 0.1, 0.91, 0.181, 0.8371])
    assert closed_forms.rubinstein_share((0.9, 0.8)) == pytest.approx(0.714286, abs=5e-7)
    discounted = [closed_forms.myopic_offers(n, 1, 0, 1, 0.9)[0] for n in (1, 2, 3, 4, 60)]
    np.testing.assert_allclose(discounted, [0.25, 0.322581, 0.352273, 0.366057, 0.379873], atol=5e-7)
    assert [closed_forms.whole_offers(n, 100, 0, 99) for n in (1, 2, 3, 6, 10)] == [25.5, 34, 38.25, 43.71, 46.36]
    np.testing.assert_allclose(closed_forms.auction_outcome(0.5), (9 / 32, 9 / 64, 27 / 32))
    assert closed_forms.conceded(0.5, 0.2, 0.1) == pytest.approx(0.1281, abs=5e-5)


OTHER_VALUES = [
    ("T1", dict(value="70", cost="31", margin="0.1"), 0),
    ("T2", dict(discount="0.7,0.95", rounds="6"), 1e-3),
    ("T2", dict(discount="0.95", breakdown="0.2", rounds="7"), 1e-3),
    ("T3", dict(discount="0.7,0.95", breakdown="0.05"), 1e-6),
    ("T4", dict(value="60", low="10", high="90", margin="0.2"), 0.2),
    ("T4", dict(value="90", low="10", high="30"), 0.05),  # All costs are below the price.
    ("T5", dict(offers="4", value="2", low="0.5", high="1.2"), 3e-3),
    ("T5_whole", dict(offers="4", value="57", low="3", high="80"), 1e-5),
    ("T5_whole", dict(offers="3", value="57", low="3", high="20"), 1e-5),
    ("T6", dict(offers="3", discount="0.6", value="10", low="1", high="12"), 2e-2),
    ("T7", dict(offers="2", value="0.8", low="0.2", costs="500"), 1e-3),
    ("T8", dict(share="0.3", types="400"), 3e-3),
    ("T9", dict(beta="2.5", k="0.25", progress="0.3", list_price="20000", cost="5000", margin="0.1"), 1.5),
]


@pytest.mark.parametrize(("result", "given", "tolerance"), OTHER_VALUES)
def test_games_agree_with_the_literature_at_other_values(result, given, tolerance):
    (lines,) = computed(result, **given)[:1]
    known = [line for line in lines if line.known is not None]
    assert known
    for line in known:
        np.testing.assert_allclose(line.computed, line.known, atol=tolerance, rtol=1e-6, err_msg=line.name)


def test_the_best_response_is_between_policies_and_who_knows_the_cost():
    (lines,) = computed("T10", seller="linear(margin=0.1)", offers="3", ladder="0.3,0.5,0.6", utility="reward")
    value = {line.name: line.computed for line in lines}
    assert value["the best buyer found, played"] == pytest.approx(value["optimum"], abs=1e-5)
    for policy in ("the given ladder", "linear schedule, 0.4 to 1"):
        assert 0 < value[policy] < value["optimum"] <= value["who knows the cost"] + 1e-6


def test_real_products(amazon_data_dir):
    """The ladder that is best on a grid of 1 %, what it and the surplus ladder earn in whole cents, and schedules."""
    given = dict(data_dir=str(amazon_data_dir), utility="reward", offers="6", schedule="0.5,1")
    (lines, *_) = computed("real", **given, ladder="0.25,0.35,0.44,0.51,0.60,0.70")
    value = {line.name: np.atleast_1d(line.computed) for line in lines}
    np.testing.assert_allclose(
        value["  its offers, of the list price"], [0.35, 0.50, 0.60, 0.67, 0.72, 0.76], atol=1e-6
    )
    expected = {
        "who knows the cost": 0.9398,
        "optimum, played": 0.7595,
        "the given ladder": 0.7253,
        "linear schedule, 0.5 to 1": 0.7008,
    }
    assert {name: value[name][0] for name in expected} == pytest.approx(expected, abs=5e-5)


def test_options_take_the_place_of_the_settings_that_vary_them():
    assert [own["rounds"] for own in theory.settings("T2", {"discount": "0.8"})] == [1, 2, 3, 4, 5]
    (own,) = theory.settings("T2", {"discount": "0.8", "rounds": "3"})
    assert own == {"rounds": 3, "discount": (0.8,), "breakdown": 0.0, "ticks": 10_000}


def test_every_option_has_a_meaning():
    assert {name for result in theory.RESULTS for name in theory.options(result)} == set(theory.MEANINGS)


def test_the_command_prints_both_and_the_difference():
    code, out, _ = forked.run("experiments.theory", ["T2", "--discount=0.8", "--rounds=3"])
    assert code == 0
    assert out.splitlines() == [
        "T2  Alternating offers that end (Stahl 1972)",
        "  rounds=3 discount=0.8 breakdown=0 ticks=10000",
        "                            computed  known  difference",
        "    first proposer's share  0.84      0.84   1.1e-16",
    ]


def test_help_lists_every_result_and_option():
    _, out, _ = forked.run("experiments.theory", ["--help"])
    assert all(title in out for title in map(theory.title, theory.RESULTS))
    assert all(f"--{name}:" in out for name in theory.MEANINGS)

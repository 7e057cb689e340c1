"""Buyers found by playing: a ladder, and one chosen by the first ask alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from negot_jax.game import sellers
from negot_jax.game.types import NONE, SELLER, Kind, Observation
from negot_jax.solvers import backward_induction, ladders, market
from negot_jax.solvers.problem import Problem
from negot_jax.solvers.utilities import UTILITIES

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def problem():
    """160 products of cost .2 to .9 of the list price, three turns."""
    products = market.make(10_000, 8_000, np.linspace(2_000, 9_000, 160).astype(int))
    return Problem(sellers.make("floor"), products, 3, UTILITIES["reward"])


def tuned(problem, **options):
    """The best ladder and the buyer that reads the first ask."""
    ladder = ladders.tune_ladder(KEY, problem, draws=2, step=200)
    return ladder, ladders.tune_by_first_ask(KEY, ladder, problem, draws=2, step=200, **options)


def earned(buyer, problem):
    return ladders.mean_utility(KEY, buyer, problem, draws=2)[0]


@pytest.mark.slow
def test_a_first_ask_that_says_nothing_changes_no_offer(problem):
    ladder, reading = tuned(problem)
    assert earned(reading, problem) == earned(ladder, problem)


@pytest.mark.slow
def test_a_first_ask_by_rule_is_worth_almost_all_that_asks_are_worth(problem):
    """A floor known by one ask; the rest is lost by the width of a class."""
    problem = problem.replace(seller=sellers.make("linear", k=0.2, tick=20))
    optimum, *_ = backward_induction.solve(problem, step=200)
    ladder, reading = tuned(problem, classes=40)
    assert (np.diff(reading.cuts) > 0).all() and len(reading.offers) == len(reading.cuts) + 1
    assert len(set(reading.offers[:, 0].tolist())) == 1
    least, value = earned(ladder, problem), earned(reading, problem)
    assert least + 0.8 * (optimum - least) < value <= optimum + 1e-6


def test_it_reads_the_first_ask_and_no_other():
    unit = market.Unit(10_000, 8_000)
    buyer = ladders.Ladders(jnp.array([[3_000, 4_000, 5_000], [3_000, 6_000, 7_000]]), jnp.array([9_000]), unit)

    def offer(turn: int, asks: list[int]) -> int:
        """At a list price of $200.00."""
        prices = jnp.full((3, 2), -1).at[: len(asks), SELLER].set(jnp.array(asks, int))
        standing = jnp.array([-1, asks[-1] if asks else -1])
        nothing = jnp.full((3, 2), -1)
        numbers = map(jnp.int32, (0, turn, 20_000, 16_000))
        obs = Observation(*numbers, offers=standing, kinds=nothing, prices=prices, acts=0 * nothing)
        action = buyer.act(KEY, obs, 3)
        assert action.kind == (Kind.REJECT if action.price == NONE else Kind.OFFER)
        return int(action.price)

    assert offer(0, []) == 6_000
    assert offer(1, [17_998]) == 8_000 and offer(1, [18_000]) == 12_000
    assert offer(2, [17_998, 19_000]) == 10_000 and offer(2, [18_000, 15_000]) == 14_000
    buyer = buyer.replace(offers=buyer.offers.at[0, 1].set(0))
    assert offer(1, [17_998]) == NONE and offer(1, [18_000]) == 12_000


def test_the_price_of_a_first_deal_is_no_ask(problem):
    asks = np.asarray(ladders._first_asks(KEY, ladders.single([5_000, 6_000, 7_000], problem.unit), problem, 1))[0]
    floors_above = np.asarray(problem.products.cost) > 5_000
    assert (asks[floors_above] > 5_000).all() and 0 < (asks == NONE).sum() <= (~floors_above).sum()

"""Bargaining theory: the oracles against published numbers, and the game and its solvers against the oracles."""

import numpy as np
import pytest

from negot_jax.game import sellers
from negot_jax.solvers import backward_induction, market
from negot_jax.solvers.problem import Problem
from negot_jax.solvers.utilities import surplus
from tests.solvers import oracles

TYPES = (np.arange(1_000) + 0.5) / 1_000  # Uniform on [0, 1].


def test_closed_forms_are_as_published():
    shares = [oracles.alternating_share(rounds, (0.9, 0.9)) for rounds in range(1, 6)]
    np.testing.assert_allclose(shares, [1, 0.1, 0.91, 0.181, 0.8371])
    assert oracles.rubinstein_share((0.9, 0.8)) == pytest.approx(0.714286, abs=5e-7)
    discounted = [oracles.myopic_offers(n, 1, 0, 1, 0.9)[0] for n in (1, 2, 3, 4, 60)]
    np.testing.assert_allclose(discounted, [0.25, 0.322581, 0.352273, 0.366057, 0.379873], atol=5e-7)
    assert [oracles.whole_offers(n, 100, 0, 99) for n in (1, 2, 3, 6, 10)] == [25.5, 34, 38.25, 43.71, 46.36]
    np.testing.assert_allclose(oracles.auction_outcome(0.5), (9 / 32, 9 / 64, 27 / 32))
    assert oracles.conceded(0.5, 0.2, 0.1) == pytest.approx(0.1281, abs=5e-5)


@pytest.mark.parametrize("value, cost, margin", [(100, 40, 0.0), (70, 31, 0.1)])
def test_ultimatum(value, cost, margin):
    """Gueth et al. (1982): the proposer takes all, in whole ticks, down to the floor of cost * (1 + margin)."""
    floor = -(-cost * round(100 * (1 + margin)) // 100)
    products = market.make(value, value, [cost])
    earned, _, buyer = backward_induction.solve(Problem(sellers.Floor(margin), products, 1, surplus))
    assert (earned, buyer.ladder().tolist()) == (value - floor, [floor])


@pytest.mark.parametrize(
    "discount, rounds, share",
    [(0.9, 1, 1), (0.9, 2, 0.1), (0.9, 3, 0.91), (0.9, 4, 0.181), (0.9, 5, 0.8371), (0.5, 4, 0.625), (0.8, 3, 0.84)],
)
def test_alternating_offers_that_end(discount, rounds, share):
    """Stahl (1972); a chance of breakdown acts as impatience does."""
    tolerance = rounds / 10_000  # A tick per round.
    assert oracles.alternating_offers(rounds, (discount, discount)) == pytest.approx(share, abs=tolerance)
    broken = oracles.alternating_offers(rounds, (1.0, 1.0), breakdown=1 - discount)
    assert broken == pytest.approx(share, abs=tolerance)


@pytest.mark.parametrize("rounds, discounts, breakdown", [(6, (0.7, 0.95), 0.0), (7, (0.95, 0.95), 0.2)])
def test_alternating_offers_of_unequal_players(rounds, discounts, breakdown):
    share = oracles.alternating_share(rounds, tuple(factor * (1 - breakdown) for factor in discounts))
    assert oracles.alternating_offers(rounds, discounts, breakdown) == pytest.approx(share, abs=1e-3)


@pytest.mark.parametrize(
    "discounts, breakdown, share",
    [((0.9, 0.9), 0, 0.526316), ((0.9, 0.8), 0, 0.714286), ((1.0, 1.0), 0.1, 0.526316), ((0.7, 0.95), 0.05, None)],
)
def test_long_alternating_offers_approach_rubinstein(discounts, breakdown, share):
    known = oracles.rubinstein_share(tuple(factor * (1 - breakdown) for factor in discounts))
    assert share is None or known == pytest.approx(share, abs=5e-7)
    assert oracles.alternating_offers(201, discounts, breakdown, ticks=10**8) == pytest.approx(known, abs=1e-6)


@pytest.mark.parametrize(
    "offers, value, low, high, margin, discount",
    [
        *((count, 1, 0, 1, 0.0, 1.0) for count in (1, 2, 3, 6, 10)),  # Costs are split evenly.
        *((count, 1, 0, 1, 0.0, 0.9) for count in (2, 3, 4, 10)),
        (1, 80, 20, 100, 0.0, 1.0),  # Samuelson (1980): 50, which earns 11.25.
        (1, 60, 10, 90, 0.2, 1.0),
        (1, 90, 10, 30, 0.0, 1.0),  # All costs are below the price.
        (4, 2, 0.5, 1.2, 0.0, 1.0),
        (3, 10, 1, 12, 0.0, 0.6),
    ],
)
def test_offers_to_a_myopic_seller(offers, value, low, high, margin, discount):
    """Solved at a list price of $100.00 that is worth `value`, on a grid of 10 cents."""
    top = min(high, value)  # A cost above the value changes no decision.
    costs = round((top - low) / value * 1_000)
    products = market.uniform(low / value, top / value, 1.0, costs)
    problem = Problem(sellers.Floor(margin), products, offers, surplus, discount)
    earned, _, buyer = backward_induction.solve(problem, step=10)
    payoff, prices = oracles.myopic_offers(offers, value, low * (1 + margin), high * (1 + margin), discount)
    got = earned / 10_000 * value * (top - low) / (high - low)
    assert got == pytest.approx(payoff, abs=5e-4 * value)
    np.testing.assert_allclose(buyer.ladder() / 10_000 * value, prices, atol=4e-3 * value)
    if value == 80:
        assert (payoff, *prices) == (11.25, 50)


@pytest.mark.parametrize(
    "offers, value, low, high", [(4, 57, 3, 80), (3, 57, 3, 20), *((n, 100, 0, 99) for n in (1, 2, 3, 6, 10))]
)
def test_offers_to_a_myopic_seller_in_whole_ticks(offers, value, low, high):
    products = market.make(value, value, np.arange(low, high + 1))
    earned, _, _ = backward_induction.solve(Problem(sellers.Floor(), products, offers, surplus))
    assert earned == pytest.approx(oracles.whole_offers(offers, value, low, high), abs=1e-5)


@pytest.mark.parametrize("rounds, value, low", [(1, 1, 0), (2, 1, 0), (3, 1, 0), (2, 0.8, 0.2)])
def test_commitment_to_one_price_is_optimal_against_a_patient_seller(rounds, value, low):
    """Stokey (1979), Riley and Zeckhauser (1983): more offers earn no more; a myopic seller leaves more."""
    costs, prices = low + (1 - low) * TYPES, np.linspace(low, value, 21)
    payoff, _ = oracles.myopic_offers(1, value, low, 1.0)
    assert (value, low) != (1, 0) or payoff == 0.25
    assert oracles.best_committed_ladder(rounds, costs, prices, value=value) == pytest.approx(payoff, abs=1e-3)


def test_an_impatient_seller_is_worth_more_than_one_price():
    """If the seller alone minds waiting, several prices are better: the search above can tell."""
    prices = np.linspace(0, 1, 21)
    assert oracles.best_committed_ladder(2, TYPES, prices, value=1.0, discounts=(1.0, 0.5)) > 0.255


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_linear_equilibrium_of_the_double_auction(share):
    """Chatterjee and Samuelson (1983): no type has a better bid, and where trade is possible the best are linear."""
    grid = np.linspace(0, 1, 1_001)
    bids, asks = (np.polyval(line, TYPES) for line in oracles.auction_bids(share))
    for own, rivals, buying, slope in ((bids, asks, True, 1 / (1 + share)), (asks, bids, False, 1 / (2 - share))):
        gains = oracles.auction_gains(TYPES, grid, rivals, share, buying)
        played = np.diagonal(oracles.auction_gains(TYPES, own, rivals, share, buying))
        assert (gains.max(axis=1) - played).max() < 5e-4  # The rivals stand in steps of 1e-3.
        trades = (own > rivals.min() + 0.01) if buying else (own < rivals.max() - 0.01)
        best = grid[gains.argmax(axis=1)]
        assert np.polyfit(TYPES[trades], best[trades], 1)[0] == pytest.approx(slope, abs=5e-3)


def test_best_responses_from_truthful_bids_reach_the_linear_equilibrium():
    """One of a continuum of equilibria."""
    bid, ask, regret = oracles.linear_equilibrium(0.3, (np.arange(400) + 0.5) / 400)
    np.testing.assert_allclose((bid, ask), oracles.auction_bids(0.3), atol=3e-3)
    assert regret < 3e-3


@pytest.mark.parametrize("share", [0.3, 0.5])
def test_what_the_double_auction_comes_to(share):
    types = (np.arange(2_000) + 0.5) / 2_000
    bids, asks = (np.polyval(line, types) for line in oracles.auction_bids(share))
    assert oracles.auction_played(types, bids, asks) == pytest.approx(oracles.auction_outcome(share), abs=5e-4)


@pytest.mark.parametrize(
    "turns, turn, beta, k, margin, cost",
    [(3, 1, 0.2, 0.1, 0, 0), (3, 1, 1, 0.1, 0, 0), (6, 1, 5, 0.1, 0, 0), (11, 3, 2.5, 0.25, 0.1, 5_000)],
)
def test_time_dependent_concession(turns, turn, beta, k, margin, cost):
    """Faratin et al. (1998), off the asks of the game's own seller."""
    price, seller = 20_000, sellers.TimeDependent(beta, k, margin)
    _, asks_TxN = backward_induction.replies(seller, market.make(price, price, [cost]), turns)
    floor = cost * (1 + margin)
    ask = floor + (1 - oracles.conceded(turn / (turns - 1), beta, k)) * (price - floor)
    assert float(asks_TxN[turn, 0]) == pytest.approx(ask, abs=1.5)

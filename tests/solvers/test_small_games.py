"""Exact results of bargaining theory, from games solved on grids."""

import numpy as np
import pytest

from negot_jax.solvers import small_games

COSTS, PRICES = (np.arange(1_000) + 0.5) / 1_000, np.linspace(0, 1, 21)


@pytest.mark.parametrize(
    "discount, rounds, share",
    [(0.9, 1, 1), (0.9, 2, 0.1), (0.9, 3, 0.91), (0.9, 4, 0.181), (0.9, 5, 0.8371), (0.5, 4, 0.625), (0.8, 3, 0.84)],
)
def test_finite_alternating_offers(discount, rounds, share):
    """Stahl (1972); and the same with the chance that talks break down in the place of impatience."""
    tolerance = rounds / 10_000  # A tick each round.
    assert small_games.alternating_offers(rounds, (discount, discount)) == pytest.approx(share, abs=tolerance)
    broken = small_games.alternating_offers(rounds, (1.0, 1.0), breakdown=1 - discount)
    assert broken == pytest.approx(share, abs=tolerance)


@pytest.mark.parametrize("discounts, share", [((0.9, 0.9), 0.526316), ((0.9, 0.8), 0.714286)])
def test_long_alternating_offers_approach_rubinstein(discounts, share):
    assert small_games.alternating_offers(201, discounts, ticks=10**8) == pytest.approx(share, abs=5e-7)


def test_rubinstein_with_breakdown():
    share = small_games.alternating_offers(201, (1.0, 1.0), breakdown=0.1, ticks=10**8)
    assert share == pytest.approx(0.526316, abs=5e-7)


@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_commitment_to_one_price_is_optimal_against_a_patient_seller(rounds):
    """Stokey (1979), Riley and Zeckhauser (1983): a quarter, however many offers; a myopic seller leaves more."""
    patient = dict(value=1.0, buyer_discount=1.0, seller_discount=1.0)
    assert small_games.best_committed_ladder(rounds, COSTS, PRICES, **patient) == pytest.approx(0.25, abs=1e-6)


def test_an_impatient_seller_is_worth_more_than_one_price():
    """Where the seller alone minds waiting: so the search above can tell one price from several."""
    impatient = dict(value=1.0, buyer_discount=1.0, seller_discount=0.5)
    assert small_games.best_committed_ladder(2, COSTS, PRICES, **impatient) > 0.255


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_linear_equilibrium_of_the_double_auction(share):
    """Chatterjee and Samuelson (1983): no type has a better bid, and where trade is possible the best are linear."""
    types, grid = (np.arange(1_000) + 0.5) / 1_000, np.linspace(0, 1, 1_001)
    bids = types / (1 + share) + share * (1 - share) / (2 * (1 + share))
    asks = types / (2 - share) + (1 - share) / 2
    for own, rivals, buying, slope in ((bids, asks, True, 1 / (1 + share)), (asks, bids, False, 1 / (2 - share))):
        gains = small_games.auction_gains(types, grid, rivals, share, buying)
        played = np.diagonal(small_games.auction_gains(types, own, rivals, share, buying))
        assert (gains.max(axis=1) - played).max() < 5e-4  # The rivals stand in steps of 1e-3.
        trades = (own > rivals.min() + 0.01) if buying else (own < rivals.max() - 0.01)
        best = grid[gains.argmax(axis=1)]
        assert np.polyfit(types[trades], best[trades], 1)[0] == pytest.approx(slope, abs=5e-3)


def test_what_the_double_auction_comes_to():
    """At k = 1/2: trade in 9/32 of all pairs, gains of 9/64, 27/32 of the first best."""
    types = (np.arange(2_000) + 0.5) / 2_000
    outcome = small_games.auction_outcome(types, 2 / 3 * types + 1 / 12, types, 2 / 3 * types + 1 / 4)
    assert outcome == pytest.approx((9 / 32, 9 / 64, 27 / 32), abs=5e-4)

"""Closed forms of bargaining theory, to hold games and solvers against.

Values, costs, prices and payoffs are floats in any one unit. `value` is what the product is worth to the buyer; costs
are uniform on [low, high] unless said. A discount is a factor a round.
"""

import numpy as np


def alternating_share(rounds: int, discounts: tuple[float, float]) -> float:
    """The first proposer's share of a pie of 1 in so many alternating offers (Stahl 1972).

    discounts: the first and the second player's. A chance that a refusal ends the game multiplies them.
    """
    both = discounts[0] * discounts[1]
    pairs, odd = divmod(rounds, 2)
    return (1 - discounts[1]) * sum(both**pair for pair in range(pairs)) + odd * both**pairs


def rubinstein_share(discounts: tuple[float, float]) -> float:
    """The same without an end (Rubinstein 1982)."""
    return (1 - discounts[1]) / (1 - discounts[0] * discounts[1])


def myopic_offers(
    offers: int, value: float, low: float, high: float, discount: float = 1.0
) -> tuple[float, np.ndarray] | None:
    """The payoff and the prices of the best offers to a seller who takes whatever covers its cost.

    One offer is the posted price of Samuelson (1980). Where the last price would be above all costs, there is a form
    without a discount only: None with one.
    """
    shares = [0.0]  # What so many offers earn of (value - low)^2 / (high - low).
    for _ in range(offers):
        shares.append(1 / (4 * (1 - discount * shares[-1])))
    left = np.cumprod([1 / (2 * (1 - discount * share)) for share in shares[-2::-1]])
    prices = value - (value - low) * left
    if prices[-1] <= high:
        return shares[-1] * (value - low) ** 2 / (high - low), prices
    if discount < 1:
        return None
    prices = np.linspace(low, high, offers + 1)[1:]
    return float((value - prices).mean()), prices


def whole_offers(offers: int, value: int, low: int, high: int) -> float:
    """The same payoff, undiscounted, where prices and costs are whole numbers, low .. high being equally likely.

    The offers cut value - low + 1 into parts, and each cut earns the product of what is on its two sides.
    """
    parts = _evenly(value - low + 1, offers + 1)
    if max(parts) < value - high:  # The last offer need not be above all costs.
        parts = [value - high, *_evenly(high - low + 1, offers)]
    return (sum(parts) ** 2 - sum(part**2 for part in parts)) / 2 / (high - low + 1)


def _evenly(total: int, count: int) -> list[int]:
    least, more = divmod(total, count)
    return [least + 1] * more + [least] * (count - more)


def auction_bids(share: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """Slope and intercept of bids and of asks, in the linear equilibrium of the double auction.

    Chatterjee and Samuelson (1983): values and costs uniform on [0, 1], price = share * bid + (1 - share) * ask.
    """
    bids = 1 / (1 + share), share * (1 - share) / (2 * (1 + share))
    return bids, (1 / (2 - share), (1 - share) / 2)


def auction_outcome(share: float) -> tuple[float, float, float]:
    """P(trade), the mean gain from trade, and that gain as a share of the first best's, in that equilibrium."""
    slope, gap = (1 + share) / (2 - share), (1 - share) / 2  # They trade if the value is above slope * cost + gap.
    gains = (2 / 3 - gap + gap**3 / 3) / (2 * slope) - (1 - gap) ** 3 / (6 * slope**2)
    return (1 + share) * (2 - share) / 8, gains, 6 * gains


def conceded(progress: float, beta: float, k: float) -> float:
    """The share conceded at that part of the time (Faratin, Sierra and Jennings 1998)."""
    return k + (1 - k) * progress ** (1 / beta)

"""Bargaining theory as oracles: closed forms of the literature, and small games solved on grids without them.

Prices, values, costs and payoffs are floats in any one unit. `value` is what the product is worth to the buyer; costs
are uniform on [low, high] unless said. A discount is a factor per round.
"""

import numpy as np


# Closed forms.
def alternating_share(rounds: int, discounts: tuple[float, float]) -> float:
    """The first proposer's share of a pie of 1 in so many alternating offers (Stahl 1972).

    discounts: the first and the second player's. A chance of breakdown multiplies them.
    """
    both = discounts[0] * discounts[1]
    pairs, odd = divmod(rounds, 2)
    return (1 - discounts[1]) * sum(both**pair for pair in range(pairs)) + odd * both**pairs


def rubinstein_share(discounts: tuple[float, float]) -> float:
    """The same without an end (Rubinstein 1982)."""
    return (1 - discounts[1]) / (1 - discounts[0] * discounts[1])


def myopic_offers(
    offers: int, value: float, low: float, high: float, discount: float = 1.0
) -> tuple[float, np.ndarray]:
    """Payoff and prices of the best offers to a seller who takes whatever covers its cost.

    One offer is the posted price of Samuelson (1980). If the last price would exceed all costs, only the undiscounted
    form is known.
    """
    shares = [0.0]  # What so many offers earn of (value - low)^2 / (high - low).
    for _ in range(offers):
        shares.append(1 / (4 * (1 - discount * shares[-1])))
    left = np.cumprod([1 / (2 * (1 - discount * share)) for share in shares[-2::-1]])
    prices = value - (value - low) * left
    if prices[-1] <= high:
        return shares[-1] * (value - low) ** 2 / (high - low), prices
    assert discount == 1
    prices = np.linspace(low, high, offers + 1)[1:]
    return float((value - prices).mean()), prices


def whole_offers(offers: int, value: int, low: int, high: int) -> float:
    """The same payoff, undiscounted, in whole prices and costs, low .. high being equally likely.

    The offers cut value - low + 1 into parts, and each cut earns the product of what is on its two sides.
    """
    parts = _evenly(value - low + 1, offers + 1)
    if max(parts) < value - high:  # The last offer need not exceed all costs.
        parts = [value - high, *_evenly(high - low + 1, offers)]
    return (sum(parts) ** 2 - sum(part**2 for part in parts)) / 2 / (high - low + 1)


def _evenly(total: int, count: int) -> list[int]:
    least, more = divmod(total, count)
    return [least + 1] * more + [least] * (count - more)


def auction_bids(share: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """Slope and intercept of bids and of asks in the linear equilibrium of the double auction.

    Chatterjee and Samuelson (1983): values and costs uniform on [0, 1], price = share * bid + (1 - share) * ask.
    """
    bids = 1 / (1 + share), share * (1 - share) / (2 * (1 + share))
    return bids, (1 / (2 - share), (1 - share) / 2)


def auction_outcome(share: float) -> tuple[float, float, float]:
    """P(trade), the mean gain from trade, and that gain as a share of the first best's, in that equilibrium."""
    slope, gap = (1 + share) / (2 - share), (1 - share) / 2  # They trade if value > slope * cost + gap.
    gains = (2 / 3 - gap + gap**3 / 3) / (2 * slope) - (1 - gap) ** 3 / (6 * slope**2)
    return (1 + share) * (2 - share) / 8, gains, 6 * gains


def conceded(progress: float, beta: float, k: float) -> float:
    """The share conceded at that part of the time (Faratin, Sierra and Jennings 1998)."""
    return k + (1 - k) * progress ** (1 / beta)


# Games on grids.
def alternating_offers(
    rounds: int, discounts: tuple[float, float], breakdown: float = 0.0, ticks: int = 10_000
) -> float:
    """The first proposer's share in `rounds` alternating offers, in whole ticks of the pie, by backward induction.

    discounts: the first and the second player's, per round. breakdown: the chance that a refusal ends the game.
    """
    mover, other = 0.0, 0.0  # What the next proposer gets, and the other: nothing after the last round.
    for turn in reversed(range(rounds)):
        proposer, responder = turn % 2, 1 - turn % 2
        if_refused = discounts[responder] * (1 - breakdown) * mover
        waits = discounts[proposer] * (1 - breakdown) * other
        claim = np.floor((1 - if_refused) * ticks + 1e-9) / ticks  # The most that the responder accepts.
        mover, other = (claim, 1 - claim) if claim >= waits else (waits, if_refused)
    return float(mover)


def best_committed_ladder(
    rounds: int, costs: np.ndarray, prices: np.ndarray, *, value: float, discounts: tuple[float, float] = (1.0, 1.0)
) -> float:
    """The mean payoff of the best ladder of offers on the price grid, of a buyer who is bound to it.

    Sellers know it and take the best offer, the earliest of equals, or none. discounts: the buyer's and the sellers'.
    """

    def payoff(offers: np.ndarray) -> float:
        turns = np.arange(rounds)
        gains = discounts[1] ** turns * (offers - costs[:, None])
        taken = gains.argmax(axis=1)
        paid = discounts[0] ** taken * (value - offers[taken])
        return float(np.where(gains.max(axis=1) >= 0, paid, 0).mean())

    ladders = np.stack(np.meshgrid(*[prices] * rounds, indexing="ij"), axis=-1).reshape(-1, rounds)
    return max(map(payoff, ladders))


def auction_gains(types: np.ndarray, bids: np.ndarray, rivals: np.ndarray, share: float, buying: bool) -> np.ndarray:
    """The mean gain of each type with each bid, [types, bids], against rival bids that are equally likely."""
    meets = bids[:, None] >= rivals if buying else bids[:, None] <= rivals
    weight = share if buying else 1 - share
    chance, paid = meets.mean(axis=1), (meets * (weight * bids[:, None] + (1 - weight) * rivals)).mean(axis=1)
    return (types[:, None] * chance - paid) * (1 if buying else -1)


def auction_played(types: np.ndarray, bids: np.ndarray, asks: np.ndarray) -> tuple[float, float, float]:
    """P(trade), the mean gain from trade, and its share of the first best, where values and costs are both `types`."""
    trade = bids[:, None] >= asks
    gains = types[:, None] - types
    realized, first_best = (gains * trade).mean(), np.maximum(gains, 0).mean()
    return float(trade.mean()), float(realized), float(realized / first_best)


def linear_equilibrium(share: float, types: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Slopes and intercepts of bids and asks that answer each other, and the most that any type could still gain.

    From truthful bids, each side in turn answers the other's line by the line through the best bids of its types that
    trade.
    """
    bid = ask = np.array([1.0, 0.0])
    for _ in range(10):
        bid, _ = _answer(types, bid, np.polyval(ask, types), share, buying=True)
        ask, _ = _answer(types, ask, np.polyval(bid, types), share, buying=False)
    _, buyers = _answer(types, bid, np.polyval(ask, types), share, buying=True)
    _, sellers = _answer(types, ask, np.polyval(bid, types), share, buying=False)
    return bid, ask, max(buyers, sellers)


def _answer(
    types: np.ndarray, line: np.ndarray, rivals: np.ndarray, share: float, buying: bool
) -> tuple[np.ndarray, float]:
    """The line through the best bids against `rivals`, and the most that a type gains by its best one over `line`."""
    grid = np.linspace(0, 1, len(types) + 1)
    gains = auction_gains(types, grid, rivals, share, buying)
    own = np.diagonal(auction_gains(types, np.polyval(line, types), rivals, share, buying))
    most = gains.max(axis=1)
    trades = most > 1 / len(types) ** 2
    return np.polyfit(types[trades], grid[gains.argmax(axis=1)][trades], 1), float((most - own).max())

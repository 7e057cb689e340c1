"""Games that only theory needs, solved on grids by backward induction or best responses, with no formula of the answer.

Prices and values are floats in units of the largest value.
"""

import numpy as np


def alternating_offers(
    rounds: int, discounts: tuple[float, float], breakdown: float = 0.0, ticks: int = 10_000
) -> float:
    """The first proposer's share of a pie in `rounds` alternating offers (Stahl 1972), in whole ticks of the pie.

    discounts: the first and the second player's, a round. breakdown: the chance that a refusal ends the game.
    """
    mover, other = 0.0, 0.0  # What the next proposer gets and the other: nothing after the last round.
    for turn in reversed(range(rounds)):
        proposer, responder = turn % 2, 1 - turn % 2
        if_refused = discounts[responder] * (1 - breakdown) * mover
        waits = discounts[proposer] * (1 - breakdown) * other
        claim = np.floor((1 - if_refused) * ticks + 1e-9) / ticks  # The most that the responder lets pass.
        mover, other = (claim, 1 - claim) if claim >= waits else (waits, if_refused)
    return float(mover)


def committed_ladder(
    offers: np.ndarray, costs: np.ndarray, value: float, buyer_discount: float, seller_discount: float
) -> float:
    """The mean payoff of a buyer bound to `offers`, one a round, against sellers who take the best of them or none.

    Of equally good offers a seller takes the earliest.
    """
    rounds = np.arange(len(offers))
    gains = seller_discount**rounds * (offers - costs[:, None])
    taken = gains.argmax(axis=1)
    paid = buyer_discount**taken * (value - offers[taken])
    return float(np.where(gains.max(axis=1) >= 0, paid, 0).mean())


def best_committed_ladder(rounds: int, costs: np.ndarray, prices: np.ndarray, **game: float) -> float:
    """What the best of all ladders on the price grid earns; `game` as in `committed_ladder`."""
    ladders = np.stack(np.meshgrid(*[prices] * rounds, indexing="ij"), axis=-1).reshape(-1, rounds)
    return max(committed_ladder(ladder, costs, **game) for ladder in ladders)


def auction_gains(types: np.ndarray, bids: np.ndarray, rivals: np.ndarray, share: float, buying: bool) -> np.ndarray:
    """The mean gain of each type with each bid, [types, bids], against rival bids that are equally likely.

    The double auction of Chatterjee and Samuelson (1983): price = share * buyer's bid + (1 - share) * seller's.
    """
    meets = bids[:, None] >= rivals if buying else bids[:, None] <= rivals
    weight = share if buying else 1 - share
    chance, paid = meets.mean(axis=1), (meets * (weight * bids[:, None] + (1 - weight) * rivals)).mean(axis=1)
    return (types[:, None] * chance - paid) * (1 if buying else -1)


def auction_outcome(
    values: np.ndarray, bids: np.ndarray, costs: np.ndarray, asks: np.ndarray
) -> tuple[float, float, float]:
    """P(trade), the mean gain from trade, and that gain as a share of the first best's."""
    trade = bids[:, None] >= asks
    gains = values[:, None] - costs
    realised, first_best = (gains * trade).mean(), np.maximum(gains, 0).mean()
    return float(trade.mean()), float(realised), float(realised / first_best)


def linear_equilibrium(share: float, count: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Slopes and intercepts of bids and asks that answer each other, and the most that any type could still gain.

    Each side in turn answers the other's line by the line through the best bids, on a grid, of those of its types that
    trade, `count` types being spread evenly over [0, 1]. Both begin by bidding what the product is worth to them.
    """
    types = (np.arange(count) + 0.5) / count
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

"""Episodes made up for tests."""

from collections.abc import Sequence

import numpy as np

from negot_jax.evaluation.episodes import TRAINED, Episode, Message, Row
from negot_jax.game.types import BUYER, SELLER, End, Kind


def episode(**changes) -> Episode:
    """A deal in the second turn, after an illegal move of the seller."""
    messages = (
        Message(BUYER, 0, Kind.OFFER, 4000, "Thought: low\nTalk: Hello.\nAction: [BUY] $40 (1x lamps_1)", tokens=20),
        Message(SELLER, 0, Kind.OFFER, 6000, replaced=True, withdrawn="Talk: $1!"),
        Message(BUYER, 1, Kind.DEAL, 6000, "Talk: Fine.\nAction: [DEAL] $60 (1x lamps_1)", tokens=12),
    )
    facts = dict(title="Desk lamp", price=10000, budget=8000, cost=5000, scale=3000, product=0, episode=0)
    result = dict(messages=messages, end=End.DEAL, deal_price=6000, interventions=1, reward=2 / 3)
    return Episode(**dict(buyer=TRAINED, seller="neutral") | facts | result | changes)


def deals(prices_PxE: np.ndarray | Sequence[Sequence[int]], buyer: Row = TRAINED) -> list[Episode]:
    """A deal of every product and episode at these prices, cents, accepted in the first turn."""
    return [
        episode(
            buyer=buyer,
            product=product,
            episode=number,
            messages=(Message(BUYER, 0, Kind.OFFER, price), Message(SELLER, 0, Kind.DEAL, price)),
            deal_price=price,
            interventions=0,
            reward=(8000 - price) / 3000,
        )
        for product, prices in enumerate(np.asarray(prices_PxE).tolist())
        for number, price in enumerate(prices)
    ]

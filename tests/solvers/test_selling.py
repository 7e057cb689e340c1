"""The best seller found: what it must earn is known where the buyers are simple."""

import jax
import numpy as np
import pytest

from negot_jax.game import buyers, rewards, sellers
from negot_jax.game.types import SELLER, GameParams, Products
from negot_jax.solvers import ladders, selling

TURNS = 3


def _params(cost: list[int]) -> GameParams:
    cost = np.array(cost, np.int32)
    price, budget = np.full_like(cost, 10_000), np.full_like(cost, 9_000)
    return GameParams(Products(price, budget, cost, np.maximum(abs(budget - cost), 100)), turns=TURNS)


def _earned(seller, buyer, params, draws: int = 4) -> float:
    states = ladders.episodes(jax.random.key(1), buyer, seller, params, draws)
    return float(jax.vmap(lambda state: rewards.outcome(state, params, SELLER).reward)(states).mean())


@pytest.mark.parametrize("buyer, price", [("constant(share=0.8)", 7_200), ("linear(start=0.5, end=1.0)", 9_000)])
def test_it_gets_the_most_that_a_buyer_ever_pays(buyer, price):
    """A buyer that reads no ask pays its highest offer, if that covers the cost; the seller waits for it."""
    params, policy = _params([3_000, 5_000, 8_000]), buyers.make(buyer)
    seller = selling.best_seller(jax.random.key(0), [policy], params)
    costs = np.array([3_000, 5_000, 8_000])
    assert _earned(seller, policy, params) == pytest.approx(
        np.where(price > costs, (price - costs) / (9_000 - costs), 0).mean(), abs=1e-3
    )


@pytest.mark.slow
def test_against_several_buyers_it_is_no_worse_than_any_scripted_seller():
    params = _params([2_000, 4_000, 6_000, 8_000] * 4)
    met = [buyers.make("concession(noise=0.1)"), buyers.make("tit_for_tat")]
    best = selling.best_seller(jax.random.key(0), met, params, draws=2, step=5)
    hash(best)  # Static under jit.
    mean = lambda seller: np.mean([_earned(seller, buyer, params, 16) for buyer in met])
    for name in ("neutral", "boulware", "linear", "floor"):
        assert mean(best) > mean(sellers.make(name)) - 0.005, name

"""Reward and metrics, by hand and by their identities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from negot_jax.game import bargaining, buyers, rewards, sellers
from negot_jax.game.types import NONE, Action, Argument, End, GameParams, Kind, Outcome
from tests.game.scenarios import each_product, make_products, stepwise


@pytest.fixture
def ended():
    """An episode of a product of P0 $100, B $80, C $40: ended(end, price) is its last state."""
    products = make_products(*(np.array([x]) for x in (10_000, 8_000, 4_000)))
    _, state = bargaining.reset_to(bargaining.scenario(products, 0, jax.random.key(0)), GameParams(products))
    return lambda end, price: state.replace(end=jnp.int32(end), deal_price=jnp.int32(price))


def rewarded(state, reward="paper"):
    return rewards.rewards(state, GameParams(None, reward=reward)).tolist()


@pytest.mark.parametrize(
    "end, price, buyer, seller",
    [
        (End.DEAL, 5_000, 0.75, 0.25),
        (End.DEAL, 4_000, 1.0, 0.0),
        (End.DEAL, 1_000, 1.0, -0.75),  # without a floor: clipped
        (End.DEAL, 0, 1.0, -1.0),
        (End.BUYER_QUIT, NONE, 0.0, 0.0),
        (End.SELLER_QUIT, NONE, 0.0, 0.0),
        (End.TURN_LIMIT, NONE, 0.0, 0.0),
        (End.SELLER_ILLEGAL, NONE, 0.0, 0.0),
        *((end, NONE, -1.0, 0.0) for end in (End.OVERSHOOT, *rewards.FORMAT_ERRORS)),
    ],
)
def test_rewards_by_hand(end, price, buyer, seller, ended):
    assert rewarded(ended(end, price)) == pytest.approx([buyer, seller])


@pytest.mark.parametrize(
    "reward, fair, cheap",
    [
        ("surplus_share", [0.75, 0.25], [1.75, -0.75]),
        ("nash_product", [0.1875] * 2, [0, 0]),
        ("deal_only", [1, 1], [1, 1]),
    ],
)
def test_other_rewards_by_hand(reward, fair, cheap, ended):
    """Deals at $50 and at $10; no deal is worth 0, and only the buyer can fail."""
    for (end, price), expected in {
        (End.DEAL, 5_000): fair,
        (End.DEAL, 1_000): cheap,
        (End.TURN_LIMIT, NONE): [0, 0],
        (End.ONGOING, NONE): [0, 0],
        (End.OVERSHOOT, NONE): [-1, 0],
    }.items():
        assert rewarded(ended(end, price), reward) == pytest.approx(expected)


def test_an_unknown_reward_is_refused(ended):
    with pytest.raises(ValueError, match="'papers'.*'paper'"):
        rewarded(ended(End.DEAL, 5_000), "papers")


def test_outcome_of_a_history(products):
    """First offer from the first message only; asks above the list price or the last ask are high."""
    params = GameParams(products)
    _, state = bargaining.reset(jax.random.key(0), params)
    price, budget = state.scenario.price, state.scenario.budget
    kinds = jnp.array([[1, 0], [0, 0], [0, 0], [2, NONE], [NONE, NONE], [NONE, NONE]])
    prices = jnp.array([[NONE, price + 1], [5, price], [6, price + 2], [price + 2, NONE]] + [[NONE, NONE]] * 2)
    state = state.replace(kinds=kinds, prices=prices, turn=3, end=jnp.int32(End.DEAL), deal_price=budget)
    outcome = rewards.outcome(state, params)
    assert (outcome.first_offer, outcome.first_ratio) == (NONE, 0)
    assert (outcome.turns, outcome.high_asks, outcome.ratio) == (4, 2, 0)
    opened = state.replace(kinds=kinds.at[0, 0].set(Kind.OFFER), prices=prices.at[0, 0].set(budget))
    opened = rewards.outcome(opened, params)
    assert (opened.first_offer, opened.first_ratio) == (budget, 1)


def test_an_illegal_ask_that_ended_the_game_is_no_high_ask():
    """A seller of cost above the list price asks between the two: illegal, and above the list price."""
    products = make_products(*(np.array([x]) for x in (10_000, 8_000, 12_000)))
    for regulation, high_asks in (("end", 0), ("none", 1)):
        params = GameParams(products, regulation=regulation)
        _, state = bargaining.reset(jax.random.key(0), params)
        for kind, price in ((Kind.OFFER, 5_000), (Kind.OFFER, 11_000)):
            action = Action(kind=jnp.int32(kind), price=jnp.int32(price), acts=jnp.int32(0))
            _, state, *_ = bargaining.step(jax.random.key(0), state, action, params)
        assert (state.end == End.SELLER_ILLEGAL) == (regulation == "end")
        assert rewards.outcome(state, params).high_asks == high_asks


def test_metrics_by_hand():
    ends = [End.DEAL, End.DEAL, End.OVERSHOOT, End.SELLER_QUIT, End.CUT]
    outcomes = Outcome(
        end=jnp.array(ends),
        reward=jnp.array([0.5, 0.3, -1, 0, -1]),
        deal_price=jnp.array([10, 20, NONE, NONE, NONE]),
        first_offer=jnp.array([5, 5, 50, 5, NONE]),
        turns=jnp.array([2, 5, 1, 3, 1]),
        mutual=jnp.array([True, True, False, True, False]),
        gains=jnp.array([0.4, 0.1, 0, 0.25, 0]),
        interventions=jnp.array([0, 2, 0, 0, 0]),
        ratio=jnp.array([0.5, 0.3, 0, 0, 0]),
        other_ratio=jnp.array([0.5, 0.7, 0, 0, 0]),
        failed=jnp.array([False, False, True, False, True]),
        first_ratio=jnp.array([0.25, 0.25, 1.5, 0.5, 0]),
        high_asks=jnp.array([1, 0, 0, 0, 0]),
        acts=jnp.array([[1 << Argument.THREAT | 1 << Argument.BUDGET, 1 << Argument.THREAT], *[[0, 0]] * 4]),
    )
    got = {name: (float(total), float(weight)) for name, (total, weight) in rewards.metrics(outcomes).items()}
    expected = {
        "deal_rate": (2, 5),
        "deal_rate/mi": (2, 3),
        "efficiency": (0.5, 0.75),
        "first_offer_ratio": (2.5, 4),
        "no_first_offer": (1, 5),
        "overshoot/mi": (0, 3),
        "overshoot/ci": (1, 2),
        "seller_quit/mi": (1, 3),
        "format_error": (1, 5),
        "format_error/cut": (1, 5),
        "format_error/missing": (0, 5),
        "penalty": (2, 5),
        "turns_to_deal": (7, 2),
        "interventions": (2, 5),
        "high_asks": (1, 5),
        "arguments": (3, 5),
        "arguments/threat": (2, 5),
        "arguments/insult": (0, 5),
    }
    assert {name: got[name] for name in expected} == expected
    assert got["bargained_ratio"] == pytest.approx((0.8, 2)) and got["reward"] == pytest.approx((-1.2, 5))


def test_metrics_of_sub_batches_add_up_and_masses_sum_to_one(products):
    scenarios = each_product(products, jax.random.key(0))
    params = GameParams(products)
    buyer = jax.vmap(lambda state: buyers.Linear().act(state.scenario.key, bargaining.observe(state, 0), params.turns))
    states = stepwise(jax.jit(buyer), sellers.make("neutral"), scenarios, params)
    outcomes = jax.vmap(rewards.outcome, (0, None))(states, params)
    whole = rewards.metrics(outcomes)
    halves = [rewards.metrics(jax.tree.map(lambda x: x[half], outcomes)) for half in np.split(np.arange(64), [20])]  # noqa: B023
    for name, pair in whole.items():
        np.testing.assert_allclose(pair, np.sum([half[name] for half in halves], axis=0), rtol=1e-6)

    mean = {name: float(total / weight) for name, (total, weight) in whole.items() if weight}
    assert 0 < mean["deal_rate"] < 1
    ends = ("deal_rate", "buyer_quit", "seller_quit", "turn_limit", "seller_illegal", "penalty")
    assert sum(mean[name] for name in ends) == pytest.approx(1)
    assert mean["reward"] == pytest.approx(mean["deal_rate"] * mean["bargained_ratio"] - mean["penalty"], abs=1e-6)

"""The objective teaches: tables of offers, trained by it on games whose optimum is known in closed form.

The integer game: cost c uniform, the seller myopic (it takes any offer of at least c), payoff v - p. With c in 0 .. 99
and v = 100 the best payoff is 25.50 in one turn and 38.25 in three; with c in 20 .. 100 and v = 80 the best posted
price is 50 (Samuelson 1980).
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from negot_jax.game import bargaining, play, rewards, sellers
from negot_jax.game.types import BUYER, NONE, Action, GameParams, Kind, Products
from negot_jax.rl import objective, scoring
from negot_jax.rl.algorithms import AlgorithmConfig, preset
from negot_jax.rl.updates import Skipped, apply_gradients

GROUP, ITERATIONS = 4, 250
SELLER = sellers.Floor()


class Table(NamedTuple):
    """Offers drawn from a softmax a turn, whatever was said before: all refused, nothing else is known of the cost."""

    logits_TxP: jax.Array

    def act(self, key, obs, turns):
        price = jax.random.categorical(key, self.logits_TxP[obs.turn]).astype(jnp.int32)
        return Action(kind=jnp.int32(Kind.OFFER), price=price, acts=jnp.int32(0))


def _game(value: int, costs: range, turns: int) -> GameParams:
    """A product for each cost; the reward is the payoff in hundredths."""
    cost = jnp.array(costs, jnp.int32)
    same = lambda number: jnp.full(cost.shape, number, jnp.int32)
    products = Products(price=same(100), budget=same(value), cost=cost, scale=same(100))
    return GameParams(products=products, turns=turns)


def _scores(weights, offers_BxT) -> scoring.TokenScores:
    log_probs_TxP = jax.nn.log_softmax(weights["logits"])
    turns = jnp.arange(offers_BxT.shape[1])
    wide = lambda row_T: jnp.broadcast_to(row_T, offers_BxT.shape)
    entropies = -jnp.sum(jnp.exp(log_probs_TxP) * log_probs_TxP, axis=1)
    return scoring.TokenScores(log_probs_TxP[turns, offers_BxT], wide(entropies), wide(weights["values"]))


def _iteration(algorithm: AlgorithmConfig, count: int, carry, key, params: GameParams):
    """Play, prepare, update: the learner's own parts around a table."""
    weights, opt_state, skipped = carry
    key_scenarios, key_offers = jax.random.split(key)
    draw = functools.partial(bargaining.draw, products=params.products)
    scenarios = jax.vmap(draw)(jax.random.split(key_scenarios, count))
    scenarios = jax.tree.map(lambda x: jnp.repeat(x, GROUP, axis=0), scenarios)
    keys = jax.random.split(key_offers, count * GROUP)
    buyer = Table(weights["logits"])
    states = play.episodes(keys, buyer, SELLER, scenarios, params)
    reward_B = jax.vmap(rewards.outcome, (0, None))(states, params).reward
    offers_BxT = states.prices[:, :, BUYER]
    scores = _scores(weights, offers_BxT)
    old = scores if algorithm.rescores else None
    targets, _ = objective.make_targets(algorithm, GROUP, reward_B, offers_BxT != NONE, scores.log_probs, old)
    loss = lambda weights, batch: objective.loss(algorithm, _scores(weights, batch[0]), batch[1])
    return apply_gradients(_optimizer(), loss, (weights, opt_state, skipped), (offers_BxT, targets), 1)[0]


def _optimizer():
    return optax.adam(optax.linear_schedule(0.2, 0.0, ITERATIONS))


@functools.partial(jax.jit, static_argnums=(0, 2))
def _train(algorithm: AlgorithmConfig, params: GameParams, count: int) -> jax.Array:
    """The trained logits [T, prices], from so many scenarios an iteration."""
    weights = {"logits": jnp.zeros((params.turns, 101)), "values": jnp.zeros(params.turns)}
    carry = (weights, _optimizer().init(weights), Skipped(jnp.int32(0), jnp.int32(0)))
    keys = jax.random.split(jax.random.key(0), ITERATIONS)
    carry, _ = jax.lax.scan(lambda carry, key: (_iteration(algorithm, count, carry, key, params), None), carry, keys)
    return carry[0]["logits"]


def _payoff(logits: jax.Array, params: GameParams) -> float:
    """The mean payoff of the policy as it draws its offers, every cost as often."""
    costs = jnp.tile(jnp.arange(params.products.cost.size), 200)
    keys = jax.random.split(jax.random.key(1), costs.size)
    scenarios = jax.vmap(functools.partial(bargaining.scenario, params.products))(costs, keys)
    states = play.episodes(keys, Table(logits), SELLER, scenarios, params)
    return 100 * float(jax.vmap(rewards.outcome, (0, None))(states, params).reward.mean())


pytestmark = pytest.mark.slow  # About ten seconds each.
ALGORITHMS = {"grpo": preset("grpo"), "ppo": preset("ppo")}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(("turns", "least"), [(1, 0.98 * 25.50), (3, 0.95 * 38.25)])
def test_offers_to_a_myopic_seller(algorithm, turns, least):
    params = _game(100, range(100), turns)
    assert _payoff(_train(ALGORITHMS[algorithm], params, 256), params) >= least


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_posted_price(algorithm):
    """The payoff is flat around its top, within 1 % of it from 47 to 52: this takes more scenarios."""
    logits = _train(ALGORITHMS[algorithm], _game(80, range(20, 101), 1), 1024)
    assert abs(int(np.argmax(logits[0])) - 50) <= 2

"""Linear schedules: published rewards, and the best one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from negot_jax.game import buyers, sellers
from negot_jax.game.types import GameParams
from negot_jax.solvers import schedules
from tests.game.scenarios import make_products


@pytest.mark.parametrize(
    "margin, table",
    [
        (0.0, {(45, 95): 0.7481, (42, 94): 0.7476, (40, 100): 0.7090, (50, 100): 0.7008}),
        (0.1, {(50, 100): 0.5257}),
        pytest.param(0.2, {(50, 100): 0.4179}, marks=pytest.mark.slow),
        pytest.param(0.3, {(50, 100): 0.3217}, marks=pytest.mark.slow),
    ],
)
def test_rewards_on_the_real_products(margin, table, real_products):
    """Mean rewards of linear schedules (percent of B) over all 930, by a seller that wants `margin` above cost."""
    starts, ends = jnp.array(list(table)).T * 100
    seller = sellers.make("floor", margin=margin)
    means = schedules.linear_rewards(seller, starts, ends, GameParams(real_products), jax.random.key(0))
    np.testing.assert_allclose(means, list(table.values()), atol=5e-5)


@pytest.mark.slow
def test_tuned_schedule_on_the_real_products(real_products):
    key = jax.random.key(0)
    best, reward = schedules.tune_linear(sellers.Floor(), GameParams(real_products), key)
    assert best == buyers.Linear(0.45, 0.95) and reward == pytest.approx(0.7481, abs=5e-5)


def test_tuned_schedule_finds_the_one_price():
    """One product whose cost is 61 % of B: the best schedules offer just that, in whatever turn."""
    products = make_products(*(np.array([x]) for x in (12_500, 10_000, 6_100)))
    best, reward = schedules.tune_linear(sellers.Floor(), GameParams(products), jax.random.key(0))
    assert reward == pytest.approx(1)
    assert 0.61 in np.linspace(best.start, best.end, 6).round(4)


def test_the_choice_costs_little_of_the_best_reward():
    """Against a noisy seller the schedule chosen on few draws is within a thousandth of the best on many."""
    costs = np.linspace(4_500, 7_500, 64).astype(int)
    products = make_products(*(np.full(64, x) for x in (12_500, 10_000)), costs)
    params, seller = GameParams(products), sellers.make("neutral")
    chosen, _ = schedules.tune_linear(seller, params, jax.random.key(0), draws=16)
    starts, ends = (100 * jnp.ravel(x) for x in jnp.meshgrid(jnp.arange(30, 62, 4), jnp.arange(70, 102, 4)))
    own = [jnp.append(x, jnp.int32(round(10_000 * share))) for x, share in ((starts, chosen.start), (ends, chosen.end))]
    *means, reward = schedules.linear_rewards(seller, *own, params, jax.random.key(1), draws=128)
    assert reward > max(means) - 0.001

"""Linear schedules: published rewards, and the best one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from negot_jax import catalog
from negot_jax.game import buyers, sellers
from negot_jax.game.types import GameParams
from negot_jax.solvers import schedules
from tests.game.scenarios import make_products


@pytest.mark.parametrize(
    "margin, table",
    [
        (0.0, {(45, 95): 0.7481, (42, 94): 0.7476, (40, 100): 0.7090, (50, 100): 0.7008}),
        pytest.param(0.1, {(50, 100): 0.5257}, marks=pytest.mark.slow),
        pytest.param(0.2, {(50, 100): 0.4179}, marks=pytest.mark.slow),
        pytest.param(0.3, {(50, 100): 0.3217}, marks=pytest.mark.slow),
    ],
)
def test_rewards_on_the_real_products(margin, table, real):
    """Mean rewards of linear schedules (percent of B) over all 930, by a seller that wants `margin` above cost."""
    starts, ends = jnp.array(list(table)).T * 100
    seller = sellers.make("floor", margin=margin)
    means = schedules.linear_rewards(seller, starts, ends, GameParams(catalog.products(real)), jax.random.key(0))
    np.testing.assert_allclose(means, list(table.values()), atol=5e-5)


@pytest.mark.slow
def test_tuned_schedule_on_the_real_products(real):
    key = jax.random.key(0)
    best, reward = schedules.tune_linear(sellers.Floor(), GameParams(catalog.products(real)), key)
    assert best == buyers.Linear(0.45, 0.95) and reward == pytest.approx(0.7481, abs=5e-5)


def test_tuned_schedule_finds_the_one_price():
    """One product whose cost is 61 % of B: the best schedules offer just that, in whatever turn."""
    products = make_products(*(np.array([x]) for x in (12_500, 10_000, 6_100)))
    best, reward = schedules.tune_linear(sellers.Floor(), GameParams(products), jax.random.key(0))
    assert reward == pytest.approx(1)
    assert 0.61 in np.linspace(best.start, best.end, 6).round(4)


@pytest.mark.slow
def test_the_choice_costs_little_of_the_best_reward():
    """The schedule chosen against a noisy seller earns within .001 of fifteen others around it, on other draws."""
    products = make_products(*(np.full(32, x) for x in (12_500, 10_000)), np.linspace(4_500, 7_500, 32).astype(int))
    params, seller = GameParams(products), sellers.make("neutral")
    chosen, _ = schedules.tune_linear(seller, params, jax.random.key(0), draws=8)
    apart = np.mgrid[-9:10:6, -9:10:6].reshape(2, -1) / 100
    apart[:, -1] = 0
    near = jnp.int32(np.round(10_000 * np.clip(apart + [[chosen.start], [chosen.end]], 0, 1)))
    rounds = [schedules.linear_rewards(seller, *near, params, jax.random.key(key), draws=8) for key in range(1, 17)]
    *means, reward = np.mean(rounds, axis=0)
    assert reward > max(means) - 0.001

"""The stochastic seller's solvers: the belief against the game, and the bounds against what is known exactly."""

import dataclasses
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from negot_jax.game import bargaining, buyers, rewards, sellers
from negot_jax.game.play import play
from negot_jax.game.types import BUYER, End, GameParams
from negot_jax.solvers import (
    backward_induction,
    belief,
    best_response,
    information_relaxation,
    ladders,
    least_squares,
    market,
)
from negot_jax.solvers.problem import Problem
from negot_jax.solvers.utilities import UTILITIES

REWARD = UTILITIES["reward"]
# Its rule is that of the linear time-dependent seller, but for a cent on the floor.
RULE = sellers.Stochastic(
    margin=(0.0, 0.0), beta=(1.0, 1.0), reciprocity=(0.0, 0.0), k=0.0, noise=0.0, walk=0.0, tick=200
)


@pytest.fixture(scope="module")
def products():
    """160 products of cost .2 to .9 of the list price."""
    return market.make(10_000, 8_000, np.linspace(2_000, 9_000, 160).astype(int))


def problem(seller, products, turns=6, discount=1.0):
    return Problem(seller, products, turns, REWARD, discount)


def scenarios(products, draws):
    rows = jnp.tile(jnp.arange(products.price.size), draws)
    keys = jax.random.split(jax.random.key(5), rows.size)
    return jax.vmap(bargaining.scenario, (None, 0, 0))(products, rows, keys)


@jax.jit
def floors(drawn):
    return jax.vmap(lambda s: sellers.make("neutral").draw_type(jax.random.fold_in(s.key, 0), s).floor)(drawn)


def test_the_prior_is_that_of_the_sellers_draws(products):
    types = belief.make_types(problem(sellers.make("neutral"), products), 100)
    drawn = np.asarray(floors(scenarios(products, 64)))
    shares = np.histogram(drawn, bins=np.r_[0, np.asarray(types.top_K)] + 0.5)[0] / drawn.size
    np.testing.assert_allclose(types.prior_K, shares, atol=3e-3)


@pytest.fixture(scope="module")
def heard(products):
    """The belief before the fifth offer, and the floors, where the game came so far and a deal is possible."""
    seller, params = sellers.make("neutral", tick=50), GameParams(products)
    types = belief.make_types(problem(seller, products), 100)
    buyer = least_squares.ReadingBuyer(types, jnp.zeros((6, 28)))
    ladder = ladders.single([3_600, 4_000, 3_600, 5_000, 3_600, 3_600], types.unit)
    drawn = scenarios(products, 12)
    states, _ = play(jax.random.key(0), _Static(ladder), seller, drawn, params)

    @jax.jit
    @jax.vmap
    def recall(state):
        seen = (jnp.arange(6) < 5)[:, None]
        state = state.replace(turn=jnp.int32(5), kinds=jnp.where(seen, state.kinds, -1))
        return buyer.recall(bargaining.observe(state, BUYER)).belief

    floor = np.asarray(floors(drawn))
    reached = np.asarray((states.turn == 5) & (states.end != End.SELLER_QUIT)) & (floor <= 8_000)
    return types, np.asarray(recall(states))[reached].sum(axis=2), floor[reached]


@dataclasses.dataclass(frozen=True, eq=False)
class _Static:
    """A buyer of arrays, static under jit."""

    buyer: ladders.Ladders

    def act(self, *args):
        return self.buyer.act(*args)


@pytest.mark.parametrize("quantile", [0.1, 0.25, 0.5, 0.75, 0.9])
def test_the_belief_is_calibrated_in_the_game(quantile, heard):
    """The floor lies below the belief's q-quantile in a share q of all histories, offers raised and lowered."""
    types, belief_HxK, floor_H = heard
    assert len(floor_H) > 800
    below = np.cumsum(belief_HxK, axis=1)
    tops = np.r_[0, np.asarray(types.top_K)]
    at = np.array([np.interp(floor, tops, np.r_[0, row]) for floor, row in zip(floor_H, below, strict=True)])
    assert (at < quantile).mean() == pytest.approx(quantile, abs=0.04)


def test_the_asks_tell_most_of_the_floor(heard):
    types, belief_HxK, floor_H = heard
    mean = belief_HxK @ np.asarray(types.floor_K)
    assert np.std(floor_H - mean) < 0.4 * np.std(floor_H)


def bounds(problem, samples):
    """The mean utility of the buyer, and the upper bound, with their standard errors: quickly, on a grid of 2 %."""
    key = jax.random.key(1)
    buyer = least_squares.solve(key, problem, step=200, samples=samples)
    lower = ladders.mean_utility(key, buyer, problem)
    return lower, information_relaxation.told_asks(key, problem, step=200, samples=samples // 16)


@pytest.mark.slow
def test_without_noise_both_bounds_are_the_exact_optimum(products):
    linear = sellers.TimeDependent(1.0, tick=200)
    exact, *_ = backward_induction.solve(problem(linear, products, 2), step=200)
    (lower, _), (upper, _) = bounds(problem(RULE, products, 2), samples=512)
    assert (lower, upper) == pytest.approx((exact, exact), abs=3e-3)


def test_one_turn_is_an_ultimatum(products):
    """Nothing is heard before the only offer: both bounds are the exact optimum on the grid."""
    exact, *_ = backward_induction.solve(problem(sellers.Floor(), products, 1), step=400)
    solution = best_response.solve(jax.random.key(0), problem(RULE, products, 1), step=400)
    assert (solution.lower, solution.upper) == pytest.approx((exact, exact), abs=0.005)


def test_the_clairvoyant_buys_at_the_floor(products):
    drawn = scenarios(products, 64)
    floor = floors(drawn)
    gain = jnp.where(floor <= drawn.budget, (drawn.budget - floor) / drawn.scale, 0)
    got = information_relaxation.clairvoyant(problem(sellers.make("neutral"), products))
    assert got == pytest.approx(float(gain.mean()), abs=0.01)


@pytest.fixture(scope="module")
def neutral(products):
    solved = problem(sellers.make("neutral", tick=200), products, 4)
    return solved, *bounds(solved, samples=1_024)


@pytest.mark.slow
def test_bounds_are_in_order(neutral):
    solved, (lower, lower_error), (upper, upper_error) = neutral
    assert lower < upper + 3 * np.hypot(lower_error, upper_error)
    assert upper <= information_relaxation.clairvoyant(solved) + 3 * upper_error
    assert upper - lower < 0.15


@pytest.mark.slow
def test_reading_earns_more_than_the_best_ladder(neutral):
    solved, (lower, lower_error), _ = neutral
    ladder = ladders.tune_ladder(jax.random.key(2), solved, step=200)
    earned, error = ladders.mean_utility(jax.random.key(3), ladder, solved)
    assert lower > earned + 3 * np.hypot(error, lower_error)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["neutral", "begging", "insulting", "unyielding"])
def test_bounds_of_every_preset(name, products):
    solution = best_response.solve(jax.random.key(0), problem(sellers.make(name, tick=100), products))
    assert solution.lower < solution.upper + 3 * np.hypot(solution.lower_error, solution.upper_error)


@pytest.mark.slow
@pytest.mark.parametrize(
    "spec, costs, discount, buyer",
    [
        # Pressed by a raise from nothing, at no risk of a walk.
        (
            "neutral(walk=0.0, reciprocity=(1.0, 1.0), beta=(0.1, 0.1), k=0.0, noise=0.01, margin=(0.0, 0.0))",
            (0.5, 0.6),
            1.0,
            "ladder(shares=(0.0, 0.63, 1.0))",
        ),
        ("neutral(k=1.0)", (0.2, 0.8), 0.1, "constant(share=0.75)"),  # What is bought in turn 0 is not discounted.
    ],
)
def test_no_buyer_earns_more_than_the_upper_bound(spec, costs, discount, buyer):
    solved = problem(sellers.make(spec), market.uniform(*costs, 0.8, 100), 4, discount)
    earned, error = ladders.mean_utility(jax.random.key(0), buyers.make(buyer), solved)
    upper, upper_error = information_relaxation.told_asks(jax.random.key(1), solved, 400, samples=16)
    assert earned < upper + 3 * np.hypot(error, upper_error) + 0.01  # The error of the grid.


def test_the_page_states_the_indifference_of_the_fitted_buyer():
    page = pathlib.Path(__file__).parents[2] / "docs" / "optimum.md"
    assert f"within {100 * least_squares.INDIFFERENCE:g} % of the best" in " ".join(page.read_text("utf-8").split())


def test_what_cannot_be_solved_is_refused(products):
    key, neutral = jax.random.key(0), sellers.make("neutral", tick=100)
    for message, seller, options in (
        (r"300 cents must divide the budget \(8000\)", neutral, {"step": 300}),
        (r"64 cents .* tick \(100\)", neutral, {"step": 64}),
        (r"tick \(150\)", sellers.make("neutral(tick=150)"), {}),
        ("has no solver", sellers.Seller(), {}),
    ):
        with pytest.raises(ValueError, match=message):
            best_response.solve(key, problem(seller, products), **options)
        assert re.search(message, best_response.unsupported(seller, products, **options))
    costly = market.make(10_000, 8_000, [8_500, 9_000])
    assert "never sells within the budget" in best_response.unsupported(neutral, costly)
    with pytest.raises(ValueError, match=r"discount=1.5.* \(0, 1\]"):
        best_response.solve(key, problem(neutral, products).replace(discount=1.5))
    assert best_response.unsupported(neutral, products) is None


def _patient(outcome):
    return outcome.ratio / outcome.turns


def _strict(outcome):
    return jnp.where(outcome.end == End.DEAL, outcome.ratio, -0.1)


@pytest.mark.parametrize(
    "reward, reason",
    [
        (rewards.paper, None),
        (rewards.surplus_share, None),
        (rewards.deal_only, None),
        (rewards.nash_product, "own rises"),
        (_patient, "own of a deal .* more than the price"),
        (_strict, "own pays -0.1 for TURN_LIMIT"),
    ],
)
def test_rewards_that_the_solvers_can_optimize(reward, reason, products, monkeypatch):
    monkeypatch.setitem(rewards.REWARDS, "own", reward)
    said = best_response.unsupported(sellers.make("floor"), products, "own")
    assert said is None if reason is None else re.search(reason, said)

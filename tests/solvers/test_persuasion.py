"""The worth of arguments: what is found by search, against a seller whose optimum is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from negot_jax.game import buyers, sellers
from negot_jax.game.types import Argument
from negot_jax.solvers import ladders, market, persuasion
from negot_jax.solvers.problem import Problem
from negot_jax.solvers.utilities import UTILITIES

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def problem():
    """Two turns, costs of 40 % to 60 %; loyalty alone wins the seller over, at once and for good."""
    weights, pull = (1.0, 0.0, 0.0, 0.0), (1e-6, 1e-6, 1e-6, 1.0, 1e-6, 1e-6, 1e-6, 1e-6)
    fields = dict(weights=weights, pull=pull, margin=(0.0, 0.0), wish=(0.5, 0.5), noise=0.0, walk=0.0)
    seller = sellers.make("persuadable", candor=1.0, beta=(1.0, 1.0), tick=100, **fields)
    return Problem(seller, market.uniform(0.4, 0.6, 0.8, 16), 2, UTILITIES["reward"])


def test_the_argument_that_wins_is_found_and_pays(problem):
    found = persuasion.search(KEY, problem, draws=1, step=500)
    values = [ladders.mean_utility(KEY, found[way], problem, draws=1)[0] for way in persuasion.WAYS]
    # Without words the floors are 70 % to 80 % of the list price, and the budget is 80 %.
    assert 0 < values[0] < 0.15 and values[1] > 0.5 and values[2] >= values[1]
    assert not np.asarray(found["no arguments"].words_2xT).any()
    said = np.asarray(found["a fixed script"].words_2xT)
    assert (said[0] == said[1]).all() and (said == 1 << Argument.LOYALTY).any()


@pytest.mark.slow
def test_a_script_reads_as_a_buyer_of_the_game(problem):
    words = jnp.array([[1 << Argument.DEFECT, 0], [1 << Argument.DEFECT, persuasion.HINTED]])
    buyer = persuasion.Persuader(jnp.array([5_000, 5_500]), words, problem.unit)
    assert buyer.spec() == "arguing(buyer=ladder(shares=(0.625, 0.6875)), script='defect hinted/nothing')"
    single = persuasion.Persuader(jnp.array([5_000]), words[:, :1], problem.unit).spec()
    assert buyers.make(single).buyer == "ladder(shares=(0.625,))"
    arguing = buyers.make(buyer.spec())
    one, other = (ladders.episodes(KEY, player, problem.seller, problem.params, 2) for player in (buyer, arguing))
    np.testing.assert_array_equal(one.acts, other.acts)
    np.testing.assert_array_equal(one.prices, other.prices)
    assert (np.asarray(one.acts)[:, 1, 0] > 0).any()

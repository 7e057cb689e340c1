"""The warm start: whom it clones, and what it refuses. That its buyers can speak is tested with the rollouts."""

import jax
import numpy as np
import pytest

from negot_jax import catalog as catalogs
from negot_jax.catalog import synthetic
from negot_jax.game import bargaining, buyers
from negot_jax.game.types import BUYER, GameParams
from negot_jax.rl.players import scripted_buyer
from negot_jax.training.warm_start import WarmStartConfig


def test_rows_follow_the_policies_in_turn():
    specs = ("constant(share=0.5)", "linear(start=0.4, end=1.0)", "constant(share=0.7)")
    params = GameParams(products=catalogs.products(synthetic.load(size=7)))
    scenarios = jax.vmap(lambda key: bargaining.draw(key, params.products))(jax.random.split(jax.random.key(0), 7))
    state = jax.vmap(lambda scenario: bargaining.reset_to(scenario, params)[1])(scenarios)
    action = scripted_buyer(tuple(map(buyers.make, specs)), params.turns, jax.random.key(1)).act(state)
    for row in range(7):
        observation = bargaining.observe(jax.tree.map(lambda x, row=row: x[row], state), BUYER)
        expected = buyers.make(specs[row % 3]).act(jax.random.key(0), observation, params.turns)
        assert action.price[row] == expected.price
        assert action.kind[row] == expected.kind
    assert len(np.unique(action.price)) > 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"episodes": 10, "micro_batches": 3}, "do not divide"),
        ({"buyers": ()}, "warm_start.buyers is empty"),
        ({"buyers": ("liner",)}, "did you mean 'linear'"),
    ],
)
def test_bad_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        WarmStartConfig(**changes)

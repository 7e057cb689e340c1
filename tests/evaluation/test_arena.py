"""The arena: every product equally often, the same draws for every row."""

import jax
import numpy as np
import pytest

from negot_jax import catalog as catalogs
from negot_jax.catalog import synthetic
from negot_jax.evaluation import arena
from negot_jax.evaluation.arena import EvaluationConfig
from negot_jax.game.types import GameParams


def test_scenarios_stand_product_by_product():
    params = GameParams(products=catalogs.products(synthetic.load(size=5)))
    drawn = arena.scenarios(params, 3, jax.random.key(0))
    np.testing.assert_array_equal(drawn.product, np.repeat(np.arange(5), 3))
    np.testing.assert_array_equal(drawn.cost, np.repeat(params.products.cost, 3))
    keys = np.asarray(jax.random.key_data(drawn.key))
    assert len(np.unique(keys, axis=0)) == 15
    again = arena.scenarios(params, 3, jax.random.key(0))
    np.testing.assert_array_equal(keys, jax.random.key_data(again.key))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"episodes": 0}, "evaluation.episodes=0"),
        ({"batch": 0}, "evaluation.batch=0"),
        ({"buyers": ("linaer",)}, "did you mean 'linear'"),
    ],
)
def test_bad_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        EvaluationConfig(**changes)

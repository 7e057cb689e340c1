"""Advantages against numpy."""

import hypothesis
import hypothesis.extra.numpy as npst
import numpy as np
import pytest

from negot_jax.rl.advantages import group_advantages


@pytest.mark.parametrize("divide", [False, True])
@hypothesis.given(rewards=npst.arrays(np.float32, (3, 4), elements={"min_value": -1, "max_value": 1}))
def test_group_advantages(rewards, divide):
    expected = rewards.astype(np.float64) - rewards.astype(np.float64).mean(axis=1, keepdims=True)
    if divide:
        expected = expected / (rewards.astype(np.float64).std(axis=1, keepdims=True) + 1e-4)
    ours = group_advantages(rewards.reshape(-1), 4, divide)
    np.testing.assert_allclose(ours, expected.reshape(-1), atol=2e-3 if divide else 1e-6)


def test_a_group_of_equals_teaches_nothing():
    np.testing.assert_array_equal(group_advantages(np.full(8, 0.5, np.float32), 4, True), 0)

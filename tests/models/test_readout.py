"""Only some tokens' states are computed to the end."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from negot_jax.models import transformer
from tests.models.test_transformer import BLOCKS, CONFIG, OTHERS, B, T, random_weights


@pytest.mark.parametrize("config", [CONFIG, dataclasses.replace(CONFIG, remat="dots"), OTHERS["experts"]])
def test_states_read_out_are_those_of_the_whole_and_have_its_gradient(config):
    rng = np.random.default_rng(0)
    tokens, valid = rng.integers(config.vocab_size, size=(B, T), dtype=np.int32), rng.random((B, T)) < 0.7
    weights, columns = random_weights(config), rng.integers(T, size=(B, 5))
    take = lambda x: jnp.take_along_axis(x, jnp.expand_dims(columns, range(2, x.ndim)), axis=1)
    whole = lambda weights: take(transformer.forward(config, weights, tokens, valid).hidden_BxTxD)
    read = lambda weights: (
        transformer.forward(config, weights, tokens, valid, readout=transformer.Readout(BLOCKS, take)).hidden_BxTxD
    )
    seen = take(valid)[..., None]  # What is read at padding depends on the stretch.
    found = [
        jax.jit(jax.value_and_grad(lambda weights, states=states: (jnp.sin(states(weights)) * seen).sum()))(weights)
        for states in (whole, read)
    ]
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-4, rtol=1e-4), *found)

"""Sampling: draws follow the distribution they are scored by, and never leave it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from negot_jax.models import presets, sampling, sharding, transformer
from negot_jax.models.sampling import SamplingConfig


def _logits(shape, spread=2.0, seed=0):
    return spread * np.random.default_rng(seed).standard_normal(shape, np.float32)


PLAIN = SamplingConfig()


@functools.partial(jax.jit, static_argnums=2)
def _sample(key, log_probs_BxV, config):
    return sampling.sample(jax.random.uniform(key, (2, log_probs_BxV.shape[0])), log_probs_BxV, config)


def _counts(log_probs_V, config=PLAIN, draws=10_000):
    rows = np.broadcast_to(log_probs_V, (draws, log_probs_V.size))
    return np.bincount(_sample(jax.random.key(1), rows, config), minlength=log_probs_V.size)


def _assert_follows(counts, probs):
    """Pearson's chi-square within five standard deviations of its mean; tokens that are hardly expected are pooled."""
    expected = np.asarray(probs, np.float64) / np.sum(probs, dtype=np.float64) * counts.sum()
    often = expected >= 5
    observed = np.append(counts[often], counts[~often].sum())
    expected = np.append(expected[often], expected[~often].sum())
    squares = (observed - expected) ** 2 / np.maximum(expected, 1)
    freedom = max(often.sum() - 1, 1)
    assert squares.sum() < freedom + 5 * np.sqrt(2 * freedom) + 5, (squares.sum(), freedom)


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0, 3.0])
def test_log_probs_are_normalized_and_tempered(temperature):
    logits = _logits((3, 7, 50))
    got = sampling.log_probs(logits, temperature)
    scaled = np.asarray(logits, np.float64) / (temperature or 1)
    np.testing.assert_allclose(got, scaled - np.log(np.exp(scaled).sum(-1, keepdims=True)), atol=1e-5)


def test_log_probs_respect_the_mask():
    logits, mask = _logits((20, 50)), np.random.default_rng(0).random((20, 50)) < 0.3
    mask[0] = np.arange(50) == 13
    probs = np.exp(sampling.log_probs(logits, 0.7, mask))
    assert (probs[~mask] == 0).all()
    weights = np.where(mask, np.exp(np.asarray(logits, np.float64) / 0.7), 0)
    np.testing.assert_allclose(probs, weights / weights.sum(-1, keepdims=True), atol=1e-6)
    assert sampling.log_probs(logits, 0.7, mask)[0, 13] == 0


def test_masked_tokens_take_no_gradient():
    mask = jnp.array([True, False, True])

    def entropy(logits):
        log_probs = sampling.log_probs(logits, 1.0, mask)
        return -jnp.sum(jnp.exp(log_probs) * log_probs)

    gradient = jax.grad(entropy)(jnp.array([0.5, 80.0, -0.5]))
    assert np.isfinite(gradient).all() and gradient[1] == 0 and gradient[0] != 0


@pytest.mark.parametrize("V", [1, 50, 1000])
def test_draws_follow_the_probabilities(V):
    log_probs = sampling.log_probs(_logits(V), 1.0)
    _assert_follows(_counts(log_probs), np.exp(log_probs))


def test_masked_and_impossible_tokens_are_never_drawn():
    V = 50
    mask = np.random.default_rng(0).random(V) < 0.2
    mask[:10] = mask[-10:] = False
    logits = _logits(V)
    logits[np.flatnonzero(mask)[3]] = -np.inf
    log_probs = sampling.log_probs(logits, 1.0, mask)
    counts = _counts(log_probs)
    assert counts[~mask].sum() == 0 and counts[np.flatnonzero(mask)[3]] == 0
    _assert_follows(counts, np.exp(log_probs))


@pytest.mark.parametrize("token", [0, 17, 49])
def test_a_certain_token_is_always_drawn(token):
    sharp = np.where(np.arange(50) == token, 200.0, -200.0)
    assert _counts(sampling.log_probs(sharp, 1.0))[token] == 10_000
    only = sampling.log_probs(_logits(50), 1.0, np.arange(50) == token)
    assert _counts(only)[token] == 10_000


def test_rows_are_drawn_apart_and_from_the_key_alone():
    log_probs = sampling.log_probs(_logits((64, 30)), 1.0)
    first, same, other = (_sample(jax.random.key(k), log_probs, PLAIN) for k in (3, 3, 4))
    assert first.dtype == jnp.int32 and first.shape == (64,)
    assert (first == same).all() and (first != other).any() and len(set(first.tolist())) > 5


def test_a_large_vocabulary():
    """Rows of one token, of two far apart, and of all: the parts of the range are met by their share."""
    V, rows = 262_144, 96
    few = jnp.full(V, -jnp.inf).at[jnp.array([5, V - 1])].set(0.0)
    draw = jax.jit(
        lambda key, x: sampling.sample(jax.random.uniform(key, (2, rows)), jnp.broadcast_to(x, (rows, V)), PLAIN)
    )
    counts = np.bincount(draw(jax.random.key(0), few), minlength=V)
    assert counts[[5, V - 1]].sum() == rows and counts[[5, V - 1]].min() > rows / 4
    even = np.asarray(draw(jax.random.key(0), jnp.zeros(V)))
    assert np.histogram(even, bins=4, range=(0, V))[0].min() > rows / 10 and even.max() < V


def test_rounding_never_draws_a_token_of_weight_zero():
    """Every sum at which a token of weight 0 could be taken for its neighbor, at a width where sums are not exact."""
    rng = np.random.default_rng(0)
    weights = rng.random((8, 512), np.float32) * (rng.random((8, 512)) < 0.4)
    sums = np.asarray(jax.jit(lambda x: jnp.cumsum(x, axis=-1))(weights))
    for row, ends in zip(weights, sums, strict=True):
        assert ((np.diff(ends) != 0) & (row[1:] == 0)).any()  # Else this shows nothing.
        uniform = np.concatenate([np.nextafter(ends / ends[-1], side) for side in (np.float32(0), np.float32(1))])
        uniform = np.clip(np.append(uniform, 0), 0, 1 - 2.0**-23).astype(np.float32)
        drawn = sampling._invert(uniform, np.broadcast_to(row, (uniform.size, 512)))
        assert (row[drawn] > 0).all()


@pytest.mark.parametrize("k", [1, 5, 90])
def test_top_k_keeps_the_k_most_likely(k):
    log_probs = sampling.log_probs(_logits(50), 1.0)
    probs = np.exp(np.asarray(log_probs, np.float64))
    probs[np.argsort(-probs)[k:]] = 0
    counts = _counts(log_probs, SamplingConfig(top_k=k))
    assert (counts[probs == 0] == 0).all()
    _assert_follows(counts, probs)


@pytest.mark.parametrize("k, p", [(0, 1e-6), (0, 0.5), (0, 0.999), (6, 0.9)])
def test_top_p_keeps_the_smallest_set_of_that_mass(k, p):
    """With both, top-k comes first and top-p takes its mass from what is left."""
    log_probs = sampling.log_probs(_logits(50), 1.0)
    probs = np.exp(np.asarray(log_probs, np.float64))
    probs[np.argsort(-probs)[k or 50 :]] = 0
    probs /= probs.sum()
    order = np.argsort(-probs)
    size = 1 + np.searchsorted(np.cumsum(probs[order]), p)
    probs[order[size:]] = 0
    counts = _counts(log_probs, SamplingConfig(top_k=k, top_p=p))
    assert (counts[probs == 0] == 0).all() and counts[order[0]]
    _assert_follows(counts, probs)


def test_top_p_stays_within_the_mask():
    mask = jnp.arange(50) % 5 == 0
    counts = _counts(sampling.log_probs(_logits(50), 1.0, mask), SamplingConfig(top_p=0.9999, top_k=20))
    assert counts[~np.asarray(mask)].sum() == 0


def test_temperature_zero_is_greedy():
    log_probs = sampling.log_probs(_logits((100, 30)), 0.0)
    drawn = sampling.sample(jnp.zeros((2, log_probs.shape[0])), log_probs, SamplingConfig(temperature=0.0))
    assert drawn.dtype == jnp.int32 and (drawn == np.argmax(log_probs, axis=-1)).all()


@pytest.mark.parametrize("fields", [{"temperature": 0.0}, {"top_k": 5}, {"top_p": 0.9}])
def test_training_refuses_a_truncated_distribution(fields):
    with pytest.raises(ValueError, match="sampling: .*ratio is undefined.*top_k=0, top_p=1.*evaluation may truncate"):
        SamplingConfig(**fields).require_full_support("sampling")
    assert SamplingConfig(temperature=0.7).require_full_support("sampling") is None


@pytest.mark.parametrize("fields", [{"temperature": -0.1}, {"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.5}])
def test_impossible_settings_are_refused(fields):
    ((name, value),) = fields.items()
    with pytest.raises(ValueError, match=f"{name}={value}.*[Uu]se"):
        SamplingConfig(**fields)


def test_the_sampler_computes_as_the_trainer_does_where_products_are_bfloat16():
    """The sampler's weights are rounded once, embedding included, the trainer's where they are used."""
    config = presets.preset("tiny", vocab_size=64, matmul="bfloat16")
    weights, valid = transformer.init(jax.random.key(0), config), jnp.ones((2, 8), bool)
    tokens = jax.random.randint(jax.random.key(1), valid.shape, 0, 64)
    run = lambda own: transformer.forward(config, own, tokens, valid).hidden_BxTxD
    np.testing.assert_array_equal(run(weights), run(sharding.cast_weights(weights, config.products)))

"""Mixtures of experts: the trainer knows which experts the sampler's tokens passed, and can send them there again."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from negot_jax.models import transformer
from negot_jax.models.choice import ModelChoice
from negot_jax.models.presets import preset
from negot_jax.models.sampling import SamplingConfig
from negot_jax.rl import rollout
from negot_jax.rl.players import LanguageModelPlayer
from negot_jax.rl.train_step import train_step
from tests.rl import small
from tests.rl.conftest import score_messages

CHOICE = ModelChoice(layers=2, width=16, mlp=16, experts=8, active_experts=2)


@pytest.fixture(scope="module")
def program(world):
    return small.program(world.tokenizer.vocab_size, CHOICE)


@pytest.fixture(scope="module")
def weights(program):
    """Of a spread that makes routes differ between tokens."""
    return jax.tree.map(lambda x: 3 * x if x.ndim > 2 else x, transformer.init(jax.random.key(0), program.model))


@pytest.fixture(scope="module")
def dialogue(world, program, weights):
    """Sampled by a mixture that has learned nothing, within the form."""

    @jax.jit
    def play(weights, tables):
        buyer = LanguageModelPlayer(0, program.model, weights, SamplingConfig())
        scenarios = rollout.sample_scenarios(jax.random.key(0), tables, 8)
        return rollout.rollout(jax.random.key(0), tables, scenarios, 2, buyer).buyer

    return play(weights, world.constrained)


def _score(world, program, weights, dialogue, replay):
    model = dataclasses.replace(program.model, replay_experts=replay)
    side = world.constrained.buyer
    return score_messages(model, weights, side.layout, dialogue, side.form, 1.0)


def _moved(weights):
    """With another router, as after an update."""
    router = weights["blocks"]["mlp"]["router"]
    noise = jax.random.normal(jax.random.key(1), router[...].shape)
    return jax.tree.map(lambda x: x + 0.3 * noise if x is router[...] else x, weights)


def test_dense_layers_among_those_with_experts_have_nothing_to_replay():
    layers = {"layers": 3, "width": 16, "mlp": 16, "experts": 4, "active_experts": 2, "vocab_size": 32}
    model = preset("tiny", **layers, dense_layers=(True, False, False), dense_mlp=24, replay_experts=True)
    weights = transformer.init(jax.random.key(0), model)
    tokens, valid = jnp.arange(12).reshape(2, 6), jnp.ones((2, 6), bool)
    read = jax.jit(transformer.forward, static_argnums=0)
    hidden, _, picked = read(model, weights, tokens, valid)
    again = read(model, weights, tokens, valid, None, picked).hidden_BxTxD
    np.testing.assert_allclose(again, hidden, rtol=1e-5, atol=1e-5)
    other = read(model, weights, tokens, valid, None, (picked + 1) % 4).hidden_BxTxD
    assert picked.shape == (2, 2, 6, 2) and np.abs(other - hidden).max() > 1e-3


def test_the_sampler_records_what_the_trainer_would_pick(world, program, weights, dialogue):
    layout = world.constrained.buyer.layout
    passed, valid = np.asarray(dialogue.experts_BxSxLxk), np.asarray(dialogue.valid_BxT)[:, : layout.columns]
    assert passed.shape == (16, layout.columns, 2, 2) and passed.dtype == np.uint8
    assert len(np.unique(passed[valid])) == 8
    read = jax.jit(transformer.forward, static_argnums=0)
    picked = read(program.model, weights, dialogue.tokens_BxT[:, : layout.columns], valid).picked_LxBxTxk
    assert (np.moveaxis(np.asarray(picked), 0, 2)[valid] == passed[valid]).all()
    for replay in (False, True):
        scores = _score(world, program, weights, dialogue, replay)
        sampled = np.asarray(dialogue.sampled_BxKxW).reshape(scores.log_probs.shape)
        assert not scores.rerouted[sampled].any()
        gap = np.abs(scores.log_probs - dialogue.log_probs_BxKxW.reshape(sampled.shape))[sampled]
        assert gap.max() < 1e-4


def test_replay_narrows_the_gap_that_another_router_opens(world, program, weights, dialogue):
    sampled = np.asarray(dialogue.sampled_BxKxW).reshape(16, -1)
    gaps = {}
    for replay in (False, True):
        scores = _score(world, program, _moved(weights), dialogue, replay)
        assert 0.1 < np.asarray(scores.rerouted)[sampled].mean() <= 1
        gap = np.abs(scores.log_probs - dialogue.log_probs_BxKxW.reshape(sampled.shape))[sampled]
        gaps[replay] = gap.mean()
    assert 0 < gaps[True] < 0.7 * gaps[False]


def test_gradients_pass_through_the_scores_of_the_replayed_experts(world, program, weights, dialogue):
    model = dataclasses.replace(program.model, replay_experts=True, remat="full")
    side = world.constrained.buyer

    @jax.jit
    def gradient(weights):
        loss = lambda weights: score_messages(model, weights, side.layout, dialogue, side.form, 1.0).log_probs.sum()
        return jax.grad(loss)(weights)["blocks"]["mlp"]["router"][...]

    assert jnp.abs(gradient(_moved(weights))).max() > 0


@pytest.mark.slow  # It compiles a training step.
def test_a_training_step_logs_the_share_of_rerouted_tokens(world, program):
    trained = dataclasses.replace(program, model=dataclasses.replace(program.model, replay_experts=True))
    state = trained.init_state(jax.random.key(0), transformer.init(jax.random.key(0), trained.model))
    _, metrics, sample = train_step(trained, state, world.constrained)
    assert metrics["sampler_rerouted"][0] == 0 < metrics["sampler_rerouted"][1]
    assert sample.buyer.experts_BxSxLxk is None


def test_a_dense_model_has_nothing_to_replay():
    with pytest.raises(ValueError, match=r"model\.replay_experts=True, but the model has no experts"):
        dataclasses.replace(CHOICE, experts=None, active_experts=None, replay_experts=True).config()


def test_given_experts_take_the_place_of_the_likeliest(weights, program):
    tokens = jnp.arange(24).reshape(2, 12)
    read = jax.jit(functools.partial(transformer.forward, program.model))
    own = read(weights, tokens, tokens >= 0)
    again = read(weights, tokens, tokens >= 0, experts_LxBxTxk=own.picked_LxBxTxk)
    np.testing.assert_allclose(again.hidden_BxTxD, own.hidden_BxTxD, atol=1e-6)
    other = read(weights, tokens, tokens >= 0, experts_LxBxTxk=(own.picked_LxBxTxk + 1) % 8)
    assert jnp.abs(other.hidden_BxTxD - own.hidden_BxTxD).max() > 0.1
    assert (other.picked_LxBxTxk[0] == own.picked_LxBxTxk[0]).all()

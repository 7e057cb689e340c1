"""Rollouts: no drift between sampler and trainer, one seller for a whole group, text and pure game agree."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from negot_jax.game import bargaining, buyers, play, rewards
from negot_jax.game.types import BUYER, End
from negot_jax.language import tokenizer as tokens
from negot_jax.models.sampling import SamplingConfig, log_probs
from negot_jax.models.transformer import forward, logits
from negot_jax.rl import losses, rollout


@pytest.fixture(scope="module", params=["constrained", "free"])
def played(request, world):
    """A batch of episodes of the warm-started model, 8 scenarios x 4."""
    env = world.env(request.param)
    buyer = rollout.LanguageModelBuyer(world.run.learner.model, world.weights, SamplingConfig(temperature=0.8))
    scenarios = rollout.sample_scenarios(jax.random.key(3), env, 8)
    return env, jax.jit(functools.partial(rollout.rollout, group=4, buyer=buyer))(jax.random.key(4), env, scenarios)


def test_the_sampler_is_the_trainer(played, world):
    env, trajectory = played
    recomputed, entropy = jax.jit(losses.message_log_probs, static_argnums=(0, 2, 5))(
        world.run.learner.model, world.weights, env.layout, trajectory, env.form, 0.8
    )
    mask = np.asarray(trajectory.sampled_BxKxW)
    assert mask[:, 1:].any(axis=(1, 2)).mean() > 0.5  # The comparison spans turns.
    gap = np.abs(np.asarray(recomputed - trajectory.log_probs_BxKxW))[mask]
    assert gap.max() <= 1e-4
    assert np.asarray(trajectory.log_probs_BxKxW)[mask].std() > 0.1
    assert (np.asarray(entropy)[mask] >= -1e-6).all()


def test_chunked_log_probs_are_those_of_whole_logits(world):
    env, model, weights = world.free, world.run.learner.model, world.weights
    buyer = rollout.LanguageModelBuyer(model, weights, SamplingConfig())
    played = rollout.rollout(jax.random.key(0), env, rollout.sample_scenarios(jax.random.key(1), env, 2), 2, buyer)
    ours, _ = losses.message_log_probs(model, weights, env.layout, played, None, 1.0)
    valid = played.valid_BxT
    hidden, _ = forward(model, weights, played.tokens_BxT, jnp.cumsum(valid, axis=1) - 1, valid)
    whole = log_probs(logits(model, weights, hidden), 1.0)[:, :-1]
    chosen = jnp.take_along_axis(whole, played.tokens_BxT[:, 1:, None], axis=2)[..., 0]
    for turn in range(env.layout.turns):
        start, end = env.layout.start(turn) - 1, env.layout.end(turn) - 1
        mask = played.sampled_BxKxW[:, turn]
        np.testing.assert_allclose(ours[:, turn][mask], chosen[:, start:end][mask], atol=1e-4)


def test_columns_hold_what_was_said(played):
    env, trajectory = played
    layout = env.layout
    context, valid = np.asarray(trajectory.tokens_BxT), np.asarray(trajectory.valid_BxT)
    sampled = np.asarray(trajectory.sampled_BxKxW)
    for turn in range(layout.turns):
        own = valid[:, layout.start(turn) : layout.end(turn)]
        np.testing.assert_array_equal(own, sampled[:, turn])
        spoke = own.any(axis=1)
        assert (context[:, layout.start(turn) - 1] == tokens.BUYER_TURN).all()
        np.testing.assert_array_equal(valid[:, layout.start(turn) - 1], spoke)
        # A message is one stretch from the slot's first column, and ends with the only EOT it holds, if any.
        lengths = own.sum(axis=1)
        np.testing.assert_array_equal(own, np.arange(layout.message) < lengths[:, None])
        ends = (context[:, layout.start(turn) : layout.end(turn)] == tokens.EOT) & own
        assert (ends.sum(axis=1) <= 1).all()
        np.testing.assert_array_equal(ends.argmax(axis=1)[ends.any(axis=1)], lengths[ends.any(axis=1)] - 1)


def test_constrained_messages_keep_the_form(world):
    env = world.constrained
    buyer = rollout.LanguageModelBuyer(world.run.learner.model, world.run.init_weights(), SamplingConfig())
    scenarios = rollout.sample_scenarios(jax.random.key(5), env, 32)
    trajectory = jax.jit(functools.partial(rollout.rollout, group=2, buyer=buyer))(jax.random.key(6), env, scenarios)
    ends = set(np.asarray(trajectory.state.end).tolist())
    assert not ends & set(rewards.FORMAT_ERRORS)
    assert End.ONGOING not in ends


def test_a_cloned_buyer_speaks_freely(world):
    env = world.free
    buyer = rollout.LanguageModelBuyer(world.run.learner.model, world.weights, SamplingConfig(temperature=0.7))
    scenarios = rollout.sample_scenarios(jax.random.key(5), env, 32)
    trajectory = jax.jit(functools.partial(rollout.rollout, group=1, buyer=buyer))(jax.random.key(6), env, scenarios)
    malformed = np.isin(np.asarray(trajectory.state.end), rewards.FORMAT_ERRORS)
    assert malformed.mean() < 0.5


def _scripted(policy, env):
    observe = functools.partial(bargaining.observe, role=BUYER)
    act = functools.partial(policy.act, jax.random.key(0), turns=env.layout.turns)
    return rollout.ScriptedBuyer(lambda state: jax.vmap(lambda s: act(observe(s)))(state))


@pytest.mark.parametrize("spec", ["linear(start=0.4, end=1.0)", "constant(share=0.63)", "concession"])
def test_written_dialogues_end_as_the_pure_game_does(spec, world):
    """Rendered, tokenised, parsed and played: the same outcome as the policies playing without a word."""
    env, policy = world.constrained, buyers.make(spec)
    scenarios = rollout.sample_scenarios(jax.random.key(7), env, 64)
    written = rollout.rollout(jax.random.key(8), env, scenarios, 1, _scripted(policy, env)).state
    silent, _ = play.play(jax.random.key(9), policy, env.seller, scenarios, env.params)
    for name in ("end", "deal_price", "kinds", "prices", "turn"):
        np.testing.assert_array_equal(getattr(written, name), getattr(silent, name), err_msg=name)
    assert (np.asarray(written.end) == End.DEAL).any()


def test_a_group_meets_one_seller(world):
    env = world.constrained
    scenarios = rollout.sample_scenarios(jax.random.key(7), env, 16)
    state = rollout.rollout(jax.random.key(8), env, scenarios, 3, _scripted(buyers.make("linear"), env)).state
    for name in ("kinds", "prices", "end"):
        grouped = np.asarray(getattr(state, name)).reshape(16, 3, -1)
        np.testing.assert_array_equal(grouped, grouped[:, :1].repeat(3, axis=1))
    assert len(np.unique(np.asarray(state.prices).reshape(16, 3, -1)[:, 0], axis=0)) > 8


def test_prompt_prefill_is_shared_without_a_trace(world):
    """A group's cache, read once and copied, is what each member would have read."""
    env = world.constrained
    buyer = rollout.LanguageModelBuyer(world.run.learner.model, world.weights, SamplingConfig())
    C = env.layout.prompt + 1
    prompt = rollout.Chunk(jnp.pad(env.prompts_NxL[:3], ((0, 0), (0, 1))), jnp.ones((3, C), bool))
    shared = buyer.begin(env, prompt, 2)
    alone = buyer.begin(env, jax.tree.map(lambda x: jnp.repeat(x, 2, axis=0), prompt), 1)
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-6), shared, alone)

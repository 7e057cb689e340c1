"""Rollouts: no drift between sampler and trainer, one seller for a whole group, text and pure game agree."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from negot_jax.game import buyers, play, rewards
from negot_jax.game.types import BUYER, End
from negot_jax.language import relay
from negot_jax.language import tokenizer as tokens
from negot_jax.language.dialect import Own
from negot_jax.models import transformer
from negot_jax.models.sampling import SamplingConfig, log_probs
from negot_jax.models.transformer import forward, logits
from negot_jax.rl import players, rollout, scoring
from negot_jax.rl.tables import build_tables
from tests.rl import small
from tests.rl.conftest import TEMPERATURE, score_messages

POLICIES = ("linear(start=0.4, end=1.0)", "concession")


@pytest.fixture(scope="module", params=["constrained", "free"])
def played(request, world):
    """A batch of episodes of the model that can speak."""
    tables = getattr(world, request.param)
    trajectory = world.play(tables, world.weights)
    return tables, trajectory.buyer, trajectory.state


def test_the_sampler_is_the_trainer(played, world):
    tables, trajectory, _ = played
    scores = score_messages(
        world.program.model, world.weights, tables.buyer.layout, trajectory, tables.buyer.form, TEMPERATURE
    )
    sampled = np.asarray(trajectory.sampled_BxKxW)
    assert sampled[:, 1:].any(axis=(1, 2)).mean() > 0.5  # The comparison spans turns.
    ours, theirs = (np.asarray(x).reshape(sampled.shape) for x in (scores.log_probs, trajectory.log_probs_BxKxW))
    assert np.abs(ours - theirs)[sampled].max() <= 1e-4
    assert theirs[sampled].std() > 0.1
    assert (np.asarray(scores.entropies) >= -1e-6).all()
    for values in (scores.log_probs, scores.entropies, scores.values):
        assert (np.asarray(values).reshape(sampled.shape)[~sampled] == 0).all()


def test_rows_that_fit_a_width_are_scored_as_at_all_columns(world):
    tables, layout = world.constrained, world.constrained.buyer.layout
    dialogue = world.play(tables, world.weights).buyer
    last_B = (
        np.arange(len(dialogue.valid_BxT)) % layout.turns
    )  # The rows break off after their first, second, ... message.
    ends_Bx1 = np.array([layout.end(turn) for turn in last_B])[:, None]
    cut = dialogue.replace(
        valid_BxT=dialogue.valid_BxT & (np.arange(dialogue.valid_BxT.shape[1]) < ends_Bx1),
        sampled_BxKxW=dialogue.sampled_BxKxW & (np.arange(layout.turns) <= last_B[:, None])[..., None],
    )
    lengths, (half, _) = scoring.widths(layout, cut, 2)
    fit = np.asarray(lengths) <= half
    assert fit.any() and not fit.all()
    fixed = (world.program.model, world.weights, layout, cut, tables.buyer.form, TEMPERATURE)
    for found, expected in zip(score_messages(*fixed, half)[:3], score_messages(*fixed)[:3], strict=True):
        np.testing.assert_allclose(found[fit], expected[fit], atol=1e-4)


def test_log_probs_turn_by_turn_are_those_of_whole_logits(played, world):
    """Against one plain pass that holds [batch, time, vocabulary]."""
    tables, trajectory, _ = played
    model, layout = world.program.model, tables.buyer.layout
    scores = score_messages(model, world.weights, layout, trajectory, None, 1.0)
    ours = scores.log_probs.reshape(trajectory.sampled_BxKxW.shape)
    hidden = forward(model, world.weights, trajectory.tokens_BxT, trajectory.valid_BxT).hidden_BxTxD
    whole = log_probs(logits(model, world.weights, hidden), 1.0)[:, :-1]
    chosen = jnp.take_along_axis(whole, trajectory.tokens_BxT[:, 1:, None], axis=2)[..., 0]
    for turn in range(layout.turns):
        mask = trajectory.sampled_BxKxW[:, turn]
        expected = chosen[:, layout.start(turn) - 1 : layout.end(turn) - 1]
        np.testing.assert_allclose(ours[:, turn][mask], expected[mask], atol=1e-4)


def test_columns_hold_what_was_said(played, world):
    tables, trajectory, _ = played
    layout = tables.buyer.layout
    context, valid = np.asarray(trajectory.tokens_BxT), np.asarray(trajectory.valid_BxT)
    sampled = np.asarray(trajectory.sampled_BxKxW)
    for turn in range(layout.turns):
        own = valid[:, layout.start(turn) : layout.end(turn)]
        np.testing.assert_array_equal(own, sampled[:, turn])
        spoke = own.any(axis=1)
        header = context[:, layout.start(turn) - layout.own : layout.start(turn)]
        assert (header == [tokens.BUYER_TURN, *world.tokenizer.single_bytes(str(layout.turns - turn))]).all()
        np.testing.assert_array_equal(valid[:, layout.start(turn) - 1], spoke)
        # A message is one stretch from the slot's first column, and ends with the only EOT it holds, if any.
        lengths = own.sum(axis=1)
        np.testing.assert_array_equal(own, np.arange(layout.message) < lengths[:, None])
        ends = (context[:, layout.start(turn) : layout.end(turn)] == tokens.EOT) & own
        assert (ends.sum(axis=1) <= 1).all()
        np.testing.assert_array_equal(ends.argmax(axis=1)[ends.any(axis=1)], lengths[ends.any(axis=1)] - 1)


def test_constrained_messages_keep_the_form(world):
    """Even with random weights."""
    trajectory = world.play(world.constrained, transformer.init(jax.random.key(9), world.program.model), seed=5)
    ends = set(np.asarray(trajectory.state.end).tolist())
    assert not ends & set(rewards.FORMAT_ERRORS)
    assert End.ONGOING not in ends


def test_a_cloned_buyer_speaks_freely(played):
    malformed = np.isin(np.asarray(played[2].end), rewards.FORMAT_ERRORS)
    assert malformed.mean() < 0.5


@pytest.fixture(scope="module")
def written(world):
    """Scripted dialogues: 16 scenarios x 4, rows of two policies in turn."""
    tables = world.constrained
    scenarios = rollout.sample_scenarios(jax.random.key(7), tables, 16)
    policies = tuple(map(buyers.make, POLICIES))
    buyer = players.scripted_buyer(policies, tables.params.turns, jax.random.key(0), keeps_dialogue=True)
    return scenarios, rollout.rollout(jax.random.key(8), tables, scenarios, 4, buyer)


@pytest.mark.parametrize("row", range(len(POLICIES)))
def test_written_dialogues_end_as_the_pure_game_does(row, world, written):
    """The same outcomes as the policies playing without a word."""
    scenarios, state = written[0], written[1].state
    tables = world.constrained
    silent, _ = play.play(jax.random.key(9), buyers.make(POLICIES[row]), tables.script, scenarios, tables.params)
    for name in ("end", "deal_price", "kinds", "prices", "turn"):
        ours = np.asarray(getattr(state, name)).reshape(16, 4, *np.shape(getattr(silent, name))[1:])
        np.testing.assert_array_equal(ours[:, row], getattr(silent, name), err_msg=name)
    assert (np.asarray(silent.end) == End.DEAL).any()


def test_what_is_written_reads_as_it_was_played(world, written):
    """The grammar makes of a script's message the action that it was written from, and relays it whole."""
    state, dialogue = written[1].state, written[1].buyer
    tables, layout = world.two_sided(), world.constrained.buyer.layout
    for turn in range(layout.turns):
        said = dialogue.tokens_BxT[:, layout.start(turn) : layout.end(turn)]
        lengths = dialogue.sampled_BxKxW[:, turn].sum(axis=1)
        message = players.Message(said, lengths, lengths < 0, jnp.zeros(said.shape), said)
        parsed = rollout.read(tables, BUYER, message, state)
        spoke = np.asarray(lengths) > 0
        assert spoke.any()
        np.testing.assert_array_equal(parsed.action.kind[spoke], state.kinds[:, turn, BUYER][spoke])
        np.testing.assert_array_equal(parsed.action.price[spoke], state.prices[:, turn, BUYER][spoke])
        relayed, size = jax.vmap(functools.partial(relay.relay, tables.relay, width=tables.relay.width(said.shape[1])))(
            said, parsed
        )
        np.testing.assert_array_equal(size[spoke], lengths[spoke])
        own = dialogue.sampled_BxKxW[:, turn]
        np.testing.assert_array_equal(relayed[:, : said.shape[1]][own], said[own])


def test_a_group_meets_one_seller(written):
    """Members 0 and 2 follow the same policy: the same episode to the last ask."""
    state = written[1].state
    for name in ("kinds", "prices", "end"):
        grouped = np.asarray(getattr(state, name)).reshape(16, 4, -1)
        np.testing.assert_array_equal(grouped[:, 0], grouped[:, 2])
    assert len(np.unique(np.asarray(state.prices).reshape(16, 4, -1)[:, 0], axis=0)) > 8


def test_prompt_prefill_is_shared_without_a_trace(world):
    """A group's cache, read once and copied, is what each member would have read."""
    tables = world.constrained
    buyer = players.LanguageModelPlayer(BUYER, world.program.model, world.weights, SamplingConfig())
    C = tables.buyer.layout.prompt + tables.buyer.layout.own
    prompt = players.Chunk(jnp.pad(tables.buyer.prompts_NxL[:3], ((0, 0), (0, 2))), jnp.ones((3, C), bool))
    shared = buyer.begin(tables, prompt, 2)
    alone = buyer.begin(tables, jax.tree.map(lambda x: jnp.repeat(x, 2, axis=0), prompt), 1)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), shared, alone)


@pytest.mark.slow
def test_stages_of_a_long_context_change_nothing(world, monkeypatch):
    """Four turns, two a stage or all at once: the same messages, whatever columns are not filled yet."""
    game = dataclasses.replace(small.GAME, turns=4)
    built = world.catalog, Own(world.tokenizer), game, small.LANGUAGE
    tables = build_tables(*built, token_grammar=world.constrained.grammar)
    scenarios = rollout.sample_scenarios(jax.random.key(2), tables, 8)
    buyer = players.LanguageModelPlayer(
        BUYER, world.program.model, world.weights, SamplingConfig(temperature=TEMPERATURE)
    )

    def play() -> rollout.Dialogue:
        # A new function each time, since what is compiled for one is kept.
        return jax.jit(lambda: rollout.rollout(jax.random.key(4), tables, scenarios, 4, buyer).buyer)()

    together = play()
    monkeypatch.setattr(players, "_STAGE", 1)
    assert len(players.stages(tables)) == 2
    apart = play()
    assert (apart.sampled_BxKxW[:, 1:].any(axis=(1, 2))).mean() > 0.5
    np.testing.assert_array_equal(apart.tokens_BxT, together.tokens_BxT)
    np.testing.assert_allclose(apart.log_probs_BxKxW, together.log_probs_BxKxW, atol=1e-4)

"""A language model as the seller: a context of its own, regulation, and nothing of the other side's secrets."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from negot_jax.game import buyers
from negot_jax.game.types import BUYER, SELLER, End, Kind
from negot_jax.language import tokenizer as tokens
from negot_jax.language.dialect import Own
from negot_jax.models import transformer
from negot_jax.models.sampling import SamplingConfig
from negot_jax.rl import players, rollout, scoring
from negot_jax.rl.configs import SellerConfig
from negot_jax.rl.tables import Tables, build_tables
from negot_jax.training.warm_start import warm_start
from tests.rl import small
from tests.rl.recital import Recital

SAMPLING = SamplingConfig(temperature=0.7)
POLICIES = (buyers.make("linear(start=0.6, end=1.0)"), buyers.make("constant(share=0.9)"))


def _environment(world, decoding: str, regulation: str = "repair", **catalog) -> Tables:
    """The small world with a seller that reads and writes. catalog: columns to replace."""
    return build_tables(
        dataclasses.replace(world.catalog, **catalog),
        Own(world.tokenizer),
        dataclasses.replace(small.GAME, regulation=regulation),
        dataclasses.replace(small.LANGUAGE, message_tokens=64),
        SellerConfig(model="own", message_tokens=64, decoding=decoding),
        token_grammar=world.constrained.grammar,
    )


@pytest.fixture(scope="module")
def random_weights(world):
    return transformer.init(jax.random.key(11), world.program.model)


@functools.partial(jax.jit, static_argnums=(0, 4))
def _bargain(model, weights, tables, key, scenarios=16) -> rollout.Trajectory:
    """Scripted buyers, two policies twice each in every group, against the model."""
    drawn = rollout.sample_scenarios(key, tables, scenarios)
    buyer = players.scripted_buyer(POLICIES, tables.params.turns, key, keeps_dialogue=True)
    return rollout.rollout(
        key, tables, drawn, 4, buyer, players.LanguageModelPlayer(SELLER, model, weights, SAMPLING, per_scenario=True)
    )


@pytest.fixture(scope="module", params=["constrained", "free"])
def played(request, world, random_weights):
    tables = _environment(world, request.param)
    return tables, _bargain(world.program.model, random_weights, tables, jax.random.key(0))


def test_every_illegal_message_is_replaced_and_counted(played):
    tables, trajectory = played
    state, seller = trajectory.state, trajectory.seller
    moved = np.asarray(state.kinds)[:, :, SELLER] >= 0
    withdrawn = moved & ~np.asarray(seller.sampled_BxKxW).any(axis=2)
    np.testing.assert_array_equal(withdrawn.sum(axis=1), state.interventions)
    assert withdrawn.any()
    if tables.seller.form is None:  # A random model is never readable.
        np.testing.assert_array_equal(withdrawn, moved)
    else:
        assert (moved & ~withdrawn).any()
    assert (np.asarray(state.kinds)[:, :, SELLER][withdrawn] == Kind.OFFER).all()
    deal = np.asarray(state.end) == End.DEAL
    assert (np.asarray(state.deal_price) >= np.asarray(state.scenario.cost))[deal].all()
    ends = set(np.asarray(state.end).tolist())
    assert ends <= {End.DEAL, End.TURN_LIMIT, End.SELLER_QUIT, End.OVERSHOOT}


def test_the_seller_decodes_what_one_pass_over_its_dialogue_gives(played, world, random_weights):
    """Withdrawn messages and what stands in for them included: its cache is what its dialogue says."""
    tables, trajectory = played
    side, seller = tables.seller, trajectory.seller
    scores = jax.jit(scoring.score_messages, static_argnums=(0, 2, 5))(
        world.program.model, random_weights, side.layout, seller, side.form, SAMPLING.temperature
    )
    sampled = np.asarray(seller.sampled_BxKxW)
    ours = np.asarray(scores.log_probs).reshape(sampled.shape)
    if side.form is not None:
        assert sampled[:, 1].any()
        np.testing.assert_allclose(ours[sampled], np.asarray(seller.log_probs_BxKxW)[sampled], atol=1e-4)
    assert np.isfinite(ours).all()


def test_what_each_side_hears_is_what_was_played(played, world):
    """The buyer hears the seller's move as it was played, and so does the seller itself where it was replaced."""
    tables, trajectory = played
    decode = world.tokenizer.decode
    state, buyer, seller = trajectory.state, trajectory.buyer, trajectory.seller
    kinds, prices = np.asarray(state.kinds), np.asarray(state.prices)
    tokens_BxT, valid_BxT = np.asarray(seller.tokens_BxT), np.asarray(seller.valid_BxT)
    layout, own = tables.buyer.layout, tables.seller.layout
    compared = 0
    for row in range(0, len(kinds), 5):
        for turn in range(layout.turns - 1):
            if kinds[row, turn, SELLER] != Kind.OFFER:
                continue
            written = f"[SELL] ${prices[row, turn, SELLER] / 100:g} (1x books_7)"
            start = layout.end(turn)
            assert written in decode(np.asarray(buyer.tokens_BxT)[row, start : start + layout.heard].tolist())
            said = f"[BUY] ${prices[row, turn, BUYER] / 100:g} (1x books_7)"
            heard = slice(own.start(turn) - own.heard, own.start(turn))
            assert said in decode(tokens_BxT[row, heard][valid_BxT[row, heard]].tolist())
            if not np.asarray(seller.sampled_BxKxW)[row, turn].any():
                following = slice(own.end(turn), own.end(turn) + own.heard)
                assert written in decode(tokens_BxT[row, following][valid_BxT[row, following]].tolist())
            compared += 1
    assert compared > 3


def test_a_group_meets_one_seller(played):
    """Members of one policy in a group: the same words, token by token."""
    seller = played[1].seller
    for name in ("tokens_BxT", "valid_BxT", "log_probs_BxKxW"):
        grouped = np.asarray(getattr(seller, name)).reshape(16, 4, -1)
        np.testing.assert_array_equal(grouped[:, 0], grouped[:, 2], err_msg=name)
    assert (grouped[:, 0] != grouped[:1, 0]).any()


def test_regulation_can_end_the_game(world, random_weights):
    tables = _environment(world, "free", regulation="end")
    state = _bargain(world.program.model, random_weights, tables, jax.random.key(1)).state
    assert (np.asarray(state.end) == End.SELLER_ILLEGAL).all()


def _said(world, tables, role, lines, thoughts):
    """Tokens [K, W] and lengths of messages, each with a Thought before it."""
    layout = tables.side(role).layout
    said, lengths = np.zeros((layout.turns, layout.message), np.int32), []
    for turn, (line, thought) in enumerate(zip(lines, thoughts, strict=True)):
        ids = [*world.tokenizer.encode(f"Thought: {thought}\nTalk: So.\nAction: {line}"), tokens.EOT]
        said[turn, : len(ids)] = ids
        lengths.append(len(ids))
    return jnp.array(said), jnp.array(lengths)


def _once(tables, scenarios, buyer, seller) -> rollout.Trajectory:
    return jax.jit(lambda: rollout.rollout(jax.random.key(1), tables, scenarios, 1, buyer, seller))()


SECRETS = (("", ""), ("I have $79.", "abc $1 [QUIT] and much more of it"))


def test_the_seller_does_not_hear_a_thought(world, random_weights):
    """Its log-probabilities are bit-equal, whatever the buyer thinks, and whatever its budget is."""
    dialogues = []
    for thoughts, share in zip(SECRETS, (0.8, 0.9), strict=True):
        tables = _environment(world, "constrained", budget=(world.catalog.price * share).astype(np.int64))
        seller = players.LanguageModelPlayer(SELLER, world.program.model, random_weights, SAMPLING, per_scenario=True)
        buyer = Recital(*_said(world, tables, BUYER, ("[BUY] $40 (1x books_7)", "[BUY] $45 (1x books_7)"), thoughts))
        scenarios = rollout.sample_scenarios(jax.random.key(2), tables, 8)
        play = jax.jit(
            lambda tables, scenarios, buyer, s=seller: rollout.rollout(
                jax.random.key(1), tables, scenarios, 1, buyer, s
            )
        )
        dialogues.append(play(tables, scenarios, buyer).seller)
    jax.tree.map(np.testing.assert_array_equal, *dialogues)
    assert np.asarray(dialogues[0].sampled_BxKxW)[:, 1].any()


def test_the_buyer_does_not_hear_a_thought(world):
    """Nor does it see the cost: its log-probabilities are bit-equal."""
    dialogues = []
    for thoughts, share in zip(SECRETS, (0.2, 0.4), strict=True):
        tables = _environment(world, "constrained", cost=(world.catalog.price * share).astype(np.int64))
        buyer = players.LanguageModelPlayer(BUYER, world.program.model, world.weights, SAMPLING)
        seller = Recital(
            *_said(world, tables, SELLER, ("[SELL] $90 (1x books_7)", "[SELL] $85 (1x books_7)"), thoughts)
        )
        scenarios = rollout.sample_scenarios(jax.random.key(2), tables, 8)
        dialogues.append(_once(tables, scenarios, buyer, seller).buyer)
    jax.tree.map(np.testing.assert_array_equal, *dialogues)
    assert np.asarray(dialogues[0].sampled_BxKxW)[:, 1].any()


def test_the_warm_start_teaches_a_seller_to_speak(world):
    tables = _environment(world, "free")
    model, key = world.program.model, jax.random.key(5)
    config = dataclasses.replace(small.CLONING, steps=70, episodes=24, micro_batches=1)
    config = dataclasses.replace(config, optimizer=dataclasses.replace(config.optimizer, learning_rate=2e-2, warmup=5))
    weights = warm_start(config, model, key, transformer.init(key, model), tables, SELLER)
    state = _bargain(model, weights, tables, jax.random.key(0)).state
    moves = (np.asarray(state.kinds)[:, :, SELLER] >= 0).sum()
    assert np.asarray(state.interventions).sum() < 0.5 * moves


@pytest.mark.slow
def test_nothing_is_ever_sold_below_cost(world, random_weights):
    """100,000 episodes against a seller that names prices at random."""
    tables = _environment(world, "constrained")
    sold = 0
    for batch in range(49):
        state = _bargain(world.program.model, random_weights, tables, jax.random.key(batch), 512).state
        deal = np.asarray(state.end) == End.DEAL
        assert (np.asarray(state.deal_price) >= np.asarray(state.scenario.cost))[deal].all()
        sold += deal.sum()
    assert sold > 1_000

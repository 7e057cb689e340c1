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
from negot_jax.models import transformer
from negot_jax.models.sampling import SamplingConfig
from negot_jax.rl import players, rollout
from negot_jax.training.warm_start import warm_start
from tests.rl import small
from tests.rl.conftest import score_messages
from tests.rl.recital import Recital

SAMPLING = SamplingConfig(temperature=0.7)
POLICIES = (buyers.make("linear(start=0.6, end=1.0)"), buyers.make("constant(share=0.9)"))


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
    tables = world.two_sided(request.param)
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
    scores = score_messages(world.program.model, random_weights, side.layout, seller, side.form, SAMPLING.temperature)
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
                slot = slice(own.start(turn), own.end(turn))
                assert written in decode(tokens_BxT[row, slot][valid_BxT[row, slot]].tolist())
            compared += 1
    assert compared > 3


def test_a_group_meets_one_seller(played):
    """Members of one policy in a group: the same words, token by token."""
    seller = played[1].seller
    for name in ("tokens_BxT", "valid_BxT", "log_probs_BxKxW"):
        grouped = np.asarray(getattr(seller, name)).reshape(16, 4, -1)
        np.testing.assert_array_equal(grouped[:, 0], grouped[:, 2], err_msg=name)
    assert (grouped[:, 0] != grouped[:1, 0]).any()


def test_a_vocabulary_padded_beyond_the_tokenizers_is_not_spoken(world, random_weights):
    """Published models are padded, each to a size of its own."""
    model, tables = world.program.model, world.two_sided("constrained")
    larger = dataclasses.replace(model, vocab_size=model.vocab_size + 64)
    widened = lambda x: jnp.pad(x, ((0, 64), (0, 0))) if x.shape[0] == model.vocab_size else x
    padded = {**random_weights, "ends": jax.tree.map(widened, random_weights["ends"])}
    said = _bargain(larger, padded, tables, jax.random.key(0), 4).seller
    assert said.sampled_BxKxW.any() and said.tokens_BxT.max() < model.vocab_size


@pytest.mark.parametrize("kind", ["model", "script"])
def test_a_group_meets_one_buyer(kind, world):
    """An opponent draws from the scenario: against one seller all members of a group play one episode."""
    tables, turns = world.constrained, world.constrained.params.turns
    buyer = players.scripted_buyer((buyers.make("concession(noise=0.2)"),), turns)
    if kind == "model":
        buyer = players.LanguageModelPlayer(BUYER, world.program.model, world.weights, SAMPLING, per_scenario=True)
    scenarios = rollout.sample_scenarios(jax.random.key(3), tables, 8)
    state = jax.jit(lambda: rollout.rollout(jax.random.key(1), tables, scenarios, 4, buyer).state)()
    prices = np.asarray(state.prices).reshape(8, 4, -1)
    np.testing.assert_array_equal(prices, np.repeat(prices[:, :1], 4, axis=1))
    shares = prices[:, 0, 0] / np.asarray(scenarios.budget)
    assert len(np.unique(shares.round(3))) > 3  # Another scenario, another draw.


def test_regulation_can_end_the_game(world, random_weights):
    tables = world.two_sided("free", regulation="end")
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


SECRETS = (("", ""), ("I have $79.", "abc $1 [QUIT] and much more of it"))


LINES = {
    BUYER: ("[BUY] $40 (1x books_7)", "[BUY] $45 (1x books_7)"),
    SELLER: ("[SELL] $90 (1x books_7)", "[SELL] $85 (1x books_7)"),
}
PRIVATE = {BUYER: ("budget", (0.8, 0.9)), SELLER: ("cost", (0.2, 0.4))}


@pytest.mark.parametrize("role", [BUYER, SELLER])
def test_a_model_does_not_hear_the_others_secrets(role, world, random_weights):
    """Its dialogue and log-probabilities are bit-equal, whatever the other side thinks and its private number is."""
    name, shares = PRIVATE[1 - role]
    weights = world.weights if role == BUYER else random_weights
    model = players.LanguageModelPlayer(role, world.program.model, weights, SAMPLING)

    @jax.jit
    def play(tables, scenarios, other):
        seats = (model, other) if role == BUYER else (other, model)
        return rollout.rollout(jax.random.key(1), tables, scenarios, 1, *seats).dialogue(role)

    dialogues = []
    for thoughts, share in zip(SECRETS, shares, strict=True):
        tables = world.two_sided("constrained", **{name: (world.catalog.price * share).astype(np.int64)})
        other = Recital(*_said(world, tables, 1 - role, LINES[1 - role], thoughts), 1 - role)
        dialogues.append(play(tables, rollout.sample_scenarios(jax.random.key(2), tables, 8), other))
    jax.tree.map(np.testing.assert_array_equal, *dialogues)
    assert np.asarray(dialogues[0].sampled_BxKxW)[:, 1].any()


@pytest.mark.slow
def test_the_warm_start_teaches_a_seller_to_speak(world):
    tables = world.two_sided("free")
    model, key = world.program.model, jax.random.key(5)
    config = small.CLONING
    weights = warm_start(config, model, key, transformer.init(key, model), tables, SELLER)
    state = _bargain(model, weights, tables, jax.random.key(0)).state
    moves = (np.asarray(state.kinds)[:, :, SELLER] >= 0).sum()
    assert np.asarray(state.interventions).sum() < 0.5 * moves


@pytest.mark.slow
def test_nothing_is_ever_sold_below_cost(world, random_weights):
    """100,000 episodes against a seller that names prices at random."""
    tables = world.two_sided("constrained")
    sold = 0
    for batch in range(49):
        state = _bargain(world.program.model, random_weights, tables, jax.random.key(batch), 512).state
        deal = np.asarray(state.end) == End.DEAL
        assert (np.asarray(state.deal_price) >= np.asarray(state.scenario.cost))[deal].all()
        sold += deal.sum()
    assert sold > 1_000

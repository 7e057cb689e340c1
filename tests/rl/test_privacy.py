"""Privacy as non-interference: with every visible token equal, what one side hides leaves the other side bit-equal.

And credit: what the learner did not say is no target of its loss.
"""

import dataclasses

import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from negot_jax.game import buyers, sellers
from negot_jax.game.types import BUYER, Action, Argument, Kind
from negot_jax.language import tokenizer as tokens
from negot_jax.language.dialect import Own
from negot_jax.models import transformer
from negot_jax.rl import rollout
from negot_jax.rl.tables import Tables, build_tables
from negot_jax.rl.train_step import NOTHING_FROZEN, Frozen, episode_loss, make_targets
from tests.rl import small
from tests.rl.conftest import TEMPERATURE, score_messages
from tests.rl.recital import Recital


@dataclasses.dataclass(frozen=True)
class Stonewall:
    """A seller of whose cost nothing shows: it asks the list price and takes nothing."""

    margin: float = 0.0

    def draw_type(self, key, scenario):
        return ()

    def act(self, key, hidden, obs, turns):
        return Action(kind=jnp.int32(Kind.OFFER), price=obs.price, acts=jnp.int32(0))


def _with_costs(world, decoding: str, share: float) -> Tables:
    """The same products, every cost at a share of the list price."""
    catalog = world.catalog
    catalog = dataclasses.replace(catalog, cost=(catalog.price * share).astype(catalog.cost.dtype))
    language = dataclasses.replace(small.LANGUAGE, decoding=decoding)
    return build_tables(catalog, Own(world.tokenizer), small.GAME, language, token_grammar=world.constrained.grammar)


@pytest.mark.parametrize("weights", ["cloned", "random"])
@pytest.mark.parametrize("decoding", ["constrained", "free"])
def test_the_buyer_does_not_see_the_cost(decoding, weights, world):
    """Whole dialogues against a seller who gives nothing away: tokens and log-probabilities are bit-equal."""
    model = world.program.model
    weights = world.weights if weights == "cloned" else transformer.init(jax.random.key(3), model)
    low, high = (_with_costs(world, decoding, share).replace(script=Stonewall()) for share in (0.3, 0.6))
    assert (low.params.products.cost != high.params.products.cost).all()
    for ours, theirs in zip(
        jax.tree.leaves((low.buyer.prompts_NxL, low.buyer.own_KxH)),
        jax.tree.leaves((high.buyer.prompts_NxL, high.buyer.own_KxH)),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)
    one, other = world.play(low, weights).buyer, world.play(high, weights).buyer
    for name in ("tokens_BxT", "valid_BxT", "log_probs_BxKxW", "choices_BxKxW"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    scores = [
        score_messages(model, weights, low.buyer.layout, played, low.buyer.form, TEMPERATURE) for played in (one, other)
    ]
    jax.tree.map(np.testing.assert_array_equal, *scores)


@pytest.mark.parametrize("decoding", ["constrained", "free"])
def test_the_cost_shows_only_once_the_seller_speaks(decoding, world):
    """Against the default seller: the buyer's first message is the same to the bit, and later ones are not."""
    one, other = (world.play(_with_costs(world, decoding, share), world.weights).buyer for share in (0.3, 0.6))
    end = world.constrained.buyer.layout.end(0)
    np.testing.assert_array_equal(one.tokens_BxT[:, :end], other.tokens_BxT[:, :end])
    np.testing.assert_array_equal(one.log_probs_BxKxW[:, 0], other.log_probs_BxKxW[:, 0])
    assert (np.asarray(one.tokens_BxT) != np.asarray(other.tokens_BxT)).any()


@jax.jit
def _recite(tables, scenarios, said_KxW, lengths_K):
    return rollout.rollout(jax.random.key(1), tables, scenarios, 1, Recital(said_KxW, lengths_K))


@hypothesis.settings(max_examples=25)
@hypothesis.given(st.data())
def test_the_seller_does_not_hear_a_thought(world, data):
    """Two buyers who say and do the same, and think at random: the seller's moves and words are bit-equal."""
    layout = dataclasses.replace(world.free.buyer.layout, message=80)
    # A seller that listens to arguments, whose floor is moved by them.
    hears = sellers.make("persuadable(tick=100)")
    tables = world.free.replace(buyer=world.free.buyer.replace(layout=layout), script=hears)
    scenarios = rollout.sample_scenarios(jax.random.key(2), tables, 8)
    # Any tokens but those that end the line, or the message.
    unbroken = [
        i for i, said in enumerate(world.tokenizer.token_bytes) if i != tokens.EOT and not set(said) & set(b"\r\n")
    ]
    thoughts = data.draw(st.lists(st.lists(st.sampled_from(unbroken), max_size=12), min_size=4, max_size=4))

    def recite(thoughts):
        said, lengths = np.zeros((layout.turns, layout.message), np.int32), []
        for turn, thought in enumerate(thoughts):
            spoken = world.tokenizer.encode(f"\nTalk: I buy now.\nAction: [BUY] ${40 + 5 * turn} (1x books_7)")
            whole = [*world.tokenizer.encode("Thought: "), *thought, *spoken, tokens.EOT]
            said[turn, : len(whole)] = whole
            lengths.append(len(whole))
        return _recite(tables, scenarios, jnp.array(said), jnp.array(lengths))

    one, other = recite(thoughts[:2]), recite(thoughts[2:])
    assert (np.asarray(one.state.kinds)[:, 0] >= 0).all()
    assert (np.asarray(one.state.acts)[:, 0, BUYER] == 1 << Argument.URGENCY).all()
    for name in ("kinds", "prices", "acts", "end", "deal_price", "turn"):
        np.testing.assert_array_equal(getattr(one.state, name), getattr(other.state, name), err_msg=name)
    for turn in range(layout.turns):
        reply = slice(layout.end(turn), layout.end(turn) + 1 + layout.reply)
        np.testing.assert_array_equal(one.buyer.tokens_BxT[:, reply], other.buyer.tokens_BxT[:, reply])
        np.testing.assert_array_equal(one.buyer.valid_BxT[:, reply], other.buyer.valid_BxT[:, reply])


@pytest.mark.parametrize("case", ["buyer, constrained", "buyer, free", "seller, constrained"])
def test_no_gradient_from_what_the_learner_did_not_say(case, world, monkeypatch):
    """Prompts, headers, the other side's tokens and padding, all replaced: the loss and its gradient are bit-equal.

    As context they do act on the learner's tokens, by right; so the trunk is put out of play, and what is left is what
    they do as targets. Nor has the frozen opponent a gradient.
    """
    role, decoding = case.split(", ")
    program, tables = world.program, getattr(world, decoding)
    if role == "seller":
        program, tables = (
            world.seller_program((buyers.make("concession"),)),
            world.two_sided(decoding, message_tokens=32),
        )
        scenarios = rollout.sample_scenarios(jax.random.key(0), tables, 8)
        seated = program.players(world.weights, NOTHING_FROZEN, tables)
        played = jax.jit(lambda: rollout.rollout(jax.random.key(4), tables, scenarios, 4, *seated).seller)()
    else:
        played = world.play(tables, world.weights).buyer
    hidden = jax.random.normal(jax.random.key(0), (*played.tokens_BxT.shape, program.model.width))
    trunk = lambda config, weights, tokens, *others: (others[-1].take(hidden[:, : tokens.shape[1]]), None, None)
    monkeypatch.setattr(transformer, "forward", trunk)
    reward_B = jax.random.uniform(jax.random.key(1), played.tokens_BxT.shape[:1])
    own = np.zeros(played.tokens_BxT.shape, bool)
    layout = tables.side(program.role).layout
    for turn in range(layout.turns):
        own[:, layout.start(turn) : layout.end(turn)] = played.sampled_BxKxW[:, turn]
    assert own.any() and not own.all()
    other = jax.random.randint(jax.random.key(2), own.shape, 0, program.model.vocab_size)
    spoilt = played.replace(
        tokens_BxT=jnp.where(own, played.tokens_BxT, other),
        log_probs_BxKxW=jnp.where(played.sampled_BxKxW, played.log_probs_BxKxW, -7.0),
    )
    frozen = Frozen(opponent=world.weights)

    def gradient(dialogue):
        targets, _ = make_targets(program, world.weights, frozen, tables, dialogue, reward_B)
        loss = lambda weights, frozen: episode_loss(program, tables, frozen, weights, (dialogue, targets))[0][0]
        return jax.value_and_grad(loss, argnums=(0, 1))(world.weights, frozen)

    (loss, (slopes, none)), (again, (others, _)) = gradient(played), gradient(spoilt)
    assert loss == again
    jax.tree.map(np.testing.assert_array_equal, slopes, others)
    assert any(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(slopes))
    assert not any(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(none))

"""A match equals the arena where both can play, keeps secrets, and counts what is incomplete apart."""

import dataclasses

import jax
import numpy as np
import pytest

from negot_jax import catalog as catalogs
from negot_jax.evaluation import arena, report, statistics
from negot_jax.evaluation.arena import Arena, EvaluationConfig
from negot_jax.evaluation.episodes import TRAINED
from negot_jax.evaluation.match import seats
from negot_jax.evaluation.match.play import Table, play
from negot_jax.evaluation.match.seats import Reply
from negot_jax.evaluation.tables import Settings
from negot_jax.game import buyers
from negot_jax.game import play as plays
from negot_jax.game.types import BUYER, NONE, SELLER, End, Kind
from negot_jax.models import sharding, transformer
from negot_jax.models.sampling import SamplingConfig
from negot_jax.rl.configs import SellerConfig
from negot_jax.rl.train_step import NOTHING_FROZEN
from tests.rl import small

KEY = jax.random.key(5)
FACTS = {"buyer": TRAINED, "seller": "neutral"}
PRODUCTS = 5


@dataclasses.dataclass
class Scripted:
    """A `TextSeat` that says the same in every turn, and fails where it is told to. views: what it was shown."""

    said: str
    fails: tuple[int, ...] = ()
    views: list = dataclasses.field(default_factory=list)

    def speak(self, views):
        self.views += views
        fails = lambda view: view.product in self.fails
        return [Reply(None, 0, "status 500") if fails(view) else Reply(view.read(self.said)) for view in views]


@pytest.fixture(scope="module")
def world():
    """Products, tokenizer, program and random weights; tables for a scripted seller and for one that speaks."""
    products = small.catalog().take(range(PRODUCTS))
    words = small.tokenizer(small.catalog())
    program = small.program(words.vocab_size)
    tables = small.tables(products, words)
    spoken = small.tables(
        products, words, seller=SellerConfig(model="base", message_tokens=48), token_grammar=tables.grammar
    )
    return products, words, program, transformer.init(jax.random.key(2), program.model), tables, spoken


@pytest.fixture(autouse=True)
def _on_a_mesh():
    with jax.set_mesh(sharding.make(sharding.MeshConfig())):
        yield


def _table(world, tables, batch=4):
    return Table(tables, world[0], world[1], (48, 48), batch, FACTS)


def _assert_same(episodes, state):
    """That episodes are those of final states."""
    for row, own in enumerate(episodes):
        kinds, prices = (np.full((small.GAME.turns, 2), NONE) for _ in range(2))
        for message in own.messages:
            kinds[message.turn, message.role] = message.kind
            prices[message.turn, message.role] = NONE if message.price is None else message.price
        np.testing.assert_array_equal(kinds, state.kinds[row])
        np.testing.assert_array_equal(prices, state.prices[row])
        assert own.end == state.end[row] and own.product == state.scenario.product[row]


def test_a_trained_buyer_plays_the_arenas_episodes(world):
    products, words, program, weights, tables, _ = world
    drawn = arena.scenarios(tables.params, 2, KEY)
    prior = catalogs.products(products)
    arena_ = Arena(program, NOTHING_FROZEN, EvaluationConfig(batch=4), tables, tables, prior)
    expected = arena_.play_language_model(weights, drawn, KEY)
    seated = (seats.Trained(program, SamplingConfig(), weights, NOTHING_FROZEN), seats.ScriptedSeller())
    episodes = play(_table(world, tables), seated, KEY, drawn)
    assert len(episodes) == 2 * PRODUCTS and [own.episode for own in episodes] == [0, 1] * PRODUCTS
    _assert_same(episodes, expected.state)
    assert len({own.messages[0].price for own in episodes}) > 2 and episodes[0].messages[0].tokens > 5
    assert episodes[0].hidden and all(own.messages[1].text.startswith("Talk:") for own in episodes if own.messages[1:])


def test_a_scripted_buyer_plays_the_arenas_episodes(world):
    tables, policy = world[4], buyers.make("tit_for_tat(noise=0.1)")
    drawn = arena.scenarios(tables.params, 2, KEY)
    expected, _ = plays.play(KEY, policy, tables.script, drawn, tables.params)
    seated = (seats.ScriptedBuyer(policy), seats.ScriptedSeller())
    _assert_same(play(_table(world, tables), seated, KEY, drawn), jax.device_get(expected.replace(scenario=drawn)))


def test_a_model_hears_text_but_no_thought(world):
    _, _, program, weights, _, spoken = world
    drawn = arena.scenarios(spoken.params, 8, KEY)  # Most of them end in the first turn.
    buyer = seats.Trained(program, SamplingConfig(), weights, NOTHING_FROZEN)
    code = world[0].codenames[0]

    def meet(seller):
        return play(_table(world, spoken), (buyer, seller), KEY, drawn)

    plain = Scripted(f"Talk: No.\nAction: [SELL] $99 (1x {code})")
    thinking = Scripted(f"Thought: my cost is $3\nTalk: No.\nAction: [SELL] $99 (1x {code})")
    said = lambda episodes: [[m.text for m in own.messages if m.role == BUYER] for own in episodes]
    assert said(meet(plain)) == said(meet(thinking))
    other = meet(Scripted(f"Talk: Never, go away!\nAction: [SELL] $12 (1x {code})"))
    assert said(other) != said(meet(plain))
    # It knows its own cost, the list price and what it heard, and not the budget or a Thought of the buyer's.
    view = next(view for view in plain.views if view.turn == 1)
    assert view.private == world[0].cost[view.product] and "budget" not in view.rules
    assert [line.own for line in view.said] == [False, True, False]
    assert not any("Thought:" in line.text for line in view.said if not line.own)
    assert len(plain.views) <= 2 * small.GAME.turns * PRODUCTS * 8  # Nobody is asked for the rows that fill a batch.


def test_an_illegal_message_is_replaced(world):
    tables, code = world[5], world[0].codenames[0]
    seller = Scripted(f"Action: [SELL] $0.01 (1x {code})")
    seated = (seats.ScriptedBuyer(buyers.make("constant(share=0.1)")), seller)
    episodes = play(_table(world, tables), seated, KEY, arena.scenarios(tables.params, 1, KEY))
    message = episodes[0].messages[1]
    assert message.replaced and message.withdrawn == seller.said and message.price > episodes[0].cost
    again = next(view for view in seller.views if view.product == 0 and view.turn == 1)
    assert episodes[0].interventions == 2 and again.said[1].text == message.text


def test_what_a_server_failed_is_incomplete(world, tmp_path):
    tables, code = world[5], world[0].codenames[0]
    buyer = Scripted(f"Action: [BUY] $1 (1x {code})", fails=(1, 3))
    seated = (buyer, seats.ScriptedSeller())
    episodes = play(_table(world, tables), seated, KEY, arena.scenarios(tables.params, 2, KEY))
    assert [own.product for own in episodes if not own.complete] == [1, 1, 3, 3]
    assert {own.end for own in episodes if not own.complete} == {End.ONGOING}
    totals = statistics.totals(episodes)[TRAINED]
    np.testing.assert_array_equal(totals["reward"][1], [2, 0, 2, 0, 2])
    settings = Settings("own", PRODUCTS, 2, "dollars", "free", "neutral", (), {}, "command")
    text = report.write_match(tmp_path, episodes, settings, {"buyer": {"retries": 3}})
    assert "n incomplete" in text and "status 500" in text and "retries" in text
    assert (tmp_path / "table.md").exists() and (tmp_path / "episodes.jsonl").exists()
    report.write_match(tmp_path, [own for own in episodes if not own.complete], settings, {})
    assert not (tmp_path / "table.md").exists() and not (tmp_path / "evaluation.json").exists()


def test_a_message_that_is_too_long_is_cut(world):
    tokenizer, code = world[1], world[0].codenames[0]
    view = seats.View(BUYER, 0, 0, 0, 3, "", "", code, 10_000, 8_000, NONE, (), tokenizer, cap=20)
    assert view.read(f"Action: [BUY] $1 (1x {code})")[1:] == (Kind.OFFER, 100, 0, False)
    long = view.read("Talk: " + "no " * 40 + f"\nAction: [BUY] $1 (1x {code})")
    assert long.kind == Kind.CUT and long.cut and len(tokenizer.encode(long.text)) <= 20
    seller = dataclasses.replace(view, role=SELLER)
    assert seller.read(f"Action: [BUY] $1 (1x {code})").kind == Kind.UNREADABLE

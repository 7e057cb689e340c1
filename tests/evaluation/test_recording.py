"""From tokens to episodes: each side's words are its own, and what the environment replaced is told."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from negot_jax.evaluation import recording
from negot_jax.evaluation.episodes import TRAINED
from negot_jax.game import buyers
from negot_jax.game.types import BUYER, SELLER, End, Kind
from negot_jax.language import tokenizer as tokens
from negot_jax.rl import players, rollout
from negot_jax.rl.configs import GameConfig, SellerConfig
from tests.rl import small
from tests.rl.recital import Recital

MESSAGE = 48  # Tokens.
BID = "Thought: a secret\nTalk: Hello.\nAction: [BUY] $30 (1x books_7)"
CLOSING = "Action: [QUIT]"
ILLEGAL = "Thought: mine\nTalk: Nearly free!\nAction: [SELL] $0 (1x books_7)"
ASK = "Talk: My price.\nAction: [SELL] $95.50 (1x books_7)"


@pytest.fixture(scope="module")
def world():
    products = small.catalog()
    words = small.tokenizer(products)
    language = dataclasses.replace(small.LANGUAGE, message_tokens=MESSAGE, decoding="free")
    seller = SellerConfig(model="own", message_tokens=MESSAGE)

    @functools.cache
    def make(regulation: str):
        game = GameConfig(turns=2, regulation=regulation)
        return small.tables(products, words, language, seller=seller, game=game)

    return products, words, make


def recited(words, end: int, texts: list[str], role: int) -> Recital:
    said = [[*words.encode(text), end] for text in texts]
    padded = [own + [tokens.PAD] * (MESSAGE - len(own)) for own in said]
    return Recital(jnp.array(padded), jnp.array([len(own) for own in said]), role)


def recorded(world, buyer, sold: list[str], regulation: str = "repair"):
    """Two episodes of a buyer, given by its messages or a policy, and a seller that recites."""
    products, words, make = world
    tables = make(regulation)
    if isinstance(buyer, list):
        buyer = recited(words, tables.end, buyer, BUYER)
    else:
        buyer = players.scripted_buyer([buyer], tables.params.turns)
    seller = recited(words, tables.end, sold, SELLER)
    drawn = rollout.sample_scenarios(jax.random.key(0), tables, 2)
    played = jax.jit(lambda tables, drawn: rollout.rollout(jax.random.key(0), tables, drawn, 1, buyer, seller))
    trajectory = rollout.readable(played(tables, drawn))
    common = {"buyer": TRAINED, "seller": "reciting"}
    made = recording.record(jax.device_get(trajectory), tables, products, words, common)
    np.testing.assert_array_equal([own.product for own in made], drawn.product)
    return made


def test_both_sides_say_what_they_said_and_what_was_withdrawn_is_kept(world):
    for own in recorded(world, [BID, CLOSING], [ILLEGAL, ASK]):
        bid, swapped, closing = own.messages
        assert (bid.text, bid.kind, bid.price) == (BID, Kind.OFFER, 3000) and bid.parts["thought"] == "a secret"
        assert bid.tokens > 5 and not bid.replaced
        assert swapped.replaced and swapped.withdrawn == ILLEGAL and swapped.tokens == 0
        assert f"[SELL] ${swapped.price // 100}" in swapped.text and swapped.price > own.cost
        assert (closing.text, closing.kind, closing.turn) == (CLOSING, Kind.QUIT, 1)
        assert (own.end, own.interventions, own.deal_price, own.reward) == (End.BUYER_QUIT, 1, None, 0.0)
        assert own.title and own.codename == "books_7" and len(own.key) == 2 and own.hidden == {}


def test_a_scripted_buyer_is_quoted_by_what_the_seller_heard(world):
    for own in recorded(world, buyers.make("constant(share=0.1)"), [ASK, ASK]):
        bid, ask, *_ = own.messages
        assert bid.text.startswith("Talk: ") and "[BUY] $8 (1x books_7)" in bid.text and bid.tokens == 0
        assert (ask.text, ask.replaced, ask.price) == (ASK, False, 9550)


def test_where_regulation_ends_the_game_the_illegal_message_is_the_last(world):
    for own in recorded(world, [BID, CLOSING], [ILLEGAL, ASK], "end"):
        assert own.end == End.SELLER_ILLEGAL and own.messages[-1].text == ILLEGAL
        assert not own.messages[-1].replaced and own.interventions == 1

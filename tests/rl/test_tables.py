"""Environments: columns, and what is refused."""

import dataclasses

import pytest

from negot_jax.game.types import BUYER, SELLER
from negot_jax.language import prompts
from negot_jax.language.dialect import Own
from negot_jax.rl.configs import GameConfig
from negot_jax.rl.layout import Layout
from negot_jax.rl.tables import build_tables
from tests.rl import small


def test_columns_follow_one_another():
    buyer = Layout(role=BUYER, prompt=10, own=2, message=5, closing=0, other=1, reply=4, stand_in=0, turns=3)
    assert buyer.start(0) == 12  # Prompt, then the buyer's header.
    assert [buyer.start(k + 1) - buyer.end(k) for k in range(2)] == [7, 7]  # Seller's header, reply, buyer's header.
    assert buyer.columns == buyer.end(2) == 12 + 3 * 5 + 2 * 7
    seller = dataclasses.replace(buyer, role=SELLER, closing=1)
    assert seller.start(0) == 10 + 8  # Prompt, then what the buyer says, which it always hears first.
    assert seller.columns == 10 + 3 * (8 + 5)


def test_prompts_and_codes_are_the_catalogs(world):
    tables, catalog, tokenizer = world.constrained, world.catalog, world.tokenizer
    for product in (0, len(catalog) - 1):
        prompt = tokenizer.decode(tables.buyer.prompts_NxL[product, : tables.buyer.prompt_lengths_N[product]].tolist())
        assert prompt.startswith(prompts.rules(catalog, product, 0, tables.params.turns, "compact"))
        code = tokenizer.decode(tables.codes_NxC[product, : tables.code_lengths_N[product]].tolist())
        assert code == catalog.codenames[product]


def test_a_message_needs_room(world):
    language = dataclasses.replace(small.LANGUAGE, message_tokens=12)
    with pytest.raises(ValueError, match=r"language.message_tokens=12 .* Set language.message_tokens >= \d+"):
        build_tables(world.catalog, Own(world.tokenizer), small.GAME, language)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"turns": 0}, "game.turns=0"),
        ({"turns": 101}, "game.turns=101 .* 1 to 100"),
        ({"seller": "neutrl"}, "did you mean 'neutral'"),
    ],
)
def test_a_bad_game_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        GameConfig(**changes)

"""Environments: columns, and what is refused."""

import dataclasses

import pytest

from negot_jax.language import prompts
from negot_jax.rl import environment
from negot_jax.rl.environment import GameConfig, Layout


def test_columns_follow_one_another():
    layout = Layout(prompt=10, header=2, message=5, reply=4, turns=3)
    assert layout.start(0) == 12  # Prompt, then the buyer's header.
    assert [layout.start(k + 1) - layout.end(k) for k in range(2)] == [7, 7]  # Seller's header, reply, buyer's header.
    assert layout.columns == layout.end(2) == 12 + 3 * 5 + 2 * 7


def test_prompts_and_codes_are_the_catalogues(world):
    env, catalog, tokenizer = world.constrained, world.catalog, world.tokenizer
    for product in (0, len(catalog) - 1):
        prompt = tokenizer.decode(env.prompts_NxL[product, : env.prompt_lengths_N[product]].tolist())
        assert prompt.startswith(prompts.rules(catalog, product, 0, env.layout.turns, "compact"))
        code = tokenizer.decode(env.codes_NxC[product, : env.code_lengths_N[product]].tolist())
        assert code == catalog.codenames[product]


def test_a_message_needs_room(world):
    language = dataclasses.replace(world.config.language, message_tokens=12)
    with pytest.raises(ValueError, match=r"language.message_tokens=12 .* Set language.message_tokens >= \d+"):
        environment.build(world.catalog, world.tokenizer, world.config.game, language, world.free.grammar)


@pytest.mark.parametrize(
    ("changes", "message"), [({"turns": 0}, "game.turns=0"), ({"seller": "neutrl"}, "did you mean 'neutral'")]
)
def test_a_bad_game_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        GameConfig(**changes)

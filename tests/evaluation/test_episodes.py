"""Episodes as records: nothing is lost on the disk, damage is named, and outcomes are those of the game."""

import dataclasses
import json

from hypothesis import given
from hypothesis import strategies as st
import jax
import numpy as np
import pytest

from negot_jax import catalog as catalogs
from negot_jax.catalog import synthetic
from negot_jax.evaluation import episodes
from negot_jax.evaluation.episodes import Episode, Message, Row, Rules
from negot_jax.game import bargaining, buyers, play, sellers
from negot_jax.game.types import BUYER, NONE, SELLER, End, GameParams, Kind
from tests.evaluation.made import episode

TEXTS = st.text() | st.sampled_from(
    [
        "Thought: low\nTalk: Hi.\nAction: [BUY] $4 (1x a_1)",
        "Talk: a\nTalk: b",
        "Action:",
        "Talk:x",
        " Talk: a",
        "\r\n\u2028",
    ]
)
MESSAGES = st.builds(
    Message,
    role=st.sampled_from([BUYER, SELLER]),
    turn=st.integers(0, 5),
    kind=st.sampled_from(Kind),
    price=st.none() | st.integers(0, 10**9),
    text=TEXTS,
    tokens=st.integers(0, 4000),
    acts=st.integers(0, 2**16),
    replaced=st.booleans(),
    withdrawn=TEXTS,
)


@given(st.lists(MESSAGES, max_size=4), st.text(), st.sampled_from(End))
def test_nothing_is_lost_on_the_disk(tmp_path_factory, messages, title, end):
    path = tmp_path_factory.mktemp("episodes") / "episodes.jsonl"
    written = [
        episode(title=title, messages=tuple(messages), end=end, key=(1, 2**32 - 1), incomplete=title),
        episode(buyer=Row("tuned", "tuned linear", (("start", 0.4),)), hidden={"floor": "$4"}, rules=Rules(2, "end")),
    ]
    episodes.write(path, written)
    assert episodes.read(path) == written


def test_messages_stand_in_parts_and_whole_only_where_the_parts_do_not_make_them():
    first, second, _ = episode().to_json()["messages"]
    assert (first["thought"], first["talk"], first["action"]) == ("low", "Hello.", "[BUY] $40 (1x lamps_1)")
    assert "text" not in first and (first["role"], first["kind"], first["price"]) == ("buyer", "offer", 4000)
    assert second == {
        "role": "seller", "turn": 0, "kind": "offer", "price": 6000, "replaced": True, "withdrawn": "Talk: $1!"
    }  # fmt: skip
    odd = dataclasses.replace(episode().messages[0], text="oh\nTalk:  Hello.")
    assert episode(messages=(odd,)).to_json()["messages"][0]["text"] == odd.text


def test_a_torn_last_line_is_left_out_and_other_damage_is_named(tmp_path):
    path = tmp_path / "episodes.jsonl"
    episodes.write(path, [episode(), episode()])
    text = path.read_text()
    path.write_text(text[:-20])
    assert episodes.read(path) == [episode()]
    newer, bare = (json.dumps(json.loads(text.splitlines()[0]) | {"version": 9}), '{"version": 1}')
    for damage, message in ((newer, "version 9"), (bare, "complete"), ("{", "line 2")):
        path.write_text(text.splitlines()[0] + "\n" + damage + "\n")
        with pytest.raises(ValueError, match=f"line 2: .*{message}" if message != "line 2" else message):
            episodes.read(path)


@pytest.mark.parametrize("price", [-1, 2**31, 1.5])
def test_a_price_out_of_range_is_damage_in_any_message(price, tmp_path):
    told = episode().to_json()
    told["messages"] = [told["messages"][0] | {"price": price}, told["messages"][0] | {"price": 100}]
    (tmp_path / "episodes.jsonl").write_text(json.dumps(told) + "\n")
    with pytest.raises(ValueError, match=f"line 1: a message's price={price}"):
        episodes.read(tmp_path / "episodes.jsonl")


def test_outcomes_are_those_of_the_game():
    """Of episodes made from the final states of the game, whatever ended them."""
    params = GameParams(products=catalogs.products(synthetic.load(size=20)), turns=3)
    drawn = bargaining.scenarios(params.products, np.arange(20), jax.random.key(1))
    for buyer in ("constant(share=0.2)", "linear(start=0.5)"):
        states, expected = play.play(jax.random.key(0), buyers.make(buyer), sellers.make("insulting"), drawn, params)
        states = jax.device_get(states.replace(scenario=states.scenario.replace(key=None)))
        made = [_of_state(jax.tree.map(lambda x, i=i: x[i], states), params) for i in range(20)]
        assert len({own.end for own in made}) > 1
        for field in dataclasses.fields(expected):
            ours, theirs = (getattr(both, field.name) for both in (episodes.outcomes(made), expected))
            np.testing.assert_array_equal(ours, theirs, err_msg=field.name)


def _of_state(state, params) -> Episode:
    messages = tuple(
        Message(role, turn, Kind(state.kinds[turn, role]), None if price == NONE else int(price))
        for turn in range(params.turns)
        for role in (BUYER, SELLER)
        if state.kinds[turn, role] != NONE and (price := state.prices[turn, role]) is not None
    )
    numbers = {name: int(getattr(state.scenario, name)) for name in ("price", "budget", "cost", "scale")}
    deal = None if state.deal_price == NONE else int(state.deal_price)
    rules = Rules(params.turns)
    numbers["interventions"] = int(state.interventions)
    return episode(messages=messages, **numbers, end=End(int(state.end)), deal_price=deal, rules=rules)


def test_episodes_of_different_rewards_have_no_common_table():
    with pytest.raises(ValueError, match="deal_only, paper"):
        episodes.outcomes([episode(), episode(rules=Rules(reward="deal_only"))])

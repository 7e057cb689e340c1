"""Dialects: a dialogue in columns is the conversation that the chat format renders."""

import pytest

from negot_jax.game.types import BUYER, SELLER
from negot_jax.language import hf_tokenizer
from negot_jax.language.dialect import infer_chat
from tests.language import vocabularies

MAKERS = {"qwen3": vocabularies.qwen3, "gemma3": vocabularies.gemma3}
RULES, ABOUT, TURNS = "You are to bargain.\nBe brief.", "A lamp.\nIt shines.", 3
SAID = ("Talk: Hi.\nAction: [BUY] $1 (1x toys_1)", "Talk: No.\nAction: [SELL] $9 (1x toys_1)", "Action: [QUIT]")


@pytest.fixture(scope="module", params=MAKERS)
def dialect(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    tokenizer = hf_tokenizer.from_json(MAKERS[request.param](folder), 4096)
    return infer_chat(folder, tokenizer)


def _text(dialect, ids):
    """What the ids spell, control tokens by name."""
    names = {token: name for name, token in dialect.tokenizer.controls.items()}
    return "".join(names[i] if i in names else dialect.tokenizer.decode([i]) for i in ids)


def _conversation(chat, rules, said):
    """As the template renders it; `test_chat` shows that it does."""
    pieces = [*chat.start, rules, *chat.opening]
    for i, content in enumerate(said):
        pieces += [content, chat.ends, *((chat.reply, chat.heard)[i % 2])]
    return "".join(pieces)


def test_the_buyers_columns_are_a_conversation(dialect):
    columns = dialect.prompt(BUYER, RULES, ABOUT, 100, TURNS) + dialect.own_header(BUYER, TURNS)
    opening = f"{ABOUT}\n\nMessages left: 3\nYou speak first."
    said = [opening]
    assert _text(dialect, columns) == _conversation(dialect, RULES, said)
    encode = dialect.tokenizer.encode
    for turn, (own, heard) in enumerate(zip(SAID, SAID[1:], strict=False)):
        columns += [*encode(own), dialect.end, *dialect.other_header(BUYER, TURNS - turn - 1, False), *encode(heard)]
        columns += [dialect.end, *dialect.own_header(BUYER, TURNS - turn - 1)]
        said += [own, f"Messages left: {TURNS - turn - 1}\n{heard}"]
        assert _text(dialect, columns) == _conversation(dialect, RULES, said)


def test_the_sellers_columns_are_a_conversation(dialect):
    columns = dialect.prompt(SELLER, RULES, ABOUT, 100, TURNS) + dialect.other_header(SELLER, TURNS, True)
    columns += [*dialect.tokenizer.encode(SAID[0]), dialect.end, *dialect.own_header(SELLER, TURNS)]
    said = [f"Messages left: 3\n{SAID[0]}"]
    assert _text(dialect, columns) == _conversation(dialect, f"{RULES}\n{ABOUT}", said)


@pytest.mark.parametrize("role", [BUYER, SELLER])
def test_a_long_text_is_cut_and_the_rules_are_not(dialect, role):
    whole, cut = (_text(dialect, dialect.prompt(role, RULES, ABOUT * 40, kept, TURNS)) for kept in (10_000, 6))
    assert ABOUT * 40 in whole and RULES in cut
    assert ABOUT * 2 not in cut and ABOUT[:4] in cut

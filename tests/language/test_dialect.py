"""Dialects: a dialogue in columns is the conversation that the chat format renders."""

import pytest

from negot_jax.game.types import BUYER, SELLER
from negot_jax.language import chat, hf_tokenizer
from negot_jax.language.chat import FORMATS, Message
from negot_jax.language.dialect import Chat
from tests.language import vocabularies

MAKERS = {"qwen3-instruct": vocabularies.qwen3, "qwen3": vocabularies.qwen3, "gemma3": vocabularies.gemma3}
RULES, ABOUT, TURNS = "You are to bargain.\nBe brief.", "A lamp.\nIt shines.", 3
SAID = ("Talk: Hi.\nAction: [BUY] $1 (1x toys_1)", "Talk: No.\nAction: [SELL] $9 (1x toys_1)", "Action: [QUIT]")


@pytest.fixture(scope="module", params=MAKERS)
def dialect(request, tmp_path_factory):
    path = MAKERS[request.param](tmp_path_factory.mktemp(request.param))
    return Chat(hf_tokenizer.from_json(path, 4096), FORMATS[request.param])


def _text(dialect, ids):
    """What the ids spell, control tokens by name."""
    names = {token: name for name, token in dialect.tokenizer.controls.items()}
    return "".join(names[i] if i in names else dialect.tokenizer.decode([i]) for i in ids)


def _conversation(dialect, messages):
    # Of what it said itself, a model that thinks reads no thought where the template renders; here it is in the cache.
    return _text(dialect, chat.encode(dialect.form, dialect.tokenizer, messages))


def test_the_buyers_columns_are_a_conversation(dialect):
    columns = dialect.prompt(BUYER, RULES, ABOUT, 100, TURNS) + dialect.own_header(BUYER, TURNS)
    opening = f"{ABOUT}\n\nMessages left: 3\nYou speak first."
    messages = [Message("system", RULES), Message("user", opening)]
    assert _text(dialect, columns) == _conversation(dialect, messages)
    encode = dialect.tokenizer.encode
    for turn, (own, heard) in enumerate(zip(SAID, SAID[1:], strict=False)):
        columns += [*encode(own), dialect.end, *dialect.other_header(BUYER, TURNS - turn - 1, False), *encode(heard)]
        columns += [dialect.end, *dialect.own_header(BUYER, TURNS - turn - 1)]
        messages += [Message("assistant", own), Message("user", f"Messages left: {TURNS - turn - 1}\n{heard}")]
        read = _text(dialect, columns)
        if dialect.form.thinks:  # The header before its own messages stays; see `_conversation`.
            head, reply, tail = read.rpartition(dialect.form.reply)
            read = head.replace(dialect.form.reply, "") + reply + tail
        assert read == _conversation(dialect, messages)


def test_the_sellers_columns_are_a_conversation(dialect):
    columns = dialect.prompt(SELLER, RULES, ABOUT, 100, TURNS) + dialect.other_header(SELLER, TURNS, True)
    columns += [*dialect.tokenizer.encode(SAID[0]), dialect.end, *dialect.own_header(SELLER, TURNS)]
    system = Message("system", f"{RULES}\n{ABOUT}")
    messages = [system, Message("user", f"Messages left: 3\n{SAID[0]}")]
    assert _text(dialect, columns) == _conversation(dialect, messages)


@pytest.mark.parametrize("role", [BUYER, SELLER])
def test_a_long_text_is_cut_and_the_rules_are_not(dialect, role):
    whole, cut = (_text(dialect, dialect.prompt(role, RULES, ABOUT * 40, kept, TURNS)) for kept in (10_000, 6))
    assert ABOUT * 40 in whole and RULES in cut
    assert ABOUT * 2 not in cut and ABOUT[:4] in cut


def test_formats_are_known_by_template_or_by_control_tokens(tmp_path):
    vocabularies.qwen3(tmp_path)
    tokenizer = hf_tokenizer.load(tmp_path, 4096)
    assert chat.infer(tmp_path, tokenizer) == FORMATS["qwen3-instruct"]
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": "<|im_start|> enable_thinking"}')
    assert chat.infer(tmp_path, tokenizer) == FORMATS["qwen3"]
    (tmp_path / "chat_template.jinja").write_text("<start_of_turn>")
    assert chat.infer(tmp_path, tokenizer) == FORMATS["gemma3"]
    (tmp_path / "chat_template.jinja").write_text("[INST]")
    with pytest.raises(ValueError, match="its chat format is not known, by its template. Known: qwen3-instruct"):
        chat.infer(tmp_path, tokenizer)

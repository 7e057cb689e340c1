"""Transcripts: what they show, and that no message text can break out of its quote (by a Markdown parser)."""

import re

from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
import pytest

from negot_jax.evaluation import transcripts
from negot_jax.evaluation.episodes import Message
from negot_jax.game.types import BUYER, SELLER, End, Kind
from tests.evaluation.made import episode

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
HOSTILE = [
    "# head\n- item\n1. one\n> quote\n---\n===\n    code\n```\nfence\n",
    "<script>alert(1)</script> &amp; $x$ |a|b|\n|-|-|\n",
    "[link](http://x) ![img](y) *a* _b_ `c` ~~d~~ \\ \\* [x]: y\n[x]\n",
    "\x1b[31mred\x00\r\nnext\u2028last\u202eevil\ttab",
    "https://a.example/x www.a.example @someone :tada: someone@a.example",
]


def transcript(**changes):
    values = {
        "title": "Desk lamp",
        "price": 123456,
        "budget": 98765,
        "cost": 5,
        "hidden": {"margin": "12 %"},
        "messages": (
            Message(
                BUYER, 0, Kind.OFFER, 40000, "Thought: go low\nTalk: Hello.\nDear.\nAction: [BUY] $400 (1x lamp_1)"
            ),
            Message(SELLER, 0, Kind.REJECT, text="Talk: No.\nAction: [REJECT]"),
            Message(BUYER, 1, Kind.MISSING, text="hm"),
        ),
        "end": End.MISSING,
        "deal_price": None,
        "reward": -1.0,
    }
    return episode(**(values | changes))


def test_a_message_in_place_of_an_illegal_one_is_marked():
    messages = (Message(SELLER, 0, Kind.REJECT, text="Talk: No.", replaced=True),)
    assert "**Turn 1, Seller (in place of an illegal message):**" in transcripts.markdown(
        [transcript(messages=messages)]
    )


def test_as_many_kinds_of_episodes_are_picked_as_there_are():
    deal, odd, rare = transcript(end=End.DEAL), transcript(end=End.DEAL, budget=4), transcript(end=End.CUT)
    assert transcripts.pick([deal, deal, deal, odd, rare], 4) == [deal, odd, rare, deal]
    assert transcripts.pick([deal], 4) == [deal] and transcripts.pick([deal], 0) == []


def test_an_incomplete_episode_says_why():
    assert "**End:** incomplete: the server said 500" in transcripts.markdown(
        [transcript(incomplete="the server said 500")]
    )


def test_shows_the_facts_each_side_and_the_end():
    assert transcripts.markdown([transcript()]) == (
        "# Transcripts\n\n"
        "## 1. Desk lamp\n\n"
        "- buyer: trained\n"
        "- seller: neutral\n"
        "- list price: \\$1234.56\n"
        "- only the buyer knows: budget \\$987.65\n"
        "- only the seller knows: cost \\$0.05, margin 12 %\n\n"
        "**Turn 1, Buyer:** `[BUY] $400`\n\n"
        "> *Thought (private):* go low\n>\n> *Talk:* Hello.  \n> Dear.\n>\n"
        "> *Action:* \\[BUY\\] \\$400 (1x lamp\\_1)\n\n"
        "**Turn 1, Seller:** `[REJECT]`\n\n"
        "> *Talk:* No.\n>\n> *Action:* \\[REJECT\\]\n\n"
        "**Turn 2, Buyer:** `no action`\n\n"
        "> hm\n\n"
        "**End:** format error: the buyer's message has no action. **Reward:** -1.000\n"
    )


def test_a_deal_shows_its_price():
    text = transcripts.markdown([transcript(end=End.DEAL, deal_price=70, reward=0.5)])
    assert "**End:** deal at \\$0.70. **Reward:** +0.500" in text


@pytest.mark.parametrize("end", End)
def test_every_end_is_told_in_its_own_words(end):
    def told(end):
        return transcripts.markdown([transcript(end=end)]).splitlines()[-1]

    assert sum(told(other) == told(end) for other in End) == 1


def shown(tokens):
    """The characters that a reader sees, a line each."""
    children = (child for token in tokens for child in token.children or ())
    text = "".join("\n" if child.type.endswith("break") else child.content for child in children)
    return text


@given(st.text() | st.text(alphabet="#-+=*_`~[]<>()!|$&\\1.): \n\ta", max_size=40))
@example(HOSTILE[0])
@example(HOSTILE[1])
@example(HOSTILE[2])
@example(HOSTILE[3])
def test_any_message_is_shown_as_it_is_inside_one_quote(text):
    tokens = PARSER.parse(transcripts._quote(" x" + text))
    kinds = {token.type for token in tokens} | {child.type for token in tokens for child in token.children or ()}
    assert (tokens[0].type, tokens[-1].type) == ("blockquote_open", "blockquote_close")
    assert kinds <= {
        "blockquote_open", "blockquote_close", "paragraph_open", "paragraph_close", "inline", "text", "text_special",
        "hardbreak", "em_open", "em_close",
    }  # fmt: skip


@given(st.text() | st.text(alphabet="#-+=*_`~[]<>()!|$&\\1.): \n\ta", max_size=40))
@example("".join(HOSTILE))
def test_escaped_lines_read_as_the_plain_text(text):
    tokens = PARSER.parse("  \n".join(transcripts.escape(text)))
    plain = [" ".join(line.split()) for line in text.splitlines()]
    expected = [
        "".join(character if character.isprintable() else "\ufffd" for character in line) for line in plain if line
    ]
    assert shown(tokens).split("\n") == (expected or [""])
    assert all(token.type in ("paragraph_open", "inline", "paragraph_close") for token in tokens)


def test_addresses_names_and_emoji_of_github_are_broken_up():
    (line,) = transcripts.escape(HOSTILE[4])
    assert not re.search(r"https?://|www\.|(?<!\\)(@|:tada)", line)


def test_odd_titles_and_facts_stay_in_their_place():
    odd = transcript(title="\n".join(HOSTILE), hidden={"*mood*": HOSTILE[0]}, seller=HOSTILE[2], messages=())
    tokens = PARSER.parse(transcripts.markdown([odd, odd]))
    assert [token.tag for token in tokens if token.type == "heading_open"] == ["h1", "h2", "h2"]
    assert sum(token.type == "list_item_open" for token in tokens) == 10
    assert not any(token.type in ("html_block", "fence", "code_block", "hr", "table_open") for token in tokens)


def test_an_empty_message_is_said_to_be_empty():
    assert transcripts._quote(" \n") == "> *(empty)*"

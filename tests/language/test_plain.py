"""What is read of messages that come as text, from chat models and people."""

import pytest

from negot_jax.game.types import BUYER, NONE, Kind
from negot_jax.language import plain

MESSAGE = "Thought: mine is 90\nTalk: Fine by me.\nAction: [BUY] $80 (1x books_7)"
SAID = "Talk: Fine by me.\nAction: [BUY] $80 (1x books_7)"


@pytest.mark.parametrize(
    "reply",
    [
        SAID,
        f"\n{SAID}\n\n",
        SAID.replace("\n", "\r\n"),
        f"<think>He wants 90.\nAction: [QUIT]</think>{SAID}",
        f"<Reasoning>two</Reasoning>\n{SAID}",
        f"{SAID}\n<thinking>and now I wait, for",
        f"opened by the template</think>\n\n{SAID}",
        f"```\n{SAID}\n```",
        f"~~~text\n{SAID}\n~~~",
        SAID.replace("Action: [BUY] $80 (1x books_7)", "```Action: [BUY] $80 (1x books_7)```"),
        "**Talk:** Fine by me.\n**Action:** [BUY] $80 (1x books_7)",
        "- Talk: Fine by me.\n- Action: `[BUY] $80 (1x books_7)`",
        "## Talk: Fine by me.\n> *Action*: **[BUY]** \\$80 (1x books_7)",
    ],
)
def test_a_message_is_taken_out_of_what_a_chat_model_wraps_it_in(reply):
    said = plain.unwrap(reply)
    assert [line.replace(":  ", ": ") for line in said.split("\n")] == SAID.split("\n")
    assert plain.action(said.encode(), False, b"books_7", 0)[1] == 8000


@pytest.mark.parametrize(
    "reply",
    [
        f"Thought: mine is 90. Plan:\n- Talk: do not say 90\n- Action: [QUIT] if above 90\n{SAID}",
        f"{SAID}\n\n- Action: [QUIT] only if it goes above 90",
    ],
)
def test_a_list_that_names_parts_is_no_part(reply):
    assert plain.heard(plain.unwrap(reply)) == SAID


def test_emphasis_within_a_talk_is_what_was_said():
    assert plain.unwrap("Talk: It is *really* all I have.") == "Talk: It is *really* all I have."


def test_nothing_is_left_of_reasoning_that_never_ends():
    assert plain.unwrap("<think>First, the price") == ""


@pytest.mark.parametrize(
    ("message", "heard"),
    [
        (MESSAGE, SAID),
        ("Action: [QUIT]\nTalk: Bye.\nThought: a bluff", "Talk: Bye.\nAction: [QUIT]"),
        ("Talk: One.\nTalk: Two.", "Talk: One.\n Two."),
        ("Talk: One.\n\nThought: x\nTalk: Two.\n", "Talk: One.\n\n Two."),
        (f"{SAID}\n\nThought: a bluff", SAID),
        ("Talk:\nAction: [QUIT]", "Action: [QUIT]"),
        ("no parts at all", ""),
        ("Thought: alone", ""),
    ],
)
def test_the_other_side_hears_talk_and_action_alone(message, heard):
    assert plain.heard(message) == heard


def test_a_price_of_thousands_of_digits_is_unreadable():
    said = f"Action: [BUY] ${'1' * 5000} (1x books_7)"
    assert plain.action(said.encode(), False, b"books_7", BUYER) == (Kind.UNREADABLE, NONE)

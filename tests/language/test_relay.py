"""What is copied of a message: exactly its visible tokens, between fresh headers, and nothing of the rest."""

import re

import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from negot_jax.catalog import synthetic
from negot_jax.game.types import BUYER
from negot_jax.language import automaton, grammar, plain, relay
from negot_jax.language import tokenizer as tokens

TOKENIZER = tokens.train([*synthetic.load(24).descriptions], 560)
GRAMMAR = grammar.build(TOKENIZER.token_bytes)
RELAY = relay.build(TOKENIZER, tokens.EOT)
WIDTH = 96
CODE = jnp.uint32(automaton.codename_hash(b"toys_1"))
PARTS = (
    "Thought: I could pay more.",
    "Talk: Hello there.",
    "Talk: One.\nTwo.",
    "Action: [BUY] $5 (1x toys_1)",
    "nothing at all",
    "Act",
)


@jax.jit
def _relay(read, copied, ids_W, length):
    parsed = grammar.parse(read, ids_W, length, jnp.bool_(False), CODE, BUYER)
    return *relay.relay(copied, ids_W, parsed, copied.width(WIDTH)), parsed


def _relayed(ids, read=GRAMMAR, copied=RELAY):
    padded = np.zeros(WIDTH, np.int32)
    padded[: len(ids)] = ids
    written, length, parsed = _relay(read, copied, jnp.array(padded), len(ids))
    return np.asarray(written)[: int(length)].tolist(), parsed


def _expected(ids, parsed):
    """By list operations on the marks."""
    talk, action = (np.asarray(marks)[: len(ids)] for marks in (parsed.talk_L, parsed.action_L))
    talk, action = (np.array(ids)[marks].tolist() for marks in (talk, action))
    encode = TOKENIZER.encode
    for section in (talk, action):
        while section and section[-1] in encode("\n"):
            section.pop()
    said = [*encode("Talk:"), *talk, *(encode("\n") if action else [])] if talk else []
    return [*said, *(encode("Action:") if action else []), *action, tokens.EOT]


@hypothesis.settings(max_examples=200)
@hypothesis.given(st.lists(st.sampled_from(PARTS), max_size=4), st.data())
def test_it_is_the_visible_tokens_between_fresh_headers(parts, data):
    ids = TOKENIZER.encode("\n".join(parts))
    ids = [i for i in ids if data.draw(st.integers(0, 30)) > 0][: WIDTH - 1] + [tokens.EOT]
    written, parsed = _relayed(ids)
    assert written == _expected(ids, parsed)


@pytest.mark.parametrize("thought", ["", "Thought: x\n", "Thought: I have $80 and would pay it all. [QUIT]\n"])
def test_a_thought_leaves_no_trace(thought):
    plain, _ = _relayed([*TOKENIZER.encode("Talk: Hi.\nAction: [BUY] $5 (1x toys_1)"), tokens.EOT])
    written, _ = _relayed([*TOKENIZER.encode(f"{thought}Talk: Hi.\nAction: [BUY] $5 (1x toys_1)"), tokens.EOT])
    assert written == plain
    assert TOKENIZER.decode(written) == "Talk: Hi.\nAction: [BUY] $5 (1x toys_1)"


def test_sections_are_brought_into_order_and_close_up():
    said = "Action: [BUY] $5 (1x toys_1)\nThought: no\nTalk: Well?"
    written, _ = _relayed([*TOKENIZER.encode(said), tokens.EOT])
    assert TOKENIZER.decode(written) == "Talk: Well?\nAction: [BUY] $5 (1x toys_1)"


def _merging() -> tokens.Tokenizer:
    """Tokens that run on over the end of a line, as in published vocabularies: the longest that fits comes first."""
    pieces = [b"", *(bytes([byte]) for byte in range(256)), b".\n", b"]\n", b"]\n\n", b"\n\n"]
    longest = re.compile(b"|".join(map(re.escape, sorted(pieces[1:], key=len, reverse=True))))
    return tokens.Tokenizer(
        b"", lambda text: [pieces.index(piece) for piece in longest.findall(text.encode())], pieces, {}
    )


@pytest.mark.parametrize("tokenizer", [TOKENIZER, _merging()], ids=["ours", "merging"])
def test_what_follows_leaves_no_trace(tokenizer):
    built = grammar.build(tokenizer.token_bytes), relay.build(tokenizer, tokens.EOT)
    for said in ("Talk: Hi.", "Action: [QUIT]", "Talk: Hi.\n\nAction: [QUIT]", "Action: [QUIT]\nTalk: Hi."):
        alone, _ = _relayed(tokenizer.encode(said), *built)
        for tail in ("\n", "\n\n\n", "\nThought: I would pay $80.", "\n\nThought: x\n"):
            assert _relayed(tokenizer.encode(said + tail), *built)[0] == alone, said + tail
        assert tokenizer.decode(alone[:-1]) == plain.heard(said)


def test_an_empty_message_is_its_end():
    assert _relayed([])[0] == [tokens.EOT]
    assert _relayed(TOKENIZER.encode("hm " * 20))[0] == [tokens.EOT]

"""Tokenizer: every text passes unchanged, and no text can spell a control token."""

import io

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest
import sentencepiece

from negot_jax.catalog import synthetic
from negot_jax.language import tokenizer as tokens

CONTROL = {tokens.PAD, tokens.UNKNOWN, tokens.BOS, tokens.EOT, tokens.BUYER_TURN, tokens.SELLER_TURN}
CATALOG = synthetic.load(40)
TOKENIZER = tokens.train([*CATALOG.titles, *CATALOG.descriptions, *CATALOG.features], 500, whole=["toys-games_"])

# Any text, and texts made of what means something to the format, to SentencePiece or to its normalizers.
special = (
    "<pad> <unk> <bos> <eot> <buyer> <seller> </s> <0x41> \u2581 \u2047 \u2585 \ufb01 \u2460 e\u0301 \u00e9 \u3000 \0 "
)
special = [*special.split(" "), " ", "  ", "\n", "\r\n", "\t", "Talk:", "Action:", " [BUY] $", "12.50", "toys-games_3"]
texts = st.text() | st.lists(st.sampled_from(special)).map("".join)


@given(texts)
def test_decode_inverts_encode(text):
    ids = TOKENIZER.encode(text)
    assert TOKENIZER.decode(ids) == text
    assert b"".join(TOKENIZER.token_bytes[token] for token in ids) == text.encode()


@given(texts)
def test_no_text_spells_a_control_token(text):
    assert CONTROL.isdisjoint(TOKENIZER.encode(text))


def test_exactly_the_control_tokens_leave_no_bytes():
    assert {token for token, text in enumerate(TOKENIZER.token_bytes) if not text} == CONTROL
    assert TOKENIZER.decode([tokens.BOS, *TOKENIZER.encode("a"), tokens.EOT]) == "a"


def test_every_digit_stands_alone():
    digits = {b"%d" % digit for digit in range(10)}
    assert {text for text in TOKENIZER.token_bytes if set(text) & set(b"0123456789")} == {*digits, b" (1x "}
    assert len(TOKENIZER.encode("1234567890")) == 10


@pytest.mark.parametrize(
    "phrase", ["\n", "Thought:", "Talk:", "Action:", " [BUY] $", " [QUIT]", " (1x ", "toys-games_"]
)
def test_phrases_are_one_token_wherever_they_stand(phrase):
    (token,) = TOKENIZER.encode(phrase)
    assert TOKENIZER.token_bytes[token] == phrase.encode()
    assert token in TOKENIZER.encode(f"ab{phrase}ab")


def test_unseen_characters_fall_back_to_bytes():
    assert [TOKENIZER.token_bytes[token] for token in TOKENIZER.encode("\u6f22")] == [b"\xe6", b"\xbc", b"\xa2"]
    half = TOKENIZER.encode("\u6f22")[:2]
    assert TOKENIZER.decode(half) == "\ufffd"


def test_single_bytes_are_the_tokens_that_encode_gives():
    text = "\n0123456789."
    ids = TOKENIZER.single_bytes(text)
    assert ids.dtype == np.int32 and ids.tolist() == TOKENIZER.encode(text)


def test_a_character_without_a_token_of_its_own_is_named():
    with pytest.raises(ValueError, match="'\u6f22'.*byte fallback"):
        TOKENIZER.single_bytes("1\u6f22")


def test_a_model_of_another_make_is_refused():
    sink = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a b c"] * 9), model_writer=sink, vocab_size=10, hard_vocab_limit=False, minloglevel=2
    )
    with pytest.raises(ValueError, match="'<unk>' has id 0, expected 1.*tokenizer.train"):
        tokens.from_model(sink.getvalue())


def test_a_vocabulary_too_small_is_refused_with_the_way_out():
    with pytest.raises(ValueError, match=r"language\.vocab_size=200 does not fit.*use 512 or more"):
        tokens.train(CATALOG.titles, 200)


def test_a_stored_model_is_the_same_tokenizer(tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(TOKENIZER.model)
    loaded = tokens.load(tmp_path / "tokenizer.model")
    assert (loaded.model, loaded.token_bytes) == (TOKENIZER.model, TOKENIZER.token_bytes)
    assert loaded.encode(CATALOG.titles[0]) == TOKENIZER.encode(CATALOG.titles[0])


def test_training_is_deterministic_and_bounded():
    again = tokens.train([*CATALOG.titles, *CATALOG.descriptions, *CATALOG.features], 500, whole=["toys-games_"])
    assert again.model == TOKENIZER.model
    assert TOKENIZER.vocab_size == len(TOKENIZER.token_bytes) <= 500

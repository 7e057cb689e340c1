"""Constrained decoding: whatever is drawn is a complete, readable, legal message, and its masks can be recomputed."""

import functools
import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from negot_jax.catalog import synthetic
from negot_jax.game import personas
from negot_jax.game.types import BUYER, NONE, SELLER, Action, Kind
from negot_jax.language import automaton, constrain, grammar, plain, render
from negot_jax.language import tokenizer as tokens
from negot_jax.models import sampling

CATALOG = synthetic.load(60)
TOKENIZER = tokens.train([*CATALOG.titles, *CATALOG.descriptions, *CATALOG.features], 450, whole=["home-kitchen_"])
CODENAMES = ("home-kitchen_2", "other_12", "A", "1x")
CODES = [TOKENIZER.encode(codename) for codename in CODENAMES]
CODE_TOKENS = max(map(len, CODES))
LONGEST = int(np.argmax([len(ids) for ids in CODES]))
DIGITS = 3
PRICES = (NONE, 0, 5, 100, 1_250, 9_900, 99_999)  # Standing offers; the last is the longest that fits.
ROWS, WIDTH = 900, 64
SPELLING = max(CODE_TOKENS, DIGITS + render.DECIMALS)
KINDS = (Kind.OFFER, Kind.REJECT, Kind.DEAL, Kind.QUIT)
TALK = {BUYER: render.BUYER_TALK, SELLER: personas.BEGGING.talk}
FORMS = [(BUYER, True), (SELLER, False)]
FORMS += [pytest.param(role, not force, marks=pytest.mark.slow) for role, force in FORMS]
NEWLINE = int(TOKENIZER.single_bytes("\n")[0])


class Walks(NamedTuple):
    """Messages [B, W]; spoken: up to and with EOT; sound: whether mask and choice agree as documented."""

    tokens: np.ndarray
    spoken: np.ndarray
    allowed: np.ndarray
    choices: np.ndarray
    sound: np.ndarray


@functools.cache
def _form(role, force):
    return constrain.constraint(TOKENIZER, role, CODE_TOKENS, DIGITS, force)


def _spellings(codes, standing):
    """The codenames' and standing prices' tokens, from text."""
    rows = []
    for code, cents in zip(codes, standing, strict=True):
        price = TOKENIZER.encode(f"{max(cents, 0) / 100:.2f}".removesuffix(".00"))
        rows.append((CODES[code], price))
    padded = [[[*ids, *[tokens.PAD] * (SPELLING - len(ids))] for ids in row] for row in rows]
    lengths = [[len(ids) for ids in row] for row in rows]
    return constrain.Spellings(tokens_2xC=jnp.array(padded), lengths_2=jnp.array(lengths))


@jax.jit
def _walk(form, spellings, standing, caps, scores, given):
    """Goes through the automaton with the `given` tokens [B, W]; -1 draws one of those allowed by `scores` [B, V]."""

    def step(carry, column):
        follow, talking = carry
        allowed = jax.vmap(functools.partial(constrain.allowed, form))
        mask, choice = allowed(follow, spellings, caps - column)
        row = form.allowed_NxV[jnp.maximum(choice, 0)]
        equal = (mask == row).all(axis=-1) & (choice == follow.node)
        lone = (mask.sum(axis=-1) == 1) & (mask != form.allowed_NxV[follow.node]).any(axis=-1)
        sound = jnp.where(choice == constrain.FORCED, lone, equal)
        log_probs = sampling.log_probs(scores, 1.0, mask)
        token = sampling.sample(
            jax.random.uniform(jax.random.key(column), (2, ROWS)), log_probs, sampling.SamplingConfig()
        )
        token = jnp.where(given[:, column] < 0, token, given[:, column])
        possible = jnp.take_along_axis(mask, token[:, None], axis=1)[:, 0]
        follow = jax.vmap(functools.partial(constrain.advance, form))(follow, spellings, token, standing)
        spoken = talking & (column < caps)
        return (follow, spoken & (token != tokens.EOT)), (token, spoken, possible, choice, sound)

    follow = jax.tree.map(lambda x: jnp.broadcast_to(x, caps.shape), constrain.begin(form))
    _, columns = jax.lax.scan(step, (follow, jnp.ones(caps.shape, bool)), jnp.arange(given.shape[1]))
    return Walks(*(jnp.moveaxis(x, 0, 1) for x in columns))


def _random_walks(form, codes, standing, caps):
    """Half of the rows draw uniformly; the others often end their line long before the cap makes them."""
    scores = np.zeros((ROWS, TOKENIZER.vocab_size), np.float32)
    scores[ROWS // 2 :, NEWLINE] = np.log(TOKENIZER.vocab_size / 6)
    drawn = np.full((ROWS, WIDTH), -1)
    return jax.device_get(_walk(form, _spellings(codes, standing), jnp.array(standing), caps, scores, drawn))


def _retrace(form, spellings, standing, caps, given):
    """Goes through the automaton with messages [ROWS, WIDTH], whether they are allowed or not."""
    scores = np.zeros((ROWS, TOKENIZER.vocab_size), np.float32)
    return jax.device_get(_walk(form, spellings, jnp.array(standing), np.full(ROWS, caps), scores, given))


@functools.cache
def _walks(role, force):
    """(codes, standing offers, caps, walks): caps from the shortest possible upwards."""
    rng = np.random.default_rng(0)
    form = _form(role, force)
    codes, standing = rng.integers(len(CODES), size=ROWS), rng.choice(PRICES, size=ROWS)
    caps = rng.integers(constrain.shortest_cap(form), WIDTH + 1, size=ROWS)
    caps[::3] = constrain.shortest_cap(form)
    return codes, standing, caps, _random_walks(form, codes, standing, caps)


@functools.cache
def _grammar():
    return grammar.build(TOKENIZER.token_bytes)


_parse = jax.jit(jax.vmap(grammar.parse, (None, 0, 0, None, 0, None)))


@pytest.mark.parametrize("role, force", FORMS)
def test_every_walk_is_a_complete_readable_legal_message(role, force):
    codes, standing, caps, walks = _walks(role, force)
    lengths = walks.spoken.sum(axis=1)
    assert (lengths <= caps).all() and walks.allowed[walks.spoken].all()
    assert (walks.tokens[np.arange(ROWS), lengths - 1] == tokens.EOT).all()

    hashes = np.array([automaton.codename_hash(codename.encode()) for codename in CODENAMES])[codes]
    read = jax.device_get(_parse(_grammar(), walks.tokens, lengths, False, hashes, role)).action
    seen, thought, amounts = set(), set(), set()
    for i in range(ROWS):
        text = b"".join(TOKENIZER.token_bytes[token] for token in walks.tokens[i, : lengths[i]])
        kind, price = plain.action(text, False, CODENAMES[codes[i]].encode(), role)
        assert kind in KINDS and (read.kind[i], read.price[i]) == (kind, price), text
        if kind == Kind.DEAL:
            assert standing[i] != NONE
            assert price == standing[i] or not force
        seen.add((kind, standing[i] != NONE))
        thought.add(text.startswith(b"Thought:"))
        amounts |= {len(amount) for amount in re.findall(rb"\$([\d.]+) \(1x", text.split(b"\n")[-1])}
    # Nothing that should be possible is missing.
    possible = {(kind, stands) for kind in KINDS for stands in (False, True)} - {(Kind.DEAL, False)}
    assert seen == possible
    assert thought == {False, True}
    assert amounts == {1, 2, 3, 4, 5, 6}  # From $1 to $123.45.


@pytest.mark.parametrize("role, force", FORMS)
def test_the_mask_is_the_row_that_the_choice_names_or_a_single_forced_token(role, force):
    *_, walks = _walks(role, force)
    assert walks.sound[walks.spoken].all()
    forced = walks.choices[walks.spoken] == constrain.FORCED
    assert 0 < forced.mean() < 1


@pytest.mark.parametrize("role, force", FORMS)
def test_the_shortest_cap_is_the_fewest_tokens_that_always_suffice(role, force):
    form = _form(role, force)
    caps = np.full(ROWS, constrain.shortest_cap(form) - 1)
    walks = _random_walks(form, np.full(ROWS, LONGEST), np.full(ROWS, PRICES[-1]), caps)
    finished = (walks.spoken & (walks.tokens == tokens.EOT)).any(axis=1)
    assert finished.any() and not finished.all()


@pytest.mark.parametrize("role, force", FORMS)
def test_every_scripted_message_is_allowed_token_for_token(role, force):
    """The warm start clones what the constrained decoder can say, at the least cap that an environment accepts."""
    form, book = _form(role, force), render.phrasebook(TALK[role], role, TOKENIZER, CODE_TOKENS, DIGITS)
    rng = np.random.default_rng(1)
    kinds, variants = np.array(KINDS, np.int32)[np.arange(ROWS) % 4], np.arange(ROWS) // 4
    codes, price = rng.integers(len(CODES), size=ROWS), rng.choice(PRICES[1:], size=ROWS)
    standing = np.where(kinds == Kind.DEAL, price, rng.choice(PRICES, size=ROWS))
    spellings = _spellings(codes, standing)
    action = Action(kind=jnp.array(kinds), price=jnp.array(price), acts=jnp.zeros_like(kinds))
    say = jax.jit(jax.vmap(functools.partial(render.render, book, width=WIDTH)))
    said, lengths = jax.device_get(say(action, spellings.tokens_2xC[:, 0], spellings.lengths_2[:, 0], variants))
    walks = _retrace(form, spellings, standing, max(book.width, constrain.shortest_cap(form)), said)
    assert (walks.spoken.sum(axis=1) == lengths).all()
    refused = (walks.spoken & ~walks.allowed).any(axis=1)
    assert not refused.any(), TOKENIZER.decode(said[refused.argmax()].tolist())


def test_a_deal_needs_a_standing_offer_and_repeats_it():
    """The same tokens three times: with that offer, with none (refused at the tag), with another (at the point)."""
    text = "Talk: Deal.\nAction: [DEAL] $12.50 (1x A)"
    ids = [*TOKENIZER.encode(text), tokens.EOT]
    standing = np.resize([1_250, NONE, 1_200], ROWS)
    given = np.zeros((ROWS, WIDTH), np.int32)
    given[:, : len(ids)] = ids
    spellings = _spellings([CODENAMES.index("A")] * ROWS, standing)
    allowed = _retrace(_form(BUYER, True), spellings, standing, WIDTH, given).allowed[:3, : len(ids)]
    first_refused = [None if row.all() else TOKENIZER.decode([ids[row.argmin()]]) for row in allowed]
    assert first_refused == [None, " [DEAL] $", "."]


def test_free_text_is_any_text_of_one_line():
    form = _form(BUYER, True)
    talk = form.next_NxV[form.start, TOKENIZER.encode("Talk:")[0]]
    allowed = np.asarray(form.allowed_NxV[talk])
    broken = {token for token, text in enumerate(TOKENIZER.token_bytes) if not text or b"\n" in text}
    assert set(np.flatnonzero(~allowed).tolist()) == broken - {NEWLINE}


def test_a_vocabulary_that_cannot_write_prices_is_refused():
    class Wordy:
        """A tokenizer without single digits."""

        vocab_size = 8
        token_bytes = (b"", b"\n", b"Talk:", b"12")
        single_bytes = tokens.Tokenizer.single_bytes

        def encode(self, text):
            return [2]

    with pytest.raises(ValueError, match="no token for the single character '0'.*byte fallback"):
        constrain.constraint(Wordy(), BUYER, 1, 1, True)

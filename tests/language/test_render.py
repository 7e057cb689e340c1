"""Rendering: the tokens spell exactly the template, and the grammar reads back what was said."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from negot_jax.catalog import synthetic
from negot_jax.game.sellers import SELLERS
from negot_jax.game.types import BUYER, MAX_PRICE, NONE, SELLER, Action, Argument, Kind
from negot_jax.language import automaton, grammar, render
from negot_jax.language import tokenizer as tokens

CATALOG = synthetic.load(60)
TOKENIZER = tokens.train([*CATALOG.titles, *CATALOG.descriptions, *CATALOG.features], 600)
CODENAMES = ("A", *CATALOG.codenames[::19])
CODES = [TOKENIZER.encode(codename) for codename in CODENAMES]
CODE_TOKENS = max(map(len, CODES))
KINDS = (Kind.OFFER, Kind.REJECT, Kind.DEAL, Kind.QUIT)
DIGITS = 7
EDGES = (0, 1, 5, 10, 99, 100, 101, 110, 999, 1000, 99_999, 100_000, 123_456_700, MAX_PRICE - 99, MAX_PRICE)
PRICES = (*EDGES, *np.exp(np.random.default_rng(0).uniform(0, np.log(MAX_PRICE), 9)).astype(int).tolist())
PERSONAS = {seller.persona.name: seller.persona for seller in SELLERS.values()}
MANNERS = {"buyer": (BUYER, render.BUYER_TALK), **{name: (SELLER, own.talk) for name, own in PERSONAS.items()}}
ARGUMENTS = {"buyer": (BUYER, render.BUYER_ARGUMENTS), "seller": (SELLER, PERSONAS["persuadable"].hints)}


WIDTH = 64


@pytest.fixture(scope="module")
def token_grammar():
    return grammar.build(TOKENIZER.token_bytes)


_parse = jax.jit(jax.vmap(grammar.parse, (None, 0, 0, None, 0, None)))


def _written(said, kind, role, cents, codename):
    dollars, rest = divmod(cents, 100)
    amount = f"${dollars}.{rest:02}" if rest else f"${dollars}"
    offer = "BUY" if role == BUYER else "SELL"
    tag = f"[{offer}] {amount} (1x {codename})" if kind == Kind.OFFER else f"[{kind.name}]"
    tag = f"[DEAL] {amount} (1x {codename})" if kind == Kind.DEAL else tag
    return f"Talk: {said}\nAction: {tag}"


@functools.partial(jax.jit, static_argnums=0)
def _say(width, book, *cases):
    return jax.vmap(functools.partial(render.render, book, width=width))(*cases)


def _render_all(book, cases, width, acts=0):
    """Tokens [B, width] and lengths of (kind, variant, cents, index of the codename) cases."""
    kinds, variants, cents, code = (np.array(column, np.int32) for column in zip(*cases, strict=True))
    padded = np.array([[*ids, *[tokens.PAD] * (CODE_TOKENS - len(ids))] for ids in CODES], np.int32)
    lengths = np.array([len(ids) for ids in CODES], np.int32)
    action = Action(kind=jnp.array(kinds), price=jnp.array(cents), acts=jnp.full_like(kinds, acts))
    return jax.device_get(_say(width, book, action, padded[code], lengths[code], variants))


@pytest.mark.parametrize("manner", MANNERS)
def test_what_is_rendered_is_the_text_and_reads_as_the_action(manner, token_grammar):
    role, talk = MANNERS[manner]
    book = render.phrasebook(talk, role, TOKENIZER, CODE_TOKENS, DIGITS)
    # Where no price is said the action holds `NONE`, and any number picks a wording.
    priced = [(kind, PRICES if kind in (Kind.OFFER, Kind.DEAL) else (NONE,)) for kind in KINDS]
    cases = [
        case
        for kind, prices in priced
        for case in itertools.product((kind,), range(len(talk[kind])), prices, range(len(CODES)))
    ]
    cases = [(kind, variant + 4 * (i % 1000), cents, code) for i, (kind, variant, cents, code) in enumerate(cases)]
    said_BxW, lengths_B = _render_all(book, cases, WIDTH)
    hashes = np.array([automaton.codename_hash(CODENAMES[code].encode()) for *_, code in cases])
    read = jax.device_get(_parse(token_grammar, said_BxW, lengths_B, False, hashes, role)).action

    assert lengths_B.max() <= book.width
    for i, (kind, variant, cents, code) in enumerate(cases):
        *text, end = said_BxW[i, : lengths_B[i]].tolist()
        assert end == tokens.EOT and tokens.EOT not in text
        assert TOKENIZER.decode(text) == _written(talk[kind][variant % 4], kind, role, cents, CODENAMES[code])
        assert (read.kind[i], read.price[i]) == (kind, cents)
        assert (said_BxW[i, lengths_B[i] :] == tokens.PAD).all()


@pytest.mark.parametrize("role", ARGUMENTS)
def test_an_argument_is_put_in_words_and_heard_as_such(role, token_grammar):
    """With every kind of action; of two arguments the first is put in words."""
    role, arguments = ARGUMENTS[role]
    book = render.phrasebook(MANNERS["buyer"][1], role, TOKENIZER, CODE_TOKENS, DIGITS, arguments=arguments)
    cases = [(kind, variant, 4_550, 1) for kind in KINDS for variant in range(4)]
    for argument in arguments:
        acts = np.int32(1 << argument | 1 << Argument.FAIRNESS)
        said_BxW, lengths_B = _render_all(book, cases, WIDTH, acts)
        hashes = np.full(len(cases), automaton.codename_hash(CODENAMES[1].encode()))
        read = jax.device_get(_parse(token_grammar, said_BxW, lengths_B, False, hashes, role)).action
        np.testing.assert_array_equal(read.acts, 1 << argument)
        np.testing.assert_array_equal(read.kind, [kind for kind, *_ in cases])
        lines = {TOKENIZER.decode(row.tolist()).split("\n")[0] for row in said_BxW}
        assert lines == {f"Talk: {said}" for said in arguments[argument]}
    plain, _ = _render_all(book, cases, WIDTH)
    bare, _ = _render_all(render.phrasebook(MANNERS["buyer"][1], role, TOKENIZER, CODE_TOKENS, DIGITS), cases, WIDTH)
    np.testing.assert_array_equal(plain, bare)


def test_a_message_of_the_full_width_fits():
    talk = {kind: ["Well."] for kind in KINDS}
    book = render.phrasebook(talk, BUYER, TOKENIZER, CODE_TOKENS, DIGITS)
    longest = int(np.argmax([len(ids) for ids in CODES]))
    said, lengths = _render_all(book, [(Kind.OFFER, 0, MAX_PRICE, longest)], book.width)
    assert lengths.tolist() == [book.width] and said[0, -1] == tokens.EOT


def test_the_width_has_room_for_the_longest_talk_with_the_longest_action():
    talk = {kind: ["No."] for kind in KINDS}
    wordy = talk | {Kind.QUIT: ["This is the longest line of all, by far."]}
    narrow, wide = (render.phrasebook(t, SELLER, TOKENIZER, CODE_TOKENS, 4).width for t in (talk, wordy))
    assert wide - narrow == len(TOKENIZER.encode(" " + wordy[Kind.QUIT][0])) - len(TOKENIZER.encode(" No."))
    wider = render.phrasebook(talk, SELLER, TOKENIZER, CODE_TOKENS + 2, 5).width
    assert wider - narrow == 3


def test_prices_are_spelled_like_the_tokenizer_does():
    book = render.phrasebook(render.BUYER_TALK, BUYER, TOKENIZER, CODE_TOKENS, DIGITS)
    spell = jax.jit(jax.vmap(functools.partial(render.spell_price, book)))
    spelled, lengths = jax.device_get(spell(jnp.array(PRICES)))
    for cents, row, length in zip(PRICES, spelled, lengths, strict=True):
        text = f"{cents / 100:.2f}".removesuffix(".00")
        assert row[:length].tolist() == TOKENIZER.encode(text)


def test_no_manner_gives_away_the_form():
    """A line of talk that spelled a tag or a header would teach the buyer to."""
    for _, talk in MANNERS.values():
        for said in itertools.chain.from_iterable(talk.values()):
            assert "\n" not in said and "[" not in said and ":" not in said

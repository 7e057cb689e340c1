import collections
import functools
import random
import time

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import numpy as np
import pytest

from negot_jax.game.types import BUYER, NONE, SELLER, Kind
from negot_jax.language import automaton, grammar, plain

LENGTH = 96
CODENAMES = (b"elec_3", b"home-goods_12", b"1x", b"A")
BYTES = [bytes([byte]) for byte in range(256)] + [b"", b""]
STRADDLING = (
    "\nAct|ion:|] $|5 (1x |12|99999999999|\r\n|.5|,000|Talk:|Thank|[BUY] $1|)\nTh| ele|_3)|\nAction: [BUY] $|\nT|alk|"
    "h|oug|Ac|Action: |: [|[DE|AL] $|[REJECT]|QUIT]\n| (1x| (1x elec_3)|x e|1x |x )|elec|3) [BUY] $7 (1x e|a) (1x |"
    "00|0,0|$1,|10000000|\n\n|\nTalk:\nT|t:|\nThought:| hi\n|[SELL]|[B[BUY]|) [QUIT|4294967301|000000000000|"
    "\nTalk: [BUY] $5\n|lk:|(1"
)
STRADDLING = [piece.encode() for piece in STRADDLING.split("|")]


def _price(rng):
    digits = "".join(rng.choices("0123456789", k=rng.randint(1, 12)))
    plain = "5 12.5 1234.50 0 0.00 007 19.99 9999999.99 1,234 12,345.6 9,999,999.99 0,005".split()
    odd = "10000000 9999999.991 10,000,000 4294967301 99999999999 1,23 1234,567 5. .5 1,,000 , -5".split()
    return rng.choice(plain if rng.random() < 0.7 else [*odd, "", digits, f"{int(digits):,}", digits + ".25"])


def _arguments(rng, codename):
    if rng.random() < 0.6:
        return f" ${_price(rng)} (1x {codename})"
    space = functools.partial(rng.choice, ["", " ", "  ", "\t", "\r "])
    name = rng.choice([codename, codename, codename, codename[:-1], codename + "1", codename.upper(), ""])
    unit = rng.choice(["(1x", "(1x", "(1x", "(2x", "1x", "(1x "])
    dollar = rng.choice(["$", "$", "$", "$ ", ""])
    return f"{space()}{dollar}{_price(rng)}{space()}{unit}{space() or ' '}{name}{space()}{rng.choice('))))] ')}"


def _action_line(rng, codename):
    if rng.random() < 0.5:
        return (
            f"Action: [{rng.choice(['BUY', 'SELL', 'DEAL'])}] ${_price(rng)} (1x {codename}){rng.choice(['', ' ok'])}"
        )
    line = rng.choice(["", " ", " I say "])
    tags = ["[BUY]", "[SELL]", "[DEAL]"] * 4 + ["[REJECT]", "[QUIT]", "[FOO]", "[buy]", "[[BUY]", "[BU[DEAL]"]
    for _ in range(rng.choice([0, 1, 1, 1, 1, 2])):
        line += rng.choice(tags)
        line += _arguments(rng, codename) if rng.random() < 0.9 else ""
    return "Action:" + line + rng.choice(["", "", "\n", "\r\n", "  \n", " ok\n", "\nbye"])


def _message(rng, codename):
    """Lines of talk and thought with near-headers in them, action lines, and perhaps a few wrong bytes."""
    words = "T|Th|Thank|Thought|Talk|Action|A| Talk: x|Act\n|hi||5|Action:|\n|[BUY] $5".split("|")
    lines = []
    for header in rng.choices(["Thought:", "Talk:", "talk:", "Talk: ", ""], k=rng.choice([0, 1, 1, 2])):
        lines.append(header + "\n".join(rng.choices(words, k=rng.randint(1, 3))))
    for _ in range(rng.choice([0, 1, 1, 1, 1, 1, 2])):
        lines.insert(rng.choice([len(lines)] * 3 + [0]), _action_line(rng, codename))
    message = bytearray("\n".join(lines).encode())
    for _ in range(rng.choice([0, 0, 0, 0, 1, 2])):
        at = rng.randint(0, len(message))
        message[at : at + rng.randint(0, 2)] = rng.choice([b"", b"\n", b"[", b"$", b"T", b"0", b"\xff", b" ", b":"])
    return bytes(message)


class _Vocabulary:
    def __init__(self, tokens):
        self.tokens = tokens
        self.grammar = grammar.build(tokens)
        self.ids = {token: i for i, token in enumerate(tokens)}
        self.longest = max(map(len, tokens))

    def segment(self, rng, message):
        """Any token ids that spell the message, with control tokens strewn in."""
        ids, at = [], 0
        while at < len(message):
            size = rng.randint(1, self.longest) if rng.random() < 0.97 else 0  # 0 asks for a control token.
            while message[at : at + size] not in self.ids:
                size -= 1
            ids.append(self.ids[message[at : at + size]])
            at += size
        return ids


@functools.cache
def _vocabularies():
    rng = random.Random(0)
    fragments = set()
    while len(fragments) < 1000:
        message = _message(rng, rng.choice(CODENAMES).decode())
        start = rng.randint(0, len(message))
        fragments.add(message[start : start + rng.randint(2, 9)])
    pieces = sorted(fragments - set(BYTES))
    return [_Vocabulary(tokens) for tokens in (BYTES, BYTES + STRADDLING, BYTES + pieces)]


_parse = jax.jit(jax.vmap(grammar.parse, (None, 0, 0, 0, 0, 0)))


def _visible(tokens: list[bytes]) -> tuple[list[bool], list[bool]]:
    """For each token of a message: whether all of it is content of talk, and of an action line."""
    message = b"".join(tokens)
    kinds = bytearray(b"-" * len(message))
    for kind, pattern in ((b"t", plain._TALK), (b"a", plain._ACTION)):
        for match in pattern.finditer(message):
            kinds[match.start(1) : match.end(1)] = kind * len(match.group(1))
    talk, acts, end = [], [], 0
    for token in tokens:
        start, end = end, end + len(token)
        talk.append(start < end and set(kinds[start:end]) == {ord("t")})
        acts.append(start < end and set(kinds[start:end]) == {ord("a")})
    return talk, acts


def _check_against_oracle(vocabulary, rows):
    """Asserts equality for (token ids, cut, codename, role) rows and returns how often each kind came up."""
    tokens_BxL = np.random.default_rng(0).integers(len(vocabulary.tokens), size=(len(rows), LENGTH), dtype=np.int32)
    for i, (ids, *_) in enumerate(rows):
        tokens_BxL[i, : len(ids)] = ids
    hashes = {codename: automaton.codename_hash(codename) for codename in CODENAMES}
    columns = zip(*((len(ids), cut, hashes[codename], role) for ids, cut, codename, role in rows), strict=True)
    parsed = jax.device_get(_parse(vocabulary.grammar, tokens_BxL, *map(np.array, columns)))
    fields = (parsed.action.kind, parsed.action.price, parsed.action.acts, parsed.talk_L, parsed.action_L)
    for (ids, cut, codename, role), *read in zip(rows, *(x.tolist() for x in fields), strict=True):
        kind, price, argued, talk, acts = read
        tokens = [vocabulary.tokens[token] for token in ids]
        expected_talk, expected_acts = _visible(tokens)
        padding = [False] * (LENGTH - len(tokens))
        assert (kind, price) == plain.action(b"".join(tokens), cut, codename, role), (tokens, cut, codename, role)
        assert talk == expected_talk + padding, tokens
        assert acts == expected_acts + padding, tokens
        heard = b"".join(token for token, visible in zip(tokens, expected_talk, strict=True) if visible)
        assert argued == plain.acts(heard), tokens
    return collections.Counter(parsed.action.kind.tolist())


@pytest.mark.parametrize("count", [5_000, pytest.param(200_000, marks=pytest.mark.slow)])
def test_parse_equals_the_oracle(count):
    rng, kinds = random.Random(count), collections.Counter()
    for vocabulary in _vocabularies():
        rows = []
        for _ in range(-(-count // 3)):
            codename = rng.choice(CODENAMES)
            if rng.random() < 0.8:
                ids = vocabulary.segment(rng, _message(rng, codename.decode()))[:LENGTH]
            else:
                ids = rng.choices(range(len(vocabulary.tokens)), k=rng.randint(0, LENGTH))
            rows.append((ids, rng.random() < 0.3, codename, rng.choice([BUYER, SELLER])))
        kinds += _check_against_oracle(vocabulary, rows)
    assert kinds.total() >= count
    assert min(kinds[kind] for kind in Kind) > count / 100, kinds
    assert kinds[Kind.OFFER] + kinds[Kind.DEAL] > count / 8, kinds


@pytest.mark.parametrize(
    ("message", "kind", "price"),
    [
        ("Talk: hello\nAction: [BUY] $12.50 (1x elec_3)", Kind.OFFER, 1250),
        ("Action:[DEAL]$7(1x elec_3)\r\nwhatever [QUIT]", Kind.DEAL, 700),
        ("Action: [BUY] $1,234.5 (1x\telec_3 ) as agreed", Kind.OFFER, 123450),
        ("Action: [BUY] $007 (1x elec_3) or [FOO]", Kind.OFFER, 700),
        ("Action: [BUY] $0 (1x elec_3)", Kind.OFFER, 0),
        ("Action: [BUY] $9999999.99 (1x elec_3)", Kind.OFFER, 999_999_999),
        ("Action: [BUY] $000000000000000000001 (1x elec_3)", Kind.OFFER, 100),
        ("Action: [BUY] $10000000 (1x elec_3)", Kind.UNREADABLE, NONE),
        ("Action: [BUY] $42949673.00 (1x elec_3)", Kind.UNREADABLE, NONE),
        ("Action: [BUY] $1,23 (1x elec_3)", Kind.UNREADABLE, NONE),
        ("Action: [BUY] $1234,567 (1x elec_3)", Kind.UNREADABLE, NONE),
        ("Action: [BUY] $5. (1x elec_3)", Kind.UNREADABLE, NONE),
        ("Action: [BUY] $5 (1x elec_31)", Kind.UNREADABLE, NONE),
        ("Action: [BUY] $5 (2x elec_3)", Kind.UNREADABLE, NONE),
        ("Action: [BUY] for $5 (1x elec_3)", Kind.UNREADABLE, NONE),
        ("Action: [SELL] $5 (1x elec_3)", Kind.UNREADABLE, NONE),
        ("Action: [BUY] $5 (1x elec_3) [BUY]", Kind.UNREADABLE, NONE),
        ("Action: [reject]", Kind.UNREADABLE, NONE),
        ("Action: [BUY] $5 (1x [QUIT]", Kind.QUIT, NONE),
        ("Action: [QUIT]\nAction: [REJECT]", Kind.REJECT, NONE),
        ("Action: [QUIT]\nAction:", Kind.UNREADABLE, NONE),
        ("Talk: Action: [QUIT]", Kind.MISSING, NONE),
        ("", Kind.MISSING, NONE),
    ],
)
@pytest.mark.parametrize("cut", [False, True])
def test_the_grammar_by_example(message, kind, price, cut):
    kind = Kind.CUT if cut and kind in (Kind.MISSING, Kind.UNREADABLE) else kind
    assert plain.action(message.encode(), cut, b"elec_3", BUYER) == (kind, price)
    vocabulary = _vocabularies()[1]
    ids = vocabulary.segment(random.Random(0), message.encode())
    assert _check_against_oracle(vocabulary, [(ids, cut, b"elec_3", BUYER)]) == {kind: 1}


HINDSIGHT = [
    (["Talk:", " hi", "\n", "Th", "ank", " you"], [0, 1, 1, 1, 1, 1]),
    (["Talk:", " hi", "\n", "Th", "", "ought", ":", "x"], [0, 1, 1, 0, 0, 0, 0, 0]),
    (["Talk:", " hi", "\nAct", "ion: [QUIT]"], [0, 1, 0, 0]),
    (["Talk:", " hi", "\nAct", "ion"], [0, 1, 1, 1]),
    (["Talk: hi", "\n", "Tal", "T", "alk: x"], [0, 1, 1, 1, 1]),
    (["x", "Talk:", " hi"], [0, 0, 0]),
]


@functools.cache
def _hindsight_vocabulary():
    return _Vocabulary(list(dict.fromkeys(token.encode() for tokens, _ in HINDSIGHT for token in tokens)))


@pytest.mark.parametrize(("tokens", "talk"), HINDSIGHT)
def test_hindsight_tells_talk_from_headers(tokens, talk):
    tokens = [token.encode() for token in tokens]
    assert _visible(tokens)[0] == [bool(seen) for seen in talk]
    vocabulary = _hindsight_vocabulary()
    ids = [vocabulary.ids[token] for token in tokens]
    _check_against_oracle(vocabulary, [(ids, False, b"A", BUYER)])


def _run(state, value, code, text):
    """The automaton byte by byte: (state, tag, done, value, code), `KEEP` for what was not set."""
    tag = done = automaton.KEEP
    for byte in text:
        state, _, _, new_tag, new_done, reset, scale, add, extend = automaton.TABLE[state, byte].tolist()
        tag = tag if new_tag == automaton.KEEP else new_tag
        done = done if new_done == automaton.KEEP else new_done
        value, code = (0, 0) if reset else (value, code)
        value = min(value * 10**scale + add, automaton.CAP)
        if extend:
            multiplier, addend = automaton.hash_step(bytes([byte]))
            code = (code * int(multiplier) + int(addend)) % 2**32
    return state, tag, done, value, code


def test_a_token_does_what_its_bytes_do():
    vocabulary, rng = _vocabularies()[1], np.random.default_rng(0)
    cases = [
        (state, token, int(value), int(code))
        for state in range(len(automaton.STATES))
        for token in range(len(BYTES), len(vocabulary.tokens))
        for value, code in [(min(10 ** rng.uniform(0, 9.1), automaton.CAP), rng.integers(2**32))]
    ]
    state, token, value, code = map(np.array, zip(*cases, strict=True))
    before = grammar.Registers(
        state=state.astype(np.int32),
        tag=np.full(len(cases), automaton.KEEP, np.int32),
        done=np.zeros(len(cases), bool),
        value=value.astype(np.int32),
        code=code.astype(np.uint32),
    )
    advance = jax.jit(jax.vmap(grammar.advance, (None, 0, 0, 0)))
    after, _ = advance(vocabulary.grammar, before, token, vocabulary.grammar.class_V[token])
    # Elsewhere the value and the code are of no more use, and a token may leave them as they were.
    reading = {i for i, name in enumerate(automaton.STATES) if name[0] in "$("}
    got = zip(*(x.tolist() for x in (after.state, after.tag, after.done, after.value, after.code)), strict=True)
    for (state, token, value, code), registers in zip(cases, got, strict=True):
        expected = _run(state, value, code, vocabulary.tokens[token])
        done = expected[2] == 1
        assert registers[:3] == (*expected[:2], done)
        if done or expected[0] in reading:
            assert registers[3:] == expected[3:], (automaton.STATES[state], vocabulary.tokens[token])


def _column(text):
    steps = (automaton.TABLE[:, byte] for byte in text)
    return functools.reduce(automaton.compose, steps, automaton.identity())


_TEXTS = st.lists(st.sampled_from([*STRADDLING, b"T", b"A", b"[", b"x"]), max_size=3).map(b"".join)


@settings(max_examples=100, deadline=None)
@given(_TEXTS, _TEXTS)
def test_composition_is_concatenation(first, second):
    np.testing.assert_array_equal(automaton.compose(_column(first), _column(second)), _column(first + second))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from([b"1", b"x", b"(1x ", b" ", b")", b"e", b"[BUY]", b"$5", b","]), max_size=8).map(b"".join)
)
def test_a_token_holds_one_part_of_a_codename_whatever_the_state(text):
    states = np.flatnonzero(_column(text)["extend"])
    assert len({automaton.codename_part(text, int(state)) for state in states}) <= 1


def test_codename_hash_tells_names_apart_and_refuses_what_cannot_be_read():
    names = [
        b"%s_%d" % (word, i) for word in (b"electronics", b"electronic", b"Aa", b"BB", b"a-b") for i in range(2000)
    ]
    assert len({int(automaton.codename_hash(name)) for name in names}) == len(names)
    for name in (b"", b"two words", "näh_1".encode()):
        with pytest.raises(ValueError, match="codename is"):
            automaton.codename_hash(name)


def test_build_refuses_text():
    with pytest.raises(TypeError, match=r"token_bytes\[1\] is 'a'"):
        grammar.build([b"a", "a"])


@pytest.mark.slow
def test_a_vocabulary_of_262144_tokens_fits():
    rng = random.Random(0)
    tokens = dict.fromkeys(BYTES + STRADDLING + [b"%d" % i for i in range(1000)] + [b" %d" % i for i in range(1000)])
    while len(tokens) < 262_144:
        word = bytes(rng.choices(b"etaoinshrdlucmfwypvbgkqjxzTAB_-,.:;()[]$\n\xc3\xa9\xe4", k=rng.randint(2, 12)))
        tokens[rng.choice([b"", b" "]) + word] = None
    start = time.perf_counter()
    tables = grammar.build(list(tokens))
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(tables))
    classes = tables.steps_SxK.next.shape[1]
    print(f"{time.perf_counter() - start:.1f} s, {size / 2**20:.1f} MiB, {classes} classes")
    assert size < 64 * 2**20

"""The message grammar as a deterministic automaton over bytes, as plain data.

A message is a byte string, made of sections (our reading of the paper's Thought / Talk / Action format):

* A header is exactly `Thought:`, `Talk:` or `Action:` at the first byte of the message or right after a newline.
* `Talk:` opens talk, over several lines, until the next header. `Action:` opens an action for the rest of its line,
  the newline and empty lines after it included: many a vocabulary has a token for `)` and two newlines. All else is
  private: what precedes the first header, what follows `Thought:` or an action, and the headers themselves.
* In the last action line the last of `[BUY] [SELL] [REJECT] [DEAL] [QUIT]` counts. `[BUY]`, `[SELL]` and `[DEAL]` must
  be followed directly by their arguments, ` $1,234.50 (1x codename)`. A price is ASCII digits, plain or with a comma
  before every three, and at most two decimals. White space is space, tab and carriage return: it may stand before
  `$`, before `(` and before `)`, and must stand after `1x`.

**States** are named after an example of what they have just read:

    private^ talk^              at the start of a line of a private / talk section; a message starts in `private^`
    private^Tho  talk^Act  ...  a header may be on its way (every proper prefix of every header)
    private  talk               inside a line, too late for a header
    action^                     at the start of a line after an action line; but for a newline, as private^
    action                      inside an action line, looking for a tag
    [  [B  [BU  ...             a tag may be on its way (every proper prefix of every tag)
    [TAG]                       a tag that takes arguments is complete
    $  $1  $12  $123  $1234     the price: none, one, two, three, four or more plain digits
    $1,  $1,2  $1,23  $1,234    ... within and after a group of three
    $1.  $1.5  $1.50            ... decimals
    $1_  (  (1  (1x  (1x_       after the price; the quantity; ready for the codename (`_` is white space)
    (1x a  (1x a_               the codename; white space after it. `)` then leads back to `action`, arguments complete

A byte with no arrow of its own is plain text: it leads back to `private`, `talk` or `action`, a newline to the start
of a line, and `[` in an action line always to `[`.

**Steps.** What a byte does in a state is a record of type `STEP`. What a string of bytes does is again one record per
state, by `compose`, so a whole token costs one look-up. Four registers go with the state:

    tag     uint8: `Tag`, the last one of the last action line
    done    bool: the arguments of that tag are complete
    value   int32: the price as read so far, in cents once it is complete; stays at `CAP` when it gets there
    code    uint32: the polynomial hash of the codename as read so far (`codename_hash`)

A step sets or keeps `tag` and `done`; `$` resets `value` and `code` to 0; then value <- min(value * 10**scale + add,
CAP), and, where `extend` is set, code <- code * multiplier + addend with numbers that depend on the token alone (see
`codename_part`) and so stay out of the record.

**Hindsight.** At the start of a line of talk the bytes `Act` are a header if `ion:` follows and talk if anything else
does, or nothing. They are `Content.MAYBE`, and the `Verdict` of a later step settles all that are still open.
"""

from collections.abc import Callable, Sequence
import enum
import itertools

import numpy as np

from negot_jax.game.types import MAX_PRICE

CAP = MAX_PRICE + 1  # Stands for every price too large to read. A power of ten, so exponents of ten can stop at it too.
_MAX_SCALE = 9
assert CAP == 10**_MAX_SCALE
EMPTY = 0  # The class of the tokens without bytes.
KEEP = 255  # In `tag` and `done`: the register stays as it is.
# P. L'Ecuyer, "Tables of linear congruential generators of different sizes and good lattice structure" (1999): modulo
# 2**32 no short integer combination of this number's powers vanishes, so names that differ in few bytes do not collide.
_HASH_MULTIPLIER = 2891336453


class Tag(enum.IntEnum):
    """What the last action line holds so far."""

    NO_LINE, NO_TAG, BUY, SELL, REJECT, DEAL, QUIT = range(7)


class Content(enum.IntEnum):
    """What all bytes of a string are. PRIVATE wins over the others: one private byte hides a token."""

    EMPTY = 0  # no bytes
    PRIVATE = 1
    TALK = 2
    MAYBE = 3  # talk, unless the bytes at its end turn out to begin a header
    ACTION = 4


class Verdict(enum.IntEnum):
    """What becomes of the bytes that might have begun a header when the string starts."""

    OPEN = 0  # not known yet
    TEXT = 1
    HEADER = 2


STEP = np.dtype(
    [(name, np.uint8) for name in ("next", "content", "verdict", "tag", "done")]
    + [("reset", np.bool_), ("scale", np.uint8), ("add", np.int32), ("extend", np.bool_)]
)

_HEADERS = {"Thought:": "private", "Talk:": "talk", "Action:": "action"}
_TAGS = {f"[{tag.name}]": tag for tag in Tag if tag >= Tag.BUY}
_PRICED = (Tag.BUY, Tag.SELL, Tag.DEAL)

_ANY = bytes(range(256))
_WS = b" \t\r"
_NAME = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
_DOLLARS = ("$1", "$12", "$123", "$1234", "$1,234")
_PRICE_ENDS = ((_WS, "$1_"), (b"(", "("))

# The arguments: (state, bytes, next state, effects), and for digits (state, next state).
_ARGUMENTS = (
    ("[TAG]", _WS, "[TAG]", {}),
    ("[TAG]", b"$", "$", {"reset": True}),
    *((number, b".", "$1.", {}) for number in _DOLLARS),
    *((number, b",", "$1,", {}) for number in ("$1", "$12", "$123", "$1,234")),
    # Where the price ends, what was read is in dollars, dimes or cents; from here on it is in cents.
    *((number, sign, after, {"scale": 2}) for number in _DOLLARS for sign, after in _PRICE_ENDS),
    *(("$1.5", sign, after, {"scale": 1}) for sign, after in _PRICE_ENDS),
    *((number, sign, after, {}) for number in ("$1.50", "$1_") for sign, after in _PRICE_ENDS),
    ("(", b"1", "(1", {}),
    ("(1", b"x", "(1x", {}),
    *((before, _WS, "(1x_", {}) for before in ("(1x", "(1x_")),
    *((before, _NAME, "(1x a", {"extend": True}) for before in ("(1x_", "(1x a")),
    *((before, _WS, "(1x a_", {}) for before in ("(1x a", "(1x a_")),
    *((before, b")", "action", {"done": 1}) for before in ("(1x a", "(1x a_")),
)
_DIGITS = (
    *itertools.pairwise(("$", "$1", "$12", "$123", "$1234", "$1234")),
    *itertools.pairwise(("$1,", "$1,2", "$1,23", "$1,234")),
    *itertools.pairwise(("$1.", "$1.5", "$1.50")),
)


def _prefixes(words) -> list[str]:
    """All proper, non-empty prefixes of `words`, each once."""
    return list(dict.fromkeys(word[:i] for word in words for i in range(1, len(word))))


_LINE_STARTS = ["", *_prefixes(_HEADERS)]
_ARGUMENT_STATES = list(dict.fromkeys([rule[0] for rule in _ARGUMENTS] + [rule[0] for rule in _DIGITS]))
_ACTION_STATES = ["action", *_prefixes(_TAGS), *_ARGUMENT_STATES]
_SECTIONS = ("private", "talk")
STATES = (
    *(f"{section}^{prefix}" for section in _SECTIONS for prefix in _LINE_STARTS),
    *_SECTIONS,
    "action^",
    *_ACTION_STATES,
)
START = STATES.index("private^")
# Where `value` and `code` hold something of the arguments being read.
_IN_ARGUMENTS = np.array([state in _ARGUMENT_STATES and state != "[TAG]" for state in STATES])


def identity() -> np.ndarray:
    """What the empty string does: STEP[S] that goes nowhere and keeps everything."""
    column = np.zeros(len(STATES), STEP)
    column["next"] = np.arange(len(STATES))
    column["tag"] = column["done"] = KEEP
    return column


def _build() -> np.ndarray:
    """What each byte does in each state, STEP[S, 256]."""
    table = np.repeat(identity()[:, None], 256, axis=1)

    def on(state: str, characters: bytes, to: str, **effects):
        cells = (STATES.index(state), list(characters))
        for field, value in {"next": STATES.index(to), **effects}.items():
            table[field][cells] = value

    kinds = ((Content.PRIVATE, Content.PRIVATE), (Content.TALK, Content.MAYBE))
    for section, (content, maybe) in zip(_SECTIONS, kinds, strict=True):
        on(section, _ANY, section, content=content)
        on(section, b"\n", f"{section}^")
        for prefix in _LINE_STARTS:
            state = f"{section}^{prefix}"
            on(state, _ANY, section, content=content, verdict=Verdict.TEXT)
            on(state, b"\n", f"{section}^")
            for header in (header for header in _HEADERS if header.startswith(prefix)):
                longer = header[: len(prefix) + 1]
                if longer != header:
                    on(state, longer[-1:].encode(), f"{section}^{longer}", content=maybe, verdict=Verdict.OPEN)
                else:
                    opens = {"tag": Tag.NO_TAG, "done": 0} if header == "Action:" else {}
                    on(state, b":", _HEADERS[header], content=Content.PRIVATE, verdict=Verdict.HEADER, **opens)

    table[STATES.index("action^")] = table[START]
    on("action^", b"\n", "action^", content=Content.ACTION)
    for state in _ACTION_STATES:
        on(state, _ANY, "action", content=Content.ACTION)
        on(state, b"[", "[")
        on(state, b"\n", "action^")
    for word, tag in _TAGS.items():
        for i in range(1, len(word) - 1):
            on(word[:i], word[i].encode(), word[: i + 1])
        on(word[:-1], b"]", "[TAG]" if tag in _PRICED else "action", tag=tag, done=0)
    for state, characters, to, effects in _ARGUMENTS:
        on(state, characters, to, **effects)
    for state, to in _DIGITS:
        for digit in range(10):
            on(state, b"%d" % digit, to, scale=1, add=digit)
    return table


TABLE = _build()
TABLE.setflags(write=False)


def compose(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """What one string and then another do, each STEP[S].

    The result is normalized: equal records do the same to a message's action and content. To this end steps after which
    `value` and `code` are of no more use (the arguments broke off) leave these registers alone.
    """
    then = second[first["next"]]
    both = then.copy()
    for field in ("tag", "done"):
        both[field] = np.where(then[field] == KEEP, first[field], then[field])
    both["verdict"] = np.where(first["verdict"] == Verdict.OPEN, then["verdict"], first["verdict"])
    both["content"] = _join(first["content"], then["content"])

    live = _IN_ARGUMENTS[both["next"]] | (both["done"] == 1)
    reset = first["reset"] | then["reset"]
    kept_add = np.where(then["reset"], 0, first["add"].astype(np.int64))
    add = kept_add * 10 ** then["scale"].astype(np.int64) + then["add"]
    both["reset"] = live & reset
    both["scale"] = np.where(live & ~reset, np.minimum(first["scale"] + then["scale"], _MAX_SCALE), 0)
    both["add"] = np.where(live, np.minimum(add, CAP), 0)
    both["extend"] = live & (then["extend"] | (first["extend"] & ~then["reset"]))
    return both


def _join(first: np.ndarray, then: np.ndarray) -> np.ndarray:
    """The `Content` of two strings in a row; talk after a MAYBE means that this was talk, too."""
    talk = lambda content: np.isin(content, [Content.TALK, Content.MAYBE])
    alike = (first == Content.EMPTY) | (first == then) | (talk(first) & talk(then))
    return np.where(then == Content.EMPTY, first, np.where(alike, then, Content.PRIVATE))


def codename_hash(codename: bytes) -> np.uint32:
    """The register `code` after `(1x codename)`. Raises ValueError for a codename that the grammar cannot read."""
    if not codename or not set(codename) <= set(_NAME):
        raise ValueError(f"codename is {codename!r}: it must be one or more of A-Z, a-z, 0-9, '_' and '-'")
    return hash_step(codename)[1]


def hash_step(part: bytes) -> tuple[np.uint32, np.uint32]:
    """(multiplier, addend) by which reading `part` of a codename takes `code` to code * multiplier + addend."""
    multiplier, addend = 1, 0
    for byte in part:
        multiplier = multiplier * _HASH_MULTIPLIER % 2**32
        addend = (addend * _HASH_MULTIPLIER + byte) % 2**32
    return np.uint32(multiplier), np.uint32(addend)


_NEXT, _RESET, _EXTEND = (TABLE[field].tolist() for field in ("next", "reset", "extend"))


def codename_part(text: bytes, state: int) -> bytes:
    """The bytes of `text` that are read, from `state`, as part of the codename of the latest arguments.

    From whatever state `compose` says that `text` extends the codename, the part is the same. For suppose two parts
    that start at i < j. Before j stands `$`, price and `(1x `, or a tail of this at the start of the text. Where the
    `$` is in the text and after i, it resets the reader of i. Else i is within that tail, which a reader whose
    codename starts there cannot pass: white space must be followed by `)`, and `,`, `.` and `(` break it off.
    """
    part = bytearray()
    for byte in text:
        if _RESET[state][byte]:
            part.clear()
        elif _EXTEND[state][byte]:
            part.append(byte)
        state = _NEXT[state][byte]
    return bytes(part)


def classes(
    token_bytes: Sequence[bytes], empty: np.ndarray, then: Callable[[np.ndarray, int], np.ndarray]
) -> tuple[list[np.ndarray], list[int]]:
    """Sorts the tokens of a vocabulary, V byte strings, by what they do in every state of an automaton.

    empty: what the empty string does, a column over the states. then: what a string and one more byte do, from the
    string's column and the byte; equal columns must be equal bytes. Returns the distinct columns of all tokens, the
    empty string's first, and each token's index among them. Each is composed once, through a trie of prefixes whose
    nodes are columns.
    """
    nodes, children = [empty], [{}]
    index = {empty.tobytes(): EMPTY}
    ends = []
    for text in token_bytes:
        node = EMPTY
        for byte in text:
            child = children[node].get(byte)
            if child is None:
                column = then(nodes[node], byte)
                child = index.setdefault(column.tobytes(), len(nodes))
                if child == len(nodes):
                    nodes.append(column)
                    children.append({})
                children[node][byte] = child
            node = child
        ends.append(node)
    used, class_of = np.unique([EMPTY, *ends], return_inverse=True)
    return [nodes[node] for node in used], class_of[1:].tolist()

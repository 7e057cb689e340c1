"""The message grammar and the arguments once more, as regular expressions: what the automata are held against."""

import re

from negot_jax.game.types import BUYER, MAX_PRICE, NONE, Kind
from negot_jax.language import phrases

_TALK = re.compile(rb"^Talk:(.*?)(?=^(?:Thought|Talk|Action):|\Z)", re.MULTILINE | re.DOTALL)
_ACTION = re.compile(rb"^Action:([^\n]*\n?)", re.MULTILINE)
_TAG = re.compile(rb"\[(BUY|SELL|REJECT|DEAL|QUIT)\]")
_ARGUMENTS = re.compile(
    rb"[ \t\r]*\$(?P<dollars>\d{1,3}(?:,\d{3})+|\d+)(?:\.(?P<cents>\d{1,2}))?"
    rb"[ \t\r]*\(1x[ \t\r]+(?P<codename>[A-Za-z0-9_-]+)[ \t\r]*\)"
)


def _regex(pattern: str) -> str:
    for mark, meaning in {"{": "(?:", "}": ")", " ": "[ \\t\\r\\n-]+", "'": "(?:'|\u2019)?"}.items():
        pattern = pattern.replace(mark, meaning)
    return pattern


_NEGATED = re.compile(f"(?<![a-z0-9]){_regex(phrases.NEGATION)}\\Z".encode())
_ARGUES = {
    argument: re.compile(f"(?<![a-z0-9])(?=(?:{'|'.join(map(_regex, patterns))})(?![a-z0-9]))".encode())
    for argument, patterns in phrases.PHRASES.items()
}


def acts(talk: bytes) -> int:
    """The arguments made in a talk, as bits."""
    talk = talk.lower()
    heard = lambda found: any(not _NEGATED.search(talk[: match.start()]) for match in found.finditer(talk))
    return sum(1 << argument for argument, found in _ARGUES.items() if heard(found))


def action(message: bytes, cut: bool, codename: bytes, role: int) -> tuple[Kind, int]:
    """The kind and the price, in cents or `NONE`, of a message by `role`."""
    lines = _ACTION.findall(message)
    failure = Kind.CUT if cut else Kind.UNREADABLE if lines else Kind.MISSING
    tags = list(_TAG.finditer(lines[-1])) if lines else []
    if not tags:
        return failure, NONE
    tag = tags[-1].group(1)
    if tag in (b"REJECT", b"QUIT"):
        return Kind[tag.decode()], NONE
    arguments = _ARGUMENTS.match(lines[-1], tags[-1].end())
    if tag == (b"SELL" if role == BUYER else b"BUY") or not arguments or arguments["codename"] != codename:
        return failure, NONE
    price = int(arguments["dollars"].replace(b",", b"") + (arguments["cents"] or b"").ljust(2, b"0"))
    return (Kind.DEAL if tag == b"DEAL" else Kind.OFFER, price) if price <= MAX_PRICE else (failure, NONE)


def visible(tokens: list[bytes]) -> tuple[list[bool], list[bool]]:
    """For each token of a message: whether all of it is content of talk, and of an action line."""
    message = b"".join(tokens)
    kinds = bytearray(b"-" * len(message))
    for kind, pattern in ((b"t", _TALK), (b"a", _ACTION)):
        for match in pattern.finditer(message):
            kinds[match.start(1) : match.end(1)] = kind * len(match.group(1))
    talk, acts, end = [], [], 0
    for token in tokens:
        start, end = end, end + len(token)
        talk.append(start < end and set(kinds[start:end]) == {ord("t")})
        acts.append(start < end and set(kinds[start:end]) == {ord("a")})
    return talk, acts

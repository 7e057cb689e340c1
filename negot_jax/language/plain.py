"""Reads messages as text, as served models and people write them; tests hold the automata to these expressions."""

import re

from negot_jax.game.types import BUYER, MAX_PRICE, NONE, Kind
from negot_jax.language import phrases

_TALK = re.compile(rb"^Talk:(.*?)(?=^(?:Thought|Talk|Action):|\Z)", re.MULTILINE | re.DOTALL)
_ACTION = re.compile(rb"^Action:([^\n]*\n*)", re.MULTILINE)
_TAG = re.compile(rb"\[(BUY|SELL|REJECT|DEAL|QUIT)\]")
_ARGUMENTS = re.compile(
    rb"[ \t\r]*\$(?P<dollars>\d{1,3}(?:,\d{3})+|\d+)(?:\.(?P<cents>\d{1,2}))?"
    rb"[ \t\r]*\(1x[ \t\r]+(?P<codename>[A-Za-z0-9_-]+)[ \t\r]*\)"
)

# What chat models wrap a message in.
_REASONING = re.compile(r"<(think|thinking|thought|reasoning)>.*?(?:</\1>|\Z)", re.DOTALL | re.IGNORECASE)
_REASONED = re.compile(r"\A.*</(?:think|thinking|thought|reasoning)>", re.DOTALL | re.IGNORECASE)
_FENCE = re.compile(r"^[ \t]*(?:`{3,}[^`\n]*|~{3,}[^\n]*)(?:\n|\Z)", re.MULTILINE)
_HEADER = re.compile(r"^[ \t>#*_`-]*(Thought|Talk|Action)[*_`]*:[*_`]*", re.MULTILINE)
_ACTION_LINE = re.compile(r"^Action:.*$", re.MULTILINE)


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
    """The arguments made in a talk, one bit per kind of `Argument`."""
    talk = talk.lower()
    heard = lambda found: any(not _NEGATED.search(talk[: match.start()]) for match in found.finditer(talk))
    return sum(1 << argument for argument, found in _ARGUES.items() if heard(found))


def talk(message: bytes) -> bytes:
    """What is said in a message's Talk."""
    return b"".join(_TALK.findall(message))


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
    digits = (arguments["dollars"].replace(b",", b"") + (arguments["cents"] or b"").ljust(2, b"0")).lstrip(b"0") or b"0"
    if len(digits) > len(str(MAX_PRICE)) or int(digits) > MAX_PRICE:  # `int` refuses thousands of digits.
        return failure, NONE
    return (Kind.DEAL if tag == b"DEAL" else Kind.OFFER), int(digits)


def heard(message: str) -> str:
    """What the other side reads of a message: as `relay`, its talk and then its action lines, each under one header."""
    said = message.encode()
    sections = {b"Talk:": talk(said), b"Action:": b"".join(_ACTION.findall(said))}
    written = [header + text.rstrip(b"\n") for header, text in sections.items() if text.strip(b"\n")]
    return b"\n".join(written).decode(errors="replace")


def unwrap(reply: str) -> str:
    """The message in a chat model's reply. In this order:

    1. Reasoning is removed: from <think> (or thinking, thought, reasoning) to its end tag or, without one, to the end
       of the reply; and all before an end tag that nothing opens.
    2. Lines that open or close a code fence are removed; what they enclose stays.
    3. Markdown around the name of a part, such as **Talk:**, - Talk: or ## Talk:, is removed, unless that part is
       also named without any: then such a line belongs to the part that it stands in.
    4. In Action lines, asterisks, backquotes and backslashes are removed.
    """
    reply = reply.replace("\r\n", "\n")
    reply = _FENCE.sub("", _REASONED.sub("", _REASONING.sub("", reply)))
    named = set(re.findall(r"^(Talk|Action):", reply, re.MULTILINE))
    reply = _HEADER.sub(lambda line: line[0] if line[1] in named else f"{line[1]}:", reply)
    return _ACTION_LINE.sub(lambda line: re.sub(r"[*`\\]", "", line[0]), reply).strip()

"""Readable transcripts of episodes, as Markdown that no message can break out of."""

from collections.abc import Mapping, Sequence
import dataclasses
import os
import pathlib
import re

from negot_jax.game.money import dollars
from negot_jax.game.types import BUYER, NONE, Action, End, Kind

_ENDS = {
    End.ONGOING: "not ended",
    End.DEAL: "deal",
    End.BUYER_QUIT: "the buyer quit",
    End.SELLER_QUIT: "the seller quit",
    End.TURN_LIMIT: "no deal within the turn limit",
    End.OVERSHOOT: "overshoot: the buyer went above its budget",
    End.MISSING: "format error: the buyer's message has no action",
    End.UNREADABLE: "format error: the buyer's action is unreadable",
    End.CUT: "format error: the buyer's message was cut at its token cap",
    End.DEAL_WITHOUT_OFFER: "format error: the buyer's DEAL answers no standing offer",
    End.DEAL_MISMATCH: "format error: the buyer's DEAL is not at the standing offer's price",
    End.SELLER_ILLEGAL: "an illegal move of the seller ended the game",
}
_UNREAD = {Kind.MISSING: "no action", Kind.UNREADABLE: "unreadable action", Kind.CUT: "cut at the token cap"}


@dataclasses.dataclass(frozen=True)
class Message:
    """One message. role: `BUYER` or `SELLER`. text: as written, Thought included. action: as it was read.

    replaced: whether it stands in place of an illegal one.
    """

    role: int
    text: str
    action: Action
    replaced: bool = False


@dataclasses.dataclass(frozen=True)
class Transcript:
    """One finished episode. price, budget, cost, deal_price: cents (deal_price `NONE` without a deal).

    buyer: the player's name. hidden: what only the seller knows, besides its cost, by name.
    """

    title: str
    buyer: str
    price: int
    budget: int
    cost: int
    hidden: Mapping[str, str]
    messages: Sequence[Message]
    end: End
    deal_price: int
    reward: float


def markdown(transcripts: Sequence[Transcript]) -> str:
    """Returns all transcripts as one Markdown text."""
    return "# Transcripts\n\n" + "\n".join(_section(i, transcript) for i, transcript in enumerate(transcripts, 1))


def save(path: str | os.PathLike, transcripts: Sequence[Transcript]) -> None:
    """Writes `markdown` to a file."""
    pathlib.Path(path).write_text(markdown(transcripts), encoding="utf-8")


def escape(text: str) -> list[str]:
    """Returns the lines of a text, blank ones left out, such that Markdown shows just their characters.

    White space is made plain; what cannot be printed (control and format characters) is shown as U+FFFD.
    """
    lines = []
    for line in text.splitlines():
        plain = " ".join(line.split())
        plain = "".join(character if character.isprintable() else "\ufffd" for character in plain)
        plain = re.sub(r"([\\`*_\[\]<>#|~$&])", r"\\\1", plain)
        plain = re.sub(r"^([-+=])|^(\d+)(?=[.)])", lambda m: "\\" + m[1] if m[1] else m[2] + "\\", plain)
        if plain:
            lines.append(plain)
    return lines


def _section(number: int, transcript: Transcript) -> str:
    title = " ".join(escape(transcript.title))
    secrets = [f"cost {dollars(transcript.cost)}", *(f"{name} {fact}" for name, fact in transcript.hidden.items())]
    facts = {
        "buyer": transcript.buyer,
        "list price": dollars(transcript.price),
        "only the buyer knows": f"budget {dollars(transcript.budget)}",
        "only the seller knows": ", ".join(secrets),
    }
    parts = [f"## {number}. {title}", "\n".join(f"- {name}: {' '.join(escape(fact))}" for name, fact in facts.items())]
    turn = 0
    for message in transcript.messages:
        turn += message.role == BUYER  # the buyer opens every turn
        side = "Buyer" if message.role == BUYER else "Seller"
        side += " (in place of an illegal message)" if message.replaced else ""
        parts += [f"**Turn {turn}, {side}:** `{_action(message)}`", _quote(message.text)]
    end = _ENDS[End(transcript.end)]
    if transcript.deal_price != NONE:
        end += f" at {dollars(transcript.deal_price)}"
    parts.append(f"**End:** {' '.join(escape(end))}. **Reward:** {transcript.reward:+.3f}")
    return "\n\n".join(parts) + "\n"


def _quote(text: str) -> str:
    """Returns a block quote with a paragraph for each part of the message, its Thought marked as private."""
    start, *parts = re.split(r"(?m)^(Thought|Talk|Action):", text)
    paragraphs = [escape(start)]
    for header, body in zip(parts[::2], parts[1::2], strict=True):
        first, *rest = escape(body) or [""]
        label = "Thought (private)" if header == "Thought" else header
        paragraphs.append([f"*{label}:* {first}".rstrip(), *rest])
    paragraphs = [lines for lines in paragraphs if lines] or [["*(empty)*"]]
    return "> " + "\n>\n> ".join("  \n> ".join(lines) for lines in paragraphs)


def _action(message: Message) -> str:
    kind, price = Kind(int(message.action.kind)), int(message.action.price)
    if kind in _UNREAD:
        return _UNREAD[kind]
    name = ("BUY" if message.role == BUYER else "SELL") if kind == Kind.OFFER else kind.name
    return f"[{name}]" + (f" {dollars(price)}" if price != NONE else "")

"""Readable episodes: Markdown that no message can break out of, and a page that a browser filters and searches."""

from collections.abc import Sequence
from importlib import resources
import itertools
import json
import re

from negot_jax.evaluation.episodes import Episode, Message
from negot_jax.game.money import dollars
from negot_jax.game.types import BUYER, End, Kind

ENDS = {
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


def pick(episodes: Sequence[Episode], count: int) -> list[Episode]:
    """`count` episodes of as many kinds as there are: one of each end, of MI and of CI products, then a second."""
    kinds: dict[tuple[End, bool], list[Episode]] = {}
    for own in episodes:
        kinds.setdefault((own.end, own.budget > own.cost), []).append(own)
    rounds = itertools.zip_longest(*kinds.values())
    return list(itertools.islice((own for found in rounds for own in found if own is not None), count))


def markdown(episodes: Sequence[Episode]) -> str:
    return "# Transcripts\n\n" + "\n".join(_section(i, own) for i, own in enumerate(episodes, 1))


def page(episodes: Sequence[Episode]) -> str:
    """One self-contained HTML file. It reads nothing from the network, and shows every text as text."""
    told = resources.files("negot_jax.evaluation").joinpath("page.html").read_text(encoding="utf-8")
    ends = {end.name.lower(): words for end, words in ENDS.items()}
    for mark, data in (("__ENDS__", ends), ("__EPISODES__", [own.to_json() for own in episodes])):
        # Without "<", no text can end the script that holds it.
        script = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
        told = told.replace(mark, script, 1)
    return told


def escape(text: str) -> list[str]:
    """Returns the lines of a text, blank ones left out, such that Markdown shows just their characters.

    White space is made plain; what cannot be printed (control and format characters) is shown as U+FFFD.
    """
    lines = []
    for line in filter(None, (" ".join(line.split()) for line in text.splitlines())):
        plain = "".join(character if character.isprintable() else "\ufffd" for character in line)
        plain = re.sub(r"([\\`*_\[\]<>#|~$&@]|:(?=\S))", r"\\\1", plain)
        plain = re.sub(r"\b(?i:www)(?=\.)", r"\g<0>\\", plain)  # As an address, it would become a link.
        lines.append(re.sub(r"^([-+=])|^(\d+)(?=[.)])", lambda m: "\\" + m[1] if m[1] else m[2] + "\\", plain))
    return lines


def _section(number: int, episode: Episode) -> str:
    secrets = [f"cost {dollars(episode.cost)}", *(f"{name} {fact}" for name, fact in episode.hidden.items())]
    facts = {
        "buyer": episode.buyer.label,
        "seller": episode.seller,
        "list price": dollars(episode.price),
        "only the buyer knows": f"budget {dollars(episode.budget)}",
        "only the seller knows": ", ".join(secrets),
    }
    title = " ".join(escape(episode.title))
    parts = [f"## {number}. {title}", "\n".join(f"- {name}: {' '.join(escape(fact))}" for name, fact in facts.items())]
    for message in episode.messages:
        side = "Buyer" if message.role == BUYER else "Seller"
        side += " (in place of an illegal message)" if message.replaced else ""
        parts += [f"**Turn {message.turn + 1}, {side}:** `{_action(message)}`", _quote(message.text)]
    end = f"incomplete: {episode.incomplete}" if episode.incomplete else ENDS[episode.end]
    if episode.deal_price is not None:
        end += f" at {dollars(episode.deal_price)}"
    parts.append(f"**End:** {' '.join(escape(end))}. **Reward:** {episode.reward:+.3f}")
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
    if message.kind in _UNREAD:
        return _UNREAD[message.kind]
    offer = "BUY" if message.role == BUYER else "SELL"
    name = offer if message.kind == Kind.OFFER else message.kind.name
    return f"[{name}]" + ("" if message.price is None else f" {dollars(message.price)}")

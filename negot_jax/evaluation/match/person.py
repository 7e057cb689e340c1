"""A person at the terminal as a player: sees what its side knows, and is asked until its move is legal."""

from collections.abc import Sequence
import re

import rich.console
import rich.panel
import rich.text

from negot_jax.evaluation.match.seats import Reply, View
from negot_jax.game.money import dollars
from negot_jax.game.types import BUYER, MAX_PRICE, NONE, SIDES, Kind

_MOVES = {"deal": Kind.DEAL, "reject": Kind.REJECT, "quit": Kind.QUIT}
_OFFER = re.compile(r"(?:offer\s+)?\$?\s*(\d{1,3}(?:,\d{3}){1,4}|\d{1,15})(?:\.(\d{1,2}))?", re.ASCII)


class Person:
    """A `TextSeat` for whoever sits at the terminal."""

    def __init__(self):
        self.console = rich.console.Console()

    def speak(self, views: Sequence[View]) -> list[Reply]:
        return [self._reply(view) for view in views]

    def _reply(self, view: View) -> Reply:
        self._show(view)
        try:
            while True:
                move = parse(self._ask("[bold]your move[/bold] > "), view)
                if not isinstance(move, str):
                    break
                self._say(move)
            while True:
                talk = self._ask("say something (Enter: nothing) > ")
                lines = [f"Talk: {talk.strip()}"] * bool(talk.strip()) + [view.action(*move)]
                read = view.read("\n".join(lines))
                if read.readable:
                    return Reply(read)
                self._say("That is too long. Say it in fewer words.")
        except EOFError:
            return Reply(None, failure="the person left")

    def _ask(self, prompt: str) -> str:
        """A line that can be encoded, of what was typed."""
        while True:
            try:
                return self.console.input(prompt).encode(errors="replace").decode()
            except UnicodeDecodeError:
                self._say("That is no text in this terminal's encoding. Type it again.")

    def _show(self, view: View) -> None:
        """The product, once; the other side's message; what is known; and the legal moves."""
        own, other = SIDES[view.role], SIDES[1 - view.role]
        if view.turn == 0:
            self.console.print(rich.panel.Panel(_harmless(view.about[:600]), title=f"You are the {own}"))
        if view.said:
            said = view.said[-1].text or "(nothing)"
            self.console.print(rich.panel.Panel(_harmless(said), title=f"the {other} says", border_style="cyan"))
        secret = "budget" if view.role == BUYER else "cost"
        facts = f"list price {dollars(view.price)}, your {secret} {dollars(view.private)} (only you know it)"
        left = view.turns - view.turn
        self._say(f"{facts}, {left} message{'s' * (left > 1)} left")
        limit = "up to your budget" if view.role == BUYER else "from your cost"
        deal = f"deal: accept {dollars(view.standing)}; " if view.standing != NONE else ""
        reject, leave = "reject: turn the standing offer down", "quit: leave without a deal"
        self._say(f"{deal}offer M: name a price, {limit}; {reject}; {leave}")

    def _say(self, told: str) -> None:
        self.console.print(rich.text.Text(told))


def _harmless(text: str) -> rich.text.Text:
    """A text of others, without the escape sequences by which it could clear or forge what the terminal shows."""
    return rich.text.Text("".join(letter if letter.isprintable() or letter == "\n" else "\ufffd" for letter in text))


def parse(line: str, view: View) -> tuple[Kind, int] | str:
    """A move, its kind and price (cents or `NONE`), from what a person typed; or why it is not a legal move."""
    line = line.strip().lower()
    kind, price = _MOVES.get(line), NONE
    if kind is None:
        if not (match := _OFFER.fullmatch(line)):
            return "Type a price, as in: offer 45.50; or deal, reject, or quit."
        price = int(match[1].replace(",", "")) * 100 + int((match[2] or "").ljust(2, "0"))
        kind = Kind.OFFER
    if kind == Kind.DEAL:
        if view.standing == NONE:
            return "No offer of the other side stands, so there is nothing to accept."
        price = view.standing
    if price > MAX_PRICE:
        return f"The highest price is {dollars(MAX_PRICE)}."
    if price != NONE and view.role == BUYER and price > view.private:
        return f"{dollars(price)} is above your budget of {dollars(view.private)}: that would be a failure."
    if price != NONE and view.role != BUYER and price < view.private:
        return f"{dollars(price)} is below your cost of {dollars(view.private)}: that would be a loss."
    return kind, price

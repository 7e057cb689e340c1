"""Columns of a player's context."""

import dataclasses

from negot_jax.game.types import BUYER


@dataclasses.dataclass(frozen=True)
class Layout:
    """The columns of one seat's context. Every message has a slot of fixed width, so one cursor serves all rows.

    Between two of its messages a seat hears, in order: the end of its last message, if the cap cut it off; a header and
    the other seat's message; its own next header. The buyer's first message follows its prompt and header; the seller
    hears the buyer first. A context ends with its last message. Where regulation withdrew a message, its stand-in is in
    the slot.

    Widths in tokens: prompt, own (header), message, closing (the end of a message), other (the other seat's header) and
    reply (its message). stand_in: the longest one's, within `message`. turns: the turn limit.
    """

    role: int
    prompt: int
    own: int
    message: int
    closing: int
    other: int
    reply: int
    stand_in: int
    turns: int

    @property
    def heard(self) -> int:
        """Columns between two messages."""
        return self.closing + self.other + self.reply + self.own

    def start(self, turn: int) -> int:
        """The first column of the message of a turn."""
        first = self.prompt + (self.own if self.role == BUYER else self.heard)
        return first + turn * (self.message + self.heard)

    def end(self, turn: int) -> int:
        return self.start(turn) + self.message

    @property
    def columns(self) -> int:
        return self.end(self.turns - 1)

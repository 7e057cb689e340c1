"""Columns of a player's context."""

import dataclasses

from negot_jax.game.types import BUYER


@dataclasses.dataclass(frozen=True)
class Layout:
    """The columns of one side's context. Every message has a slot of fixed width, so that one cursor serves all rows.

    Between two of its messages a side hears: the end of its last message, if its cap cut it off, or what it was
    replaced by, if regulation withdrew it; a header and the other side's message; its own next header. The buyer's
    first message follows its prompt and header; the seller hears the buyer first. The buyer's context ends with its
    last message, since nobody reads on.

    prompt, own, message, closing, withdrawn, other, reply: widths in tokens of the prompt, the own header, a message,
    its end, what stands in for it, the other side's header and its message. turns: the turn limit.
    """

    role: int
    prompt: int
    own: int
    message: int
    closing: int
    withdrawn: int
    other: int
    reply: int
    turns: int

    @property
    def heard(self) -> int:
        """Columns between two messages."""
        return self.closing + self.withdrawn + self.other + self.reply + self.own

    def start(self, turn: int) -> int:
        """The first column of the side's message in a turn."""
        first = self.prompt + (self.own if self.role == BUYER else self.heard)
        return first + turn * (self.message + self.heard)

    def end(self, turn: int) -> int:
        return self.start(turn) + self.message

    @property
    def columns(self) -> int:
        return self.end(self.turns - 1)

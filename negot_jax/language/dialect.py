"""How a dialogue is laid out in a model's context: the prompt, and what the environment writes around messages.

A model writes its messages after one header and reads the other side's after another; both consist of control tokens
and a few fixed words, never of a message's content. `Own` is for the project's tokenizers, `Chat`, with the same
members, for published models in the format that they were trained on.
"""

import dataclasses

from negot_jax.game.types import BUYER, SELLER
from negot_jax.language import chat
from negot_jax.language import tokenizer as tokens
from negot_jax.language.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class Own:
    """A control token says whose message follows; a number after the model's own says how many it has left.

    end: the token that ends a message. closes: whether it is appended to a message that was cut off at its cap.
    """

    tokenizer: Tokenizer
    closes = False
    end = tokens.EOT

    def prompt(self, role: int, rules: str, about: str, text_tokens: int, turns: int) -> list[int]:
        """Everything before the first header. At most `text_tokens` tokens of `about` are kept."""
        text = self.tokenizer.encode(about)[:text_tokens]
        return [tokens.BOS, *self.tokenizer.encode(rules), *text, tokens.EOT]

    def own_header(self, role: int, left: int) -> list[int]:
        """The header of the model's own message. left: how many it may still write, this one included."""
        return [_TURN[role], *self.tokenizer.single_bytes(str(left)).tolist()]

    def other_header(self, role: int, left: int, first: bool) -> list[int]:
        """The header of the other side's message. first: whether it is the other side's first."""
        return [_TURN[1 - role]]


_TURN = {BUYER: tokens.BUYER_TURN, SELLER: tokens.SELLER_TURN}
LEFT = "Messages left: {}\n"
OPENING = "You speak first."


@dataclasses.dataclass(frozen=True)
class Chat:
    """The model is the assistant, the rules the system message, the other side and the environment the user."""

    tokenizer: Tokenizer
    form: chat.ChatFormat
    closes = True

    @property
    def end(self) -> int:
        return self.tokenizer.control(self.form.end)

    def prompt(self, role, rules, about, text_tokens, turns):
        # A character that was cut in two is left out.
        kept = self.tokenizer.decode(self.tokenizer.encode(about)[:text_tokens]).rstrip("\ufffd")
        if role == BUYER:
            user = f"{kept}\n\n{LEFT.format(turns)}{OPENING}"
            return self._encode(*self.form.start, rules, *self.form.opening, user, self.form.end)
        # The first thing that the user says is the buyer's message, so the prompt ends where that begins.
        return self._encode(*self.form.start, f"{rules}\n{kept}", *self.form.opening)

    def own_header(self, role, left):
        return self._encode(*self.form.reply)

    def other_header(self, role, left, first):
        return self._encode(*(() if first else self.form.heard), LEFT.format(left))

    def _encode(self, *pieces):
        return chat.encode(self.tokenizer, pieces)


Dialect = Own | Chat

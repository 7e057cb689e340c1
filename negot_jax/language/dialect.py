"""How a dialogue stands in a model's context: what it is told first, and what the environment writes around messages.

Every model writes its messages after a header of its own, and reads the other side's after another one; both are made
of control tokens and a few words, never of what somebody said. `Own` is for the project's tokenizers, `Chat` for
published models, in the format that they were trained with.
"""

import dataclasses
from typing import Protocol

from negot_jax.game.types import BUYER, SELLER
from negot_jax.language import chat
from negot_jax.language import tokenizer as tokens
from negot_jax.language.hf_tokenizer import PublishedTokenizer
from negot_jax.language.tokenizer import Tokenizer


class Dialect(Protocol):
    """Attributes:
    tokenizer: of the model.
    end: the token that ends a message.
    closes: whether a message that its cap has cut off is closed by that token before anything else is written.
    """

    tokenizer: Tokenizer | PublishedTokenizer
    end: int
    closes: bool

    def prompt(self, role: int, rules: str, about: str, text_tokens: int, turns: int) -> list[int]:
        """All that comes before the first header. At most `text_tokens` tokens of `about` are kept."""

    def own_header(self, role: int, left: int) -> list[int]:
        """What comes before a message of this role's model, which has `left` of them left, this one included."""

    def other_header(self, role: int, left: int, first: bool) -> list[int]:
        """What comes before a message that it reads, of which `first` is the first."""


@dataclasses.dataclass(frozen=True)
class Own:
    """A control token says whose message follows; a number after one's own says how many one has left."""

    tokenizer: Tokenizer
    closes = False
    end = tokens.EOT

    def prompt(self, role, rules, about, text_tokens, turns):
        text = self.tokenizer.encode(about)[:text_tokens]
        return [tokens.BOS, *self.tokenizer.encode(rules), *text, tokens.EOT]

    def own_header(self, role, left):
        return [_TURN[role], *self.tokenizer.single_bytes(str(left)).tolist()]

    def other_header(self, role, left, first):
        return [_TURN[1 - role]]


_TURN = {BUYER: tokens.BUYER_TURN, SELLER: tokens.SELLER_TURN}
_LEFT = "Messages left: {}\n"
_OPEN = "You speak first."


@dataclasses.dataclass(frozen=True)
class Chat:
    """The model is the assistant; the rules are the system message; the other side and the environment are the user."""

    tokenizer: PublishedTokenizer
    form: chat.ChatFormat
    closes = True

    @property
    def end(self) -> int:
        return self.tokenizer.control(self.form.closing)

    def prompt(self, role, rules, about, text_tokens, turns):
        # What is cut in the middle of a character loses that character.
        kept = self.tokenizer.decode(self.tokenizer.encode(about)[:text_tokens]).rstrip("\ufffd")
        if role == BUYER:
            user = f"{kept}\n\n{_LEFT.format(turns)}{_OPEN}"
            *pieces, _, _, _ = chat.parts(self.form, [chat.Message("system", rules), chat.Message("user", user)])
            return self._encode(pieces)
        # The first thing that the user says is the buyer's message, so the prompt ends where that begins.
        system = chat.Message("system", f"{rules}\n{kept}")
        pieces = chat.parts(self.form, [system, chat.Message("user", "\0")])
        begins = next(i for i, piece in enumerate(pieces) if piece.endswith("\0"))
        return self._encode([*pieces[:begins], pieces[begins].removesuffix("\0")])

    def own_header(self, role, left):
        return self._encode(["\n", self.form.opening, f"{self.form.assistant}\n{self.form.reply}"])

    def other_header(self, role, left, first):
        told = _LEFT.format(left)
        return self._encode([told] if first else ["\n", self.form.opening, f"user\n{told}"])

    def _encode(self, pieces):
        return chat.encode_parts(self.tokenizer, pieces)

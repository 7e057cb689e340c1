"""Scripted messages as tokens, written inside the compiled program from templates, with real prices.

A template is a row of token ids in which two negative marks stand for a price and for the product's codename. Rendering
widens each mark to its tokens by one gather a column; nothing leaves the device.
"""

from collections.abc import Mapping, Sequence

from flax import struct
import jax
import jax.numpy as jnp

from negot_jax.game.types import BUYER, SELLER, Action, Kind
from negot_jax.language import tokenizer as tokens
from negot_jax.language.tokenizer import Tokenizer

_PAD, _PRICE, _CODE = -1, -2, -3
_KINDS = (Kind.OFFER, Kind.REJECT, Kind.DEAL, Kind.QUIT)
_WHOLE_DIGITS = 7  # Of the largest readable price.
DECIMALS = 3  # Tokens of the point and two digits.

# What is said, by manner and kind of action. Every kind of a manner has the same number of variants.
Talk = Mapping[Kind, Sequence[str]]
BUYER_TALK: Talk = {
    Kind.OFFER: ("Here is my offer.", "I can pay this much.", "Would you take this?", "I can do this."),
    Kind.REJECT: ("That is too much.", "I cannot pay that.", "Please come down.", "Not at that price."),
    Kind.DEAL: ("Deal.", "Agreed.", "I take it.", "We have a deal."),
    Kind.QUIT: ("I will look elsewhere.", "Goodbye.", "This is not for me.", "I am leaving."),
}
SELLER_TALK: dict[str, Talk] = {
    "neutral": {
        Kind.OFFER: ("I can do this price.", "This is my price.", "How about this?", "Take it for this."),
        Kind.REJECT: ("That is too low.", "I cannot accept that.", "Please go higher.", "Not at that price."),
        Kind.DEAL: ("Sold.", "Agreed.", "It is yours.", "We have a deal."),
        Kind.QUIT: ("We are too far apart.", "No sale today.", "I must stop here.", "Goodbye."),
    },
    "begging": {
        Kind.OFFER: ("Please, I need this sale.", "Have mercy, take this.", "I beg you.", "My family needs it."),
        Kind.REJECT: ("Please, not so low.", "I could not live on that.", "Do not do this to me.", "Please, more."),
        Kind.DEAL: ("Thank you so much.", "Bless you.", "You saved me.", "Thank you, sold."),
        Kind.QUIT: ("I have to give up.", "I cannot go on.", "I am sorry.", "It breaks my heart."),
    },
    "insulting": {
        Kind.OFFER: ("Stop wasting my time.", "Pay or get lost.", "Are you that poor?", "Last chance, cheapskate."),
        Kind.REJECT: ("What a joke.", "Ridiculous.", "Do not insult me.", "Try again, cheapskate."),
        Kind.DEAL: ("Finally. Sold.", "Take it and go.", "Fine, be off.", "About time."),
        Kind.QUIT: ("Get out.", "We are done here.", "Go away.", "I am sick of you."),
    },
    "unyielding": {
        Kind.OFFER: ("My price is firm.", "I do not bargain.", "It is worth every cent.", "This and no less."),
        Kind.REJECT: ("No.", "Out of the question.", "I will not.", "Never."),
        Kind.DEAL: ("Very well.", "Accepted.", "So be it.", "Agreed."),
        Kind.QUIT: ("Then no.", "I keep it.", "No sale.", "That is all."),
    },
}
_TAG = {BUYER: " [BUY] $", SELLER: " [SELL] $"}


@struct.dataclass
class Phrasebook:
    """One side's templates and the tokens of prices.

    templates: int32[kinds, variants, L], token ids and marks. digits: int32[10]. point: int32.
    width: static, tokens that suffice for any of the side's talk with any action.
    """

    templates: jax.Array
    digits: jax.Array
    point: jax.Array
    width: int = struct.field(pytree_node=False)


def phrasebook(
    talk: Talk, role: int, tokenizer: Tokenizer, code_tokens: int, digits: int, end: int = tokens.EOT
) -> Phrasebook:
    """Templates of every kind of action, its talk first.

    Args:
      code_tokens: the most tokens that a codename takes. digits: the most digits before a price's point.
      end: the token that ends a message.
    """
    lines = [[_line(said, tokenizer) for said in talk[kind]] for kind in _KINDS]
    actions = [[*_action(kind, role, tokenizer), end] for kind in _KINDS]
    rows = [[line + action for line in variants] for variants, action in zip(lines, actions, strict=True)]
    length = max(len(template) for variants in rows for template in variants)
    padded = [[template + [_PAD] * (length - len(template)) for template in variants] for variants in rows]
    extra = {_PRICE: digits + DECIMALS - 1, _CODE: code_tokens - 1}
    return Phrasebook(
        templates=jnp.array(padded, jnp.int32),
        digits=jnp.array(tokenizer.single_bytes("0123456789")),
        point=jnp.array(tokenizer.single_bytes(".")[0]),
        width=max(len(line) for variants in lines for line in variants)
        + max(len(action) + sum(extra.get(token, 0) for token in action) for action in actions),
    )


def _line(said: str, tokenizer: Tokenizer) -> list[int]:
    encode = tokenizer.encode
    return [*encode("Talk:"), *encode(" " + said), *encode("\n")]


def _action(kind: Kind, role: int, tokenizer: Tokenizer) -> list[int]:
    encode = tokenizer.encode
    if kind in (Kind.OFFER, Kind.DEAL):
        tag = _TAG[role] if kind == Kind.OFFER else " [DEAL] $"
        said = [*encode(tag), _PRICE, *encode(" (1x "), _CODE, *encode(")")]
    else:
        said = encode(f" [{kind.name}]")
    return [*encode("Action:"), *said]


def spell_price(book: Phrasebook, cents: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The tokens of a price (45 or 45.50): int32[10], padded on the right, and their number."""
    dollars, rest = cents // 100, cents % 100
    powers = 10 ** jnp.arange(_WHOLE_DIGITS - 1, -1, -1)
    whole = dollars // powers % 10
    keep_whole = (dollars >= powers) | (powers == 1)
    decimals = jnp.stack([rest // 10, rest % 10])
    spelled = jnp.concatenate([book.digits[whole], book.point[None], book.digits[decimals]])
    keep = jnp.concatenate([keep_whole, jnp.full(DECIMALS, rest > 0)])
    order = jnp.argsort(~keep, stable=True)
    return spelled[order], keep.sum()


def render(
    book: Phrasebook, action: Action, code_C: jax.Array, code_length: jax.Array, variant: jax.Array, width: int
) -> tuple[jax.Array, jax.Array]:
    """The message that says a legal action.

    Args:
      action: of a readable kind. code_C: int32, the codename's tokens, padded; code_length: int32.
      variant: int32, any number; which of the kind's wordings is taken. width: static, columns of the result, at least
      `book.width`.
    Returns:
      tokens int32[width], padded on the right, and the length; the last token ends the message.
    """
    variants = book.templates.shape[1]
    template = book.templates[jnp.clip(action.kind, 0, len(_KINDS) - 1), variant % variants]
    price, price_length = spell_price(book, jnp.maximum(action.price, 0))
    sizes = jnp.select([template == _PAD, template == _PRICE, template == _CODE], [0, price_length, code_length], 1)
    ends = jnp.cumsum(sizes)
    columns = jnp.arange(width)
    slot = jnp.searchsorted(ends, columns, side="right", method="compare_all")
    mark = template.at[slot].get(mode="clip")
    offset = columns - (ends - sizes).at[slot].get(mode="clip")
    written = jnp.select(
        [mark == _PRICE, mark == _CODE],
        [price.at[offset].get(mode="clip"), code_C.at[offset].get(mode="clip")],
        mark,
    )
    return jnp.where(columns < ends[-1], written, tokens.PAD), ends[-1]

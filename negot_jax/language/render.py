"""Renders scripted messages to tokens inside the compiled program, from templates and real prices.

A template is a row of token ids in which negative marks stand for a price and the product's codename. Rendering expands
each mark to its tokens with one gather per column; nothing leaves the device.
"""

from types import MappingProxyType

from flax import struct
import jax
import jax.numpy as jnp

from negot_jax.game.personas import SPOKEN, Arguments, Talk
from negot_jax.game.types import BUYER, SELLER, Action, Argument, Kind
from negot_jax.language import tokenizer as tokens
from negot_jax.language.tokenizer import Tokenizer

_PAD, _PRICE, _CODE = -1, -2, -3
_WHOLE_DIGITS = 7  # Digits before the point of the largest readable price.
DECIMALS = 3  # Tokens of the point and two digits.

BUYER_TALK: Talk = {
    Kind.OFFER: ("Here is my offer.", "I can pay this much.", "Would you take this?", "I can do this."),
    Kind.REJECT: ("That is too much.", "I cannot pay that.", "Please come down.", "Not at that price."),
    Kind.DEAL: ("Deal.", "Agreed.", "I take it.", "We have a deal."),
    Kind.QUIT: ("I will look elsewhere.", "Goodbye.", "This is not for me.", "I am leaving."),
}
# What a scripted buyer says in place of that where it argues: each line is heard as that argument and no other.
BUYER_ARGUMENTS: Arguments = {
    Argument.COMPARISON: ("It is cheaper elsewhere.", "Other shops ask less.", "The market price is lower."),
    Argument.DEFECT: ("It has a scratch.", "It looks worn.", "This is an old model."),
    Argument.BUDGET: ("I cannot afford more.", "That is all I have.", "My budget is tight."),
    Argument.LOYALTY: ("I will come back.", "I am a regular customer.", "I will tell my friends."),
    Argument.URGENCY: ("I can pay cash.", "I will take it today.", "I buy it now."),
    Argument.COURTESY: ("Thank you for your time.", "Would you be so kind, please?", "I would appreciate that."),
    Argument.FLATTERY: ("You have great taste.", "What a lovely shop.", "You know your trade."),
    Argument.INSULT: ("You are greedy.", "What a joke.", "That is ridiculous."),
    Argument.THREAT: ("Or I walk away.", "This is my last offer.", "Take it or leave it."),
    Argument.FAIRNESS: ("Let us be fair.", "Let us meet halfway.", "Split the difference."),
}
_TAG = {BUYER: " [BUY] $", SELLER: " [SELL] $"}


@struct.dataclass
class Phrasebook:
    """One side's templates and the tokens of prices.

    templates: int32[kinds, topics, variants, L], token ids and marks; topic 0 is plain talk, topic 1 + k argument k.
    digits: int32[10]. point: int32.
    width: static, an upper bound on the tokens of any of the side's talk with any action.
    """

    templates: jax.Array
    digits: jax.Array
    point: jax.Array
    width: int = struct.field(pytree_node=False)


def phrasebook(
    talk: Talk,
    role: int,
    tokenizer: Tokenizer,
    code_tokens: int,
    digits: int,
    end: int = tokens.EOT,
    arguments: Arguments = MappingProxyType({}),
) -> Phrasebook:
    """Builds the templates of every kind of action: its talk, then the action.

    code_tokens: the most tokens of any codename. digits: the most digits before the point of any price. end: the token
    that ends a message. arguments: what is said in place of the talk where an argument is made; with none, arguments
    are not put in words.
    """
    encode = tokenizer.encode
    line = lambda said: [*encode("Talk:"), *encode(" " + said), *encode("\n")]
    actions = {kind: [*_action(kind, role, tokenizer), end] for kind in SPOKEN}
    topics = [None, *Argument] if arguments else [None]
    variants = range(len(talk[Kind.OFFER]))
    texts = [(kind, arguments.get(topic, talk[kind])) for kind in SPOKEN for topic in topics]
    lines = [(kind, line(said[i % len(said)])) for kind, said in texts for i in variants]
    rows = tokens.pad([said + actions[kind] for kind, said in lines], _PAD)
    extra = {_PRICE: digits + DECIMALS - 1, _CODE: code_tokens - 1}
    longest = max(len(action) + sum(extra.get(token, 0) for token in action) for action in actions.values())
    return Phrasebook(
        templates=jnp.array(rows.reshape(len(SPOKEN), len(topics), len(variants), -1)),
        digits=jnp.array(tokenizer.single_bytes("0123456789")),
        point=jnp.array(tokenizer.single_bytes(".")[0]),
        width=max(len(said) for _, said in lines) + longest,
    )


def _action(kind: Kind, role: int, tokenizer: Tokenizer) -> list[int]:
    encode = tokenizer.encode
    if kind in (Kind.OFFER, Kind.DEAL):
        tag = _TAG[role] if kind == Kind.OFFER else " [DEAL] $"
        said = [*encode(tag), _PRICE, *encode(" (1x "), _CODE, *encode(")")]
    else:
        said = encode(f" [{kind.name}]")
    return [*encode("Action:"), *said]


def spell_price(book: Phrasebook, cents: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The tokens of a price (45 or 45.50): int32[10], right-padded, and their count."""
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
    """Renders a legal action as a message: tokens int32[width], right-padded, and the length.

    action: of a readable kind; of its acts, the first is put in words. code_C: int32, the codename's tokens, padded;
    code_length: int32. variant: int32, any number; selects the wording. width: static, at least `book.width`.
    """
    kinds, topics, variants, _ = book.templates.shape
    lowest = action.acts & -action.acts
    topic = jnp.where((topics > 1) & (lowest > 0), 1 + jax.lax.population_count(lowest - 1), 0)
    template = book.templates[jnp.clip(action.kind, 0, kinds - 1), topic, variant % variants]
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

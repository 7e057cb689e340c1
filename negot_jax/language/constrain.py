"""Constrained decoding: every message keeps to the form.

The form is a small automaton over tokens. Literal parts have one spelling (the tokenizer's own), talk is any text of
one line, prices are single digits; the codename, and a deal's price where it is forced to the standing offer, are
spelled out token by token. What may come next depends on the tokens so far alone, so a trainer can recompute the mask:
the sampler keeps one small integer per token, the automaton's node, or `FORCED` where there was no choice.
"""

from collections.abc import Mapping, Sequence

from flax import struct
import jax
import jax.numpy as jnp
import numpy as np

from negot_jax.game.types import BUYER, NONE
from negot_jax.language import tokenizer as tokens
from negot_jax.language.render import DECIMALS
from negot_jax.language.tokenizer import Tokenizer

FORCED = -1  # The mask of a token that was the only one possible; its log-probability is 0.
_CODE, _PRICE = 1, 2


@struct.dataclass
class Constraint:
    """The automaton of one side's messages. N nodes, V tokens.

    next_NxV: int16, the node that follows, -1 where a token is not allowed. spelled_N: int32, which given spelling a
    node walks through (0 none, 1 the codename, 2 the standing offer's price). after_N: int32, where a spelling leads.
    with_deal_N: int32, the node to go to in a node's place while the other side's offer stands.
    newline_N: int32, the token that ends a node's line of free text, else -1. reserve_N: int32, tokens that must be
    left for the rest of the form once such a line has ended; at the start node, for the whole of it. start: int32.
    """

    next_NxV: jax.Array
    spelled_N: jax.Array
    after_N: jax.Array
    with_deal_N: jax.Array
    newline_N: jax.Array
    reserve_N: jax.Array
    start: jax.Array

    @property
    def allowed_NxV(self) -> jax.Array:
        return self.next_NxV >= 0


@struct.dataclass
class Follow:
    """Where a message stands: node int32, and index int32 into the spelling that the node walks through."""

    node: jax.Array
    index: jax.Array


@struct.dataclass
class Spellings:
    """What one message may have to spell out: int32 tokens of the codename, then of the standing price, and lengths."""

    tokens_2xC: jax.Array
    lengths_2: jax.Array


class _Builder:
    """Nodes as they are added, each a dictionary of the columns of `Constraint`."""

    def __init__(self, vocab_size: int):
        self.vocab_size = vocab_size
        self.nodes: list[dict] = []

    def node(self, spelled: int = 0, after: int = 0) -> int:
        row = np.full(self.vocab_size, -1, np.int16)
        columns = {"spelled_N": spelled, "after_N": after, "with_deal_N": len(self.nodes), "newline_N": -1}
        self.nodes.append({"next_NxV": row, **columns, "reserve_N": 0})
        return len(self.nodes) - 1

    def step(self, start: int, ids: Sequence[int] | np.ndarray, end: int) -> None:
        """Any one of the tokens leads from start to end."""
        self.nodes[start]["next_NxV"][ids] = end

    def literal(self, start: int, ids: Sequence[int], end: int) -> None:
        """The tokens in a row lead from start to end, on a path shared with the literals that begin alike."""
        for token in ids[:-1]:
            if self.nodes[start]["next_NxV"][token] < 0:
                self.step(start, [token], self.node())
            start = int(self.nodes[start]["next_NxV"][token])
        self.step(start, ids[-1:], end)

    def line(self, node: int, text: np.ndarray, newline: int, end: int, reserve: int) -> None:
        """Free text in `node` until a line break leads to `end`."""
        self.step(node, text, node)
        self.step(node, [newline], end)
        self.nodes[node] |= {"newline_N": newline, "reserve_N": reserve}

    def build(self, start: int) -> Constraint:
        columns = {name: jnp.array(np.stack([node[name] for node in self.nodes])) for name in self.nodes[0]}
        return Constraint(**columns, start=jnp.array(start, jnp.int32))


def constraint(
    tokenizer: Tokenizer, role: int, code_tokens: int, digits: int, force_deal_price: bool, eot: int = tokens.EOT
) -> Constraint:
    """The automaton for one side: an optional Thought, a Talk, and a complete Action; DEAL while an offer stands.

    code_tokens: the most tokens of a codename. digits: the most digits before a price's point. force_deal_price:
    whether a DEAL repeats the standing offer by force; else it may name any price. eot: the token that ends a message.
    """
    encode, build = tokenizer.encode, _Builder(tokenizer.vocab_size)
    header, thought_header, action_header = encode("Talk:"), encode("Thought:"), encode("Action:")
    unit, closing = encode(" (1x "), encode(")")
    newline = int(tokenizer.single_bytes("\n")[0])
    text = np.flatnonzero([len(piece) > 0 and b"\n" not in piece for piece in tokenizer.token_bytes])

    done, end, closed = (build.node() for _ in range(3))
    build.step(done, [eot], done)
    build.step(end, [eot], done)
    build.literal(closed, closing, end)
    code = build.node(_CODE, closed)
    amount = _price(build, tokenizer, digits, unit, code)
    standing = amount
    if force_deal_price:
        spelled = build.node()
        build.literal(spelled, unit, code)
        standing = build.node(_PRICE, spelled)

    answers = {" [BUY] $" if role == BUYER else " [SELL] $": amount, " [REJECT]": end, " [QUIT]": end}
    deal = {" [DEAL] $": standing}
    without, with_deal = (_action(build, tokenizer, action_header, tags) for tags in (answers, answers | deal))
    build.nodes[without]["with_deal_N"] = with_deal
    longest_tag = max(len(encode(tag)) for tag in answers | deal)
    action = len(action_header) + longest_tag + digits + DECIMALS + len(unit) + code_tokens + len(closing) + 1

    start, thought, talk_head, talk = (build.node() for _ in range(4))
    build.literal(start, thought_header, thought)
    build.literal(start, header, talk)
    after_thought = len(header) + 1 + action
    build.line(thought, text, newline, talk_head, after_thought)
    build.literal(talk_head, header, talk)
    build.line(talk, text, newline, without, action)
    build.nodes[start]["reserve_N"] = len(thought_header) + 1 + after_thought
    return build.build(start)


def _price(build: _Builder, tokenizer: Tokenizer, digits: int, unit: Sequence[int], code: int) -> int:
    """Up to `digits` digits, then perhaps a point and two more, then the quantity and the codename."""
    figures, point = tokenizer.single_bytes("0123456789"), tokenizer.single_bytes(".")
    cents, dimes, decimals = (build.node() for _ in range(3))
    build.step(decimals, figures, dimes)
    build.step(dimes, figures, cents)
    build.literal(cents, unit, code)
    longer = -1  # After the last digit there is no other.
    for _ in range(digits):
        number = build.node()
        build.step(number, figures, longer)
        build.step(number, point, decimals)
        build.literal(number, unit, code)
        longer = number
    start = build.node()
    build.step(start, figures, longer)
    return start


def _action(build: _Builder, tokenizer: Tokenizer, header: Sequence[int], tags: Mapping[str, int]) -> int:
    """A line that holds one of the tags, each of which leads on to a node of its own."""
    head, tag = build.node(), build.node()
    build.literal(head, header, tag)
    for text, to in tags.items():
        build.literal(tag, tokenizer.encode(text), to)
    return head


def shortest_cap(form: Constraint) -> int:
    """The fewest tokens in which any message of the form can be completed."""
    return int(form.reserve_N[form.start])


def begin(form: Constraint) -> Follow:
    return Follow(node=form.start, index=jnp.zeros((), jnp.int32))


def allowed(form: Constraint, follow: Follow, spellings: Spellings, left: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What may come next with `left` tokens left: mask bool[V]; the node whose `allowed_NxV` it is, or `FORCED`."""
    spelled = form.spelled_N[follow.node]
    given = spellings.tokens_2xC[jnp.maximum(spelled - 1, 0), follow.index]
    newline = form.newline_N[follow.node]
    out_of_room = (newline >= 0) & (left <= form.reserve_N[follow.node] + 1)
    forced = (spelled > 0) | out_of_room
    only = jnp.where(spelled > 0, given, newline)
    row = form.next_NxV[follow.node] >= 0
    mask = jnp.where(forced, jnp.arange(row.size) == only, row)
    return mask, jnp.where(forced, FORCED, follow.node)


def advance(form: Constraint, follow: Follow, spellings: Spellings, token: jax.Array, standing: jax.Array) -> Follow:
    """The place after a token. standing: int32 cents, the other side's standing offer or `NONE`."""
    spelled = form.spelled_N[follow.node]
    index = follow.index + 1
    finished = index >= spellings.lengths_2[jnp.maximum(spelled - 1, 0)]
    walked = jnp.where(finished, form.after_N[follow.node], follow.node)
    stepped = form.next_NxV[follow.node, token].astype(jnp.int32)
    node = jnp.maximum(jnp.where(spelled > 0, walked, stepped), 0)
    node = jnp.where(standing != NONE, form.with_deal_N[node], node)
    return Follow(node=node, index=jnp.where((spelled > 0) & ~finished, index, 0))

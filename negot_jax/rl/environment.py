"""Everything an episode needs besides the players' weights, gathered once and kept on the device."""

from collections.abc import Sequence
import dataclasses
from typing import Literal

from flax import struct
import jax
import jax.numpy as jnp

from negot_jax.catalog.types import Catalog, products
from negot_jax.config import field, require_known
from negot_jax.game import money, sellers
from negot_jax.game.personas import Persona
from negot_jax.game.regulation import MARGIN_BP
from negot_jax.game.rewards import REWARDS
from negot_jax.game.types import BUYER, SELLER, GameParams
from negot_jax.language import automaton, constrain, grammar, prompts, relay, render
from negot_jax.language import tokenizer as tokens
from negot_jax.language.dialect import Dialect
from negot_jax.models.sampling import SamplingConfig

Decoding = Literal["free", "constrained"]
_DECODING = "'constrained' masks every token that would break the message form"


@dataclasses.dataclass(frozen=True)
class GameConfig:
    """The rules and the seller."""

    turns: int = field(6, "turn limit; a turn is one buyer message and one seller message")
    regulation: Literal["repair", "end", "none"] = field(
        "repair", "an illegal seller move is replaced by a legal counter-offer, ends the game, or (none) loses the turn"
    )
    seller: str = field(
        "neutral",
        "a scripted seller, with fields to change: neutral or neutral(noise=0.05, tick=100). Where a language model "
        "sells (seller.model), this is who the dialogues of the warm start are with, and its persona is the model's",
    )
    reward: str = field(
        "paper", f"what an episode is worth to the buyer, and mirrored to the seller: {', '.join(REWARDS)}"
    )

    def __post_init__(self):
        if self.turns < 1:
            raise ValueError(f"game.turns={self.turns} must be at least 1.")
        require_known("game.reward", self.reward, REWARDS)
        sellers.make(self.seller)

    @property
    def persona(self) -> Persona:
        """The seller's."""
        return sellers.make(self.seller).persona


@dataclasses.dataclass(frozen=True)
class LanguageConfig:
    """Prompts, messages and how the buyer may write."""

    vocab_size: int = field(1024, "tokens of the SentencePiece model that is trained where the model brings none")
    prompts: Literal["full", "compact"] = field("full", "'full' states the rules in the prompt, 'compact' does not")
    text_tokens: int = field(256, "tokens kept of a product's title, description and features")
    message_tokens: int = field(64, "cap of a buyer's message")
    decoding: Decoding = field("free", _DECODING)
    force_deal_price: bool = field(True, "constrained decoding writes a DEAL's price, which must be the standing offer")

    def __post_init__(self):
        if self.text_tokens < 0:
            raise ValueError(f"language.text_tokens={self.text_tokens} is negative. Use 0 (rules only) or more.")


@dataclasses.dataclass(frozen=True)
class SellerConfig:
    """Who sells: the scripted seller of `game.seller`, or a frozen language model in its place."""

    model: Literal["scripted", "base", "own"] = field(
        "scripted", "'base': the buyer's model as it came, shared with it; 'own': another one, see seller.checkpoint"
    )
    checkpoint: str | None = field(
        None, "folder of the seller's own checkpoint, of the buyer's tokenizer; without it the warm start makes one"
    )
    message_tokens: int = field(64, "cap of a language model's message")
    decoding: Decoding = field("free", _DECODING)
    sampling: SamplingConfig = field(SamplingConfig(temperature=0.7), "how a language model draws its tokens")

    def __post_init__(self):
        if self.checkpoint and self.model != "own":
            raise ValueError(
                f"seller.checkpoint={self.checkpoint!r} is read by seller.model='own' alone, but that is "
                f"{self.model!r}. Set seller.model='own', or leave the checkpoint out."
            )


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


@struct.dataclass
class Side:
    """What one side's model reads and how it may write. N products, K turns.

    prompts_NxL: int32, padded on the right; prompt_lengths_N: int32. own_KxH, other_KxJ: int32, the headers before its
    own message of each turn and before what it hears ahead of that; negative where there is no token. form: None for
    free decoding.
    """

    prompts_NxL: jax.Array
    prompt_lengths_N: jax.Array
    own_KxH: jax.Array
    other_KxJ: jax.Array
    form: constrain.Constraint | None
    layout: Layout = struct.field(pytree_node=False)


@struct.dataclass
class Environment:
    """The game, its products, and the tables between tokens and actions. N products.

    codes_NxC: int32, the codenames' tokens, padded; code_lengths_N: int32; code_hashes_N: uint32.
    buyer, seller: what their models read; no seller where it is scripted. buyer_book, seller_book: what is written for
    a scripted side, or in place of a withdrawn message. script: the scripted seller. end: the token that ends messages.
    """

    params: GameParams
    codes_NxC: jax.Array
    code_lengths_N: jax.Array
    code_hashes_N: jax.Array
    grammar: grammar.Grammar
    relay: relay.Relay
    buyer: Side
    seller: Side | None
    buyer_book: render.Phrasebook
    seller_book: render.Phrasebook
    script: sellers.Seller = struct.field(pytree_node=False)
    end: int = struct.field(pytree_node=False)

    def side(self, role: int) -> Side:
        return self.buyer if role == BUYER else self.seller


def build(
    catalog: Catalog,
    dialect: Dialect,
    game: GameConfig,
    language: LanguageConfig,
    seller: SellerConfig = SellerConfig(),
    token_grammar: grammar.Grammar | None = None,
) -> Environment:
    """The environment of a catalogue.

    Args:
      token_grammar: the grammar's tables for this tokenizer, where they have been built already.
    Raises:
      ValueError: message_tokens of a side is too small for a message to be completed.
    """
    tokenizer = dialect.tokenizer
    codes = [tokenizer.encode(codename) for codename in catalog.codenames]
    code_tokens = max(map(len, codes))
    script = sellers.make(game.seller)
    digits = len(str(_highest_price(catalog, script) // 100))
    talk = {BUYER: render.BUYER_TALK, SELLER: script.persona.talk}
    book = {role: render.phrasebook(talk[role], role, tokenizer, code_tokens, digits, dialect.end) for role in talk}
    copied = relay.build(tokenizer, dialect.end)

    def side(role: int, name: str, message: int, decoding: Decoding, withdrawn: int, reply: int) -> Side:
        form, shortest = None, book[role].width
        if decoding == "constrained":
            forced = language.force_deal_price
            form = constrain.constraint(tokenizer, role, code_tokens, digits, forced, dialect.end)
            shortest = max(shortest, constrain.shortest_cap(form))
        if message < shortest:
            raise ValueError(
                f"{name}.message_tokens={message} leaves no room for a whole message: this catalogue's codenames and "
                f"prices take up to {shortest} tokens. Set {name}.message_tokens >= {shortest}."
            )
        told = (catalog, dialect, role, game.turns, language.prompts, language.text_tokens, script.persona)
        rows, lengths = prompts.tokenize(*told)
        own, other = _headers(dialect, role, game.turns)
        return Side(
            prompts_NxL=jnp.array(rows),
            prompt_lengths_N=jnp.array(lengths),
            own_KxH=own,
            other_KxJ=other,
            form=form,
            layout=Layout(
                role=role,
                prompt=rows.shape[1],
                own=own.shape[1],
                message=message,
                closing=int(dialect.closes),
                withdrawn=withdrawn,
                other=other.shape[1],
                reply=reply,
                turns=game.turns,
            ),
        )

    buyer_hears = book[SELLER].width
    seller_side = None
    if seller.model != "scripted":
        buyer_hears = max(buyer_hears, copied.width(seller.message_tokens))
        seller_hears = copied.width(language.message_tokens)
        seller_side = side(SELLER, "seller", seller.message_tokens, seller.decoding, book[SELLER].width, seller_hears)
    return Environment(
        params=GameParams(products=products(catalog), turns=game.turns, regulation=game.regulation, reward=game.reward),
        codes_NxC=jnp.array(tokens.pad(codes)),
        code_lengths_N=jnp.array([len(code) for code in codes], jnp.int32),
        code_hashes_N=jnp.array([automaton.codename_hash(code.encode()) for code in catalog.codenames], jnp.uint32),
        grammar=grammar.build(tokenizer.token_bytes) if token_grammar is None else token_grammar,
        relay=copied,
        buyer=side(BUYER, "language", language.message_tokens, language.decoding, 0, buyer_hears),
        seller=seller_side,
        buyer_book=book[BUYER],
        seller_book=book[SELLER],
        script=script,
        end=dialect.end,
    )


def _headers(dialect: Dialect, role: int, turns: int) -> tuple[jax.Array, jax.Array]:
    """The headers by turn, int32[K, H] and int32[K, J]."""
    own = [dialect.own_header(role, turns - turn) for turn in range(turns)]
    other = [dialect.other_header(role, turns - turn, first=turn == 0) for turn in range(turns)]
    return _align(own), _align(other)


def _align(rows: Sequence[Sequence[int]]) -> jax.Array:
    """Rows of equal length, int32, with -1 on the left of shorter ones."""
    width = max(map(len, rows))
    return jnp.array([[-1] * (width - len(row)) + list(row) for row in rows], jnp.int32)


def _highest_price(catalog: Catalog, seller: sellers.Seller) -> int:
    """The highest price that the seller, or the move that replaces its own, ever says, in cents."""
    replacement = money.highest_floor(catalog.price, catalog.cost, MARGIN_BP[1] / money.BP)
    return max(seller.highest_price(catalog.price, catalog.cost), replacement)

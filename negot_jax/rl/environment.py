"""Everything an episode needs besides the players' weights, gathered once and kept on the device."""

import dataclasses
from typing import Literal

from flax import struct
import jax
import jax.numpy as jnp
import numpy as np

from negot_jax.catalog.types import Catalog, products
from negot_jax.config import field
from negot_jax.game import sellers
from negot_jax.game.regulation import MARGIN_BP
from negot_jax.game.types import BUYER, SELLER, GameParams
from negot_jax.language import automaton, constrain, grammar, prompts, render
from negot_jax.language.tokenizer import BUYER_TURN, Tokenizer


@dataclasses.dataclass(frozen=True)
class GameConfig:
    """The rules and the seller."""

    turns: int = field(6, "turn limit; a turn is one buyer message and one seller message")
    regulation: Literal["repair", "end", "none"] = field(
        "repair", "an illegal seller move is replaced by a legal counter-offer, ends the game, or (none) loses the turn"
    )
    seller: str = field("neutral", "a scripted seller, with fields to change: neutral or neutral(noise=0.05, tick=100)")

    def __post_init__(self):
        if self.turns < 1:
            raise ValueError(f"game.turns={self.turns} must be at least 1.")
        sellers.make(self.seller)


@dataclasses.dataclass(frozen=True)
class LanguageConfig:
    """Prompts, messages and how the buyer may write."""

    vocab_size: int = field(1024, "tokens of the SentencePiece model trained on the catalogue")
    prompts: Literal["full", "compact"] = field("full", "'full' states the rules in the prompt, 'compact' does not")
    text_tokens: int = field(256, "tokens kept of a product's title, description and features")
    message_tokens: int = field(64, "cap of a buyer's message")
    decoding: Literal["free", "constrained"] = field(
        "free", "'constrained' masks every token that would break the message form"
    )
    force_deal_price: bool = field(True, "constrained decoding writes a DEAL's price, which must be the standing offer")

    def __post_init__(self):
        if self.text_tokens < 0:
            raise ValueError(f"language.text_tokens={self.text_tokens} is negative. Use 0 (rules only) or more.")


@dataclasses.dataclass(frozen=True)
class Layout:
    """The columns of the buyer's context. Every message has a slot of fixed width, so that one cursor serves all rows.

    A turn is the buyer's header, its message, the seller's header (one column) and the seller's message; the last turn
    ends with the buyer's message, since nobody reads on.

    prompt, header, message, reply: widths in tokens of the prompt, the buyer's header, its messages and the seller's.
    turns: the turn limit.
    """

    prompt: int
    header: int
    message: int
    reply: int
    turns: int

    def start(self, turn: int) -> int:
        """The first column of the buyer's message in a turn; the columns before it hold the buyer's header."""
        return self.prompt + self.header + turn * (self.message + 1 + self.reply + self.header)

    def end(self, turn: int) -> int:
        return self.start(turn) + self.message

    @property
    def columns(self) -> int:
        return self.end(self.turns - 1)


@struct.dataclass
class Environment:
    """The game, its products, and the tables between tokens and actions. N products.

    prompts_NxL: int32, the buyer's prompts, padded on the right; prompt_lengths_N: int32. codes_NxC: int32, the
    codenames' tokens, padded; code_lengths_N: int32; code_hashes_N: uint32. headers_KxH: int32, what the environment
    writes before the buyer's message of each turn: a control token and how many messages it has left, this one
    included. form: None for free decoding.
    """

    params: GameParams
    prompts_NxL: jax.Array
    prompt_lengths_N: jax.Array
    codes_NxC: jax.Array
    code_lengths_N: jax.Array
    code_hashes_N: jax.Array
    headers_KxH: jax.Array
    grammar: grammar.Grammar
    form: constrain.Constraint | None
    buyer_book: render.Phrasebook
    seller_book: render.Phrasebook
    seller: sellers.Seller = struct.field(pytree_node=False)
    layout: Layout = struct.field(pytree_node=False)


def build(
    catalog: Catalog,
    tokenizer: Tokenizer,
    game: GameConfig,
    language: LanguageConfig,
    token_grammar: grammar.Grammar | None = None,
) -> Environment:
    """The environment of a catalogue.

    Args:
      token_grammar: the grammar's tables for this tokenizer, where another environment has built them already.
    Raises:
      ValueError: language.message_tokens is too short for a message to be completed.
    """
    codes = [tokenizer.encode(codename) for codename in catalog.codenames]
    code_tokens = max(map(len, codes))
    seller = sellers.make(game.seller)
    digits = len(str(_highest_price(catalog, seller) // 100))
    talk = {BUYER: render.BUYER_TALK, SELLER: seller_talk(game.seller)}
    book = {role: render.phrasebook(talk[role], role, tokenizer, code_tokens, digits) for role in talk}
    form = None
    shortest = book[BUYER].width
    if language.decoding == "constrained":
        form = constrain.constraint(tokenizer, BUYER, code_tokens, digits, language.force_deal_price)
        shortest = max(shortest, constrain.shortest_cap(form))
    if language.message_tokens < shortest:
        raise ValueError(
            f"language.message_tokens={language.message_tokens} leaves no room for a whole message: this catalogue's "
            f"codenames and prices take up to {shortest} tokens. Set language.message_tokens >= {shortest}."
        )
    all_prompts, lengths = prompts.tokenise(catalog, tokenizer, game.turns, language.prompts, language.text_tokens)
    width = int(lengths[:, BUYER].max())
    padded_codes = np.zeros((len(codes), code_tokens), np.int32)
    for row, code in zip(padded_codes, codes, strict=True):
        row[: len(code)] = code
    left = [f"{game.turns - turn:0{len(str(game.turns))}d}" for turn in range(game.turns)]
    headers = np.array([[BUYER_TURN, *tokenizer.single_bytes(number)] for number in left], np.int32)
    return Environment(
        params=GameParams(products=products(catalog), turns=game.turns, regulation=game.regulation),
        prompts_NxL=jnp.array(all_prompts[:, BUYER, :width]),
        prompt_lengths_N=jnp.array(lengths[:, BUYER]),
        codes_NxC=jnp.array(padded_codes),
        code_lengths_N=jnp.array([len(code) for code in codes], jnp.int32),
        code_hashes_N=jnp.array([automaton.codename_hash(code.encode()) for code in catalog.codenames], jnp.uint32),
        headers_KxH=jnp.array(headers),
        grammar=grammar.build(tokenizer.token_bytes) if token_grammar is None else token_grammar,
        form=form,
        buyer_book=book[BUYER],
        seller_book=book[SELLER],
        seller=seller,
        layout=Layout(
            prompt=width,
            header=headers.shape[1],
            message=language.message_tokens,
            reply=book[SELLER].width,
            turns=game.turns,
        ),
    )


def _highest_price(catalog: Catalog, seller: sellers.Seller) -> int:
    """The most that a scripted side ever says, in cents: the list price, or a floor above it."""
    margin = max(np.max(seller.margin), MARGIN_BP[1] / 10_000)
    return int(max(catalog.price.max(), np.ceil(catalog.cost.max() * (1 + margin)) + 1))


def seller_talk(spec: str) -> render.Talk:
    """A persona speaks in its own manner; every other seller in the neutral one."""
    return render.SELLER_TALK.get(spec.split("(")[0].strip(), render.SELLER_TALK["neutral"])

"""Everything an episode needs besides the players' weights, built once and kept on the device."""

from collections.abc import Sequence

from flax import struct
import jax
import jax.numpy as jnp

from negot_jax.catalog.types import Catalog, products
from negot_jax.game import money, sellers
from negot_jax.game.regulation import MARGIN_BP
from negot_jax.game.types import BUYER, SELLER, GameParams
from negot_jax.language import automaton, constrain, grammar, prompts, relay, render
from negot_jax.language import tokenizer as tokens
from negot_jax.language.dialect import Dialect
from negot_jax.rl.configs import Decoding, GameConfig, LanguageConfig, SellerConfig
from negot_jax.rl.layout import Layout

_SCRIPTED = SellerConfig()


@struct.dataclass
class Side:
    """What the model in one seat reads and how it may write. N products, K turns.

    prompts_NxL: int32, padded on the right; prompt_lengths_N: int32. own_KxH, other_KxJ: int32, by turn, the headers of
    its own message and of the message that it hears before; negative for padding. form: None for free decoding.
    """

    prompts_NxL: jax.Array
    prompt_lengths_N: jax.Array
    own_KxH: jax.Array
    other_KxJ: jax.Array
    form: constrain.Constraint | None
    layout: Layout = struct.field(pytree_node=False)


@struct.dataclass
class Tables:
    """The game, its products, and the tables between tokens and actions. N products.

    codes_NxC: int32, the codenames' tokens, padded; code_lengths_N: int32; code_hashes_N: uint32. seller: None if the
    seller is scripted. buyer_book, seller_book: phrases of a scripted player, and of what replaces a withdrawn message.
    script: the scripted seller. end: the token that ends a message.
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
        """What the model of a role reads.

        Raises:
          ValueError: the seller's, where the tables were built for a scripted seller.
        """
        side = self.buyer if role == BUYER else self.seller
        if side is None:
            raise ValueError("seller.model='scripted': a scripted seller has no prompts. Build tables with 'own'.")
        return side


def build_tables(
    catalog: Catalog,
    dialect: Dialect,
    game: GameConfig,
    language: LanguageConfig,
    seller: SellerConfig = _SCRIPTED,
    token_grammar: grammar.Grammar | None = None,
) -> Tables:
    """The tables of a catalog.

    Args:
      token_grammar: the grammar tables of this tokenizer, if they are built already.
    Raises:
      ValueError: a message_tokens is too small for a whole message.
    """
    tokenizer = dialect.tokenizer
    codes = [tokenizer.encode(codename) for codename in catalog.codenames]
    code_tokens = max(map(len, codes))
    script = sellers.make(game.seller)
    digits = len(str(_highest_price(catalog, script) // 100))
    talk = {BUYER: render.BUYER_TALK, SELLER: script.persona.talk}
    arguments = {BUYER: render.BUYER_ARGUMENTS if script.hears else {}, SELLER: script.persona.hints}
    book = {
        role: render.phrasebook(talk[role], role, tokenizer, code_tokens, digits, dialect.end, arguments[role])
        for role in talk
    }
    copied = relay.build(tokenizer, dialect.end)

    def side(role: int, name: str, message: int, decoding: Decoding, stand_in: int, reply: int) -> Side:
        form, shortest = None, book[role].width
        if decoding == "constrained":
            forced = language.force_deal_price
            form = constrain.constraint(tokenizer, role, code_tokens, digits, forced, dialect.end)
            shortest = max(shortest, constrain.shortest_cap(form))
        if message < shortest:
            raise ValueError(
                f"{name}.message_tokens={message} is too small: a whole message with this catalog's codenames and "
                f"prices takes up to {shortest} tokens. Set {name}.message_tokens >= {shortest}."
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
                other=other.shape[1],
                reply=reply,
                stand_in=stand_in,
                turns=game.turns,
            ),
        )

    buyer_hears = book[SELLER].width
    seller_side = None
    if seller.model != "scripted":
        buyer_hears = max(buyer_hears, copied.width(seller.message_tokens))
        seller_hears = copied.width(language.message_tokens)
        seller_side = side(SELLER, "seller", seller.message_tokens, seller.decoding, book[SELLER].width, seller_hears)
    return Tables(
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
    """Headers by turn: int32[K, H] and int32[K, J]."""
    own = [dialect.own_header(role, turns - turn) for turn in range(turns)]
    other = [dialect.other_header(role, turns - turn, first=turn == 0) for turn in range(turns)]
    return _align(own), _align(other)


def _align(rows: Sequence[Sequence[int]]) -> jax.Array:
    """Pads int32 rows on the left with -1 to equal length."""
    width = max(map(len, rows))
    return jnp.array([[-1] * (width - len(row)) + list(row) for row in rows], jnp.int32)


def _highest_price(catalog: Catalog, seller: sellers.Seller) -> int:
    """The highest price that the seller, or the move that replaces its own, ever says, in cents."""
    replacement = money.highest_floor(catalog.price, catalog.cost, MARGIN_BP[1] / money.BP)
    return max(seller.highest_price(catalog.price, catalog.cost), replacement)

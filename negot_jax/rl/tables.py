"""Everything an episode needs besides the players' weights, built once and kept on the device."""

from collections.abc import Iterable, Sequence

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
    seller is scripted. books: by role, phrases of a scripted player, and of what replaces a withdrawn message.
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
    books: tuple[render.Phrasebook, render.Phrasebook]
    script: sellers.Seller = struct.field(pytree_node=False)
    end: int = struct.field(pytree_node=False)

    def side(self, role: int) -> Side:
        """What the model of a role reads. ValueError: the seller's, where the tables were built for a scripted one."""
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
    """The tables of a catalog; `token_grammar` is built unless given. ValueError: a message_tokens is too small."""
    tokenizer = dialect.tokenizer
    codes = [tokenizer.encode(codename) for codename in catalog.codenames]
    code_tokens = max(map(len, codes))
    script = sellers.make(game.seller)
    # The highest price that the seller, or the move that replaces its own, ever says.
    replacement = money.highest_floor(catalog.price, catalog.cost, MARGIN_BP[1] / money.BP)
    digits = len(str(max(script.highest_price(catalog.price, catalog.cost), replacement) // 100))
    heard = render.BUYER_ARGUMENTS if script.hears else {}
    said = ((render.BUYER_TALK, heard), (script.persona.talk, script.persona.hints))
    book = [
        render.phrasebook(talk, role, tokenizer, code_tokens, digits, dialect.end, arguments)
        for role, (talk, arguments) in enumerate(said)
    ]
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
        own = _align(dialect.own_header(role, game.turns - turn) for turn in range(game.turns))
        other = _align(dialect.other_header(role, game.turns - k, first=k == 0) for k in range(game.turns))
        widths = dict(prompt=rows.shape[1], own=own.shape[1], other=other.shape[1], closing=int(dialect.closes))
        layout = Layout(role, message=message, reply=reply, stand_in=stand_in, turns=game.turns, **widths)
        return Side(jnp.array(rows), jnp.array(lengths), own, other, form, layout)

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
        books=tuple(book[role] for role in (BUYER, SELLER)),
        script=script,
        end=dialect.end,
    )


def _align(headers: Iterable[Sequence[int]]) -> jax.Array:
    """Headers by turn, int32, padded on the left with -1 to equal length."""
    width = max(map(len, rows := list(headers)))
    return jnp.array([[-1] * (width - len(row)) + list(row) for row in rows], jnp.int32)

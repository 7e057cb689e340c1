"""The prompt of each side: 'full' spells out the rules, 'compact' is for small models that learn them. Our wording."""

import numpy as np

from negot_jax.catalog.types import Catalog
from negot_jax.game.money import dollars
from negot_jax.game.personas import NEUTRAL, Persona
from negot_jax.game.types import BUYER, SELLER
from negot_jax.language import tokenizer as tokens
from negot_jax.language.dialect import Dialect

_FORM = """\
Write every message in this form, each part on its own line:
Thought: your private reasoning; the other side never sees it
Talk: what you say to the other side
Action: exactly one of these
[{tag}] $M (1x {codename}) to offer the price M
[DEAL] $M (1x {codename}) to accept the other side's standing offer of M
[REJECT] to turn that offer down
[QUIT] to leave without a deal
A message in any other form counts as a failure.

Product: {codename}
List price: {price}
"""
_FULL = {
    BUYER: "You are the buyer in a negotiation over the price of one product. You speak first, then you and the seller "
    "take turns; after {turns} messages of each side it is over. The number before each of your messages says how many "
    "you have left.\n"
    "Your budget is {private}, and the seller does not know it. Aim to spend as little as you can: staying within the "
    "budget is not enough, every dollar saved below it counts. An offer or a deal above the budget is a failure, worse "
    "than no deal at all.\n" + _FORM,
    SELLER: "You are the seller in a negotiation over the price of one product. The buyer speaks first, then you take "
    "turns; after {turns} messages of each side it is over. The number before each of your messages says how many you "
    "have left.\n"
    "The product costs you {private}, and the buyer does not know it. Aim to sell for as much as you can, and never "
    "below your cost: no deal is better than a loss.{persona}\n" + _FORM,
}
_COMPACT = {
    BUYER: "Buy {codename} cheaply.\nList {price}, budget {private}, {turns} turns.\n",
    SELLER: "Sell {codename} dearly.\nList {price}, cost {private}, {turns} turns.{persona}\n",
}
_STYLES = {"full": _FULL, "compact": _COMPACT}
_TAGS = {BUYER: "BUY", SELLER: "SELL"}


def rules(catalog: Catalog, product: int, role: int, turns: int, style: str, persona: Persona = NEUTRAL) -> str:
    """The first part of one side's prompt, with its own private number, never the other's. persona: the seller's."""
    manner = persona.manner if style == "full" else persona.name if persona.manner else ""
    private = catalog.budget if role == BUYER else catalog.cost
    return _STYLES[style][role].format(
        codename=catalog.codenames[product],
        price=dollars(catalog.price[product]),
        private=dollars(private[product]),
        turns=turns,
        tag=_TAGS[role],
        persona=manner and f" {manner}",
    )


def about(catalog: Catalog, product: int) -> str:
    """The public text about a product."""
    parts = (catalog.titles[product], catalog.descriptions[product], catalog.features[product])
    return "\n".join(part for part in parts if part)


def tokenize(
    catalog: Catalog,
    dialect: Dialect,
    role: int,
    turns: int,
    style: str,
    text_tokens: int,
    persona: Persona = NEUTRAL,
) -> tuple[np.ndarray, np.ndarray]:
    """One side's prompt for every product: tokens int32[products, L], right-padded, and lengths int32[products].

    text_tokens: the most tokens kept of a product's text; the rules are never truncated. L is the longest.
    """
    rows = [
        dialect.prompt(
            role, rules(catalog, product, role, turns, style, persona), about(catalog, product), text_tokens, turns
        )
        for product in range(len(catalog))
    ]
    return tokens.pad(rows), np.array([len(row) for row in rows], np.int32)

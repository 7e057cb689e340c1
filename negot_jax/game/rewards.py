"""Verifiable rewards, functions of one side's `Outcome`, and the metrics of finished episodes, by code alone."""

from collections.abc import Callable

from jax import Array
import jax.numpy as jnp

from negot_jax.config import require_known
from negot_jax.game.history import offers_made
from negot_jax.game.types import BUYER, NONE, SELLER, Argument, End, GameParams, GameState, Outcome

FORMAT_ERRORS = (End.MISSING, End.UNREADABLE, End.CUT, End.DEAL_WITHOUT_OFFER, End.DEAL_MISMATCH)

# A reward maps an outcome to float32, elementwise: it must broadcast. It may read every field but `reward`.
Reward = Callable[[Outcome], Array]


def paper(outcome: Outcome) -> Array:
    """This side's share of the surplus, clipped to [-1, 1]; -1 on its own failure (arXiv 2604.09855)."""
    return jnp.where(outcome.failed, -1.0, jnp.clip(outcome.ratio, -1.0, 1.0))


def surplus_share(outcome: Outcome) -> Array:
    """`paper` without the clip."""
    return jnp.where(outcome.failed, -1.0, outcome.ratio)


def nash_product(outcome: Outcome) -> Array:
    """The product of both shares (Nash 1950), 0 where either side loses; -1 on this side's own failure."""
    product = jnp.maximum(outcome.ratio, 0.0) * jnp.maximum(outcome.other_ratio, 0.0)
    return jnp.where(outcome.failed, -1.0, product)


def deal_only(outcome: Outcome) -> Array:
    """1 for a deal at any price; -1 on this side's own failure."""
    return jnp.where(outcome.failed, -1.0, jnp.where(outcome.end == End.DEAL, 1.0, 0.0))


REWARDS = {"paper": paper, "surplus_share": surplus_share, "nash_product": nash_product, "deal_only": deal_only}


def is_penalized(end: Array) -> Array:
    """bool: the ends that are the buyer's own failure, overshoot and format errors."""
    return jnp.isin(end, jnp.array([End.OVERSHOOT, *FORMAT_ERRORS]))


def rewards(state: GameState, params: GameParams) -> Array:
    """float32[2]: the rewards of the buyer and the seller for the state's end; 0 while the game goes on."""
    both = jnp.stack([outcome(state, params, role).reward for role in (BUYER, SELLER)])
    return jnp.where(state.end == End.ONGOING, 0.0, both)


def outcome(state: GameState, params: GameParams, role: int = BUYER) -> Outcome:
    """The result of the episode so far, as `role` (static) sees it. ValueError: `params.reward` is unknown."""
    scenario = state.scenario
    first_offer = offers_made(state, BUYER)[0]
    deal, scale = state.end == End.DEAL, scenario.scale.astype(jnp.float32)
    bought = jnp.where(deal, scenario.budget - state.deal_price, 0) / scale
    sold = jnp.where(deal, state.deal_price - scenario.cost, 0) / scale
    result = Outcome(
        end=state.end,
        reward=jnp.float32(0),
        deal_price=state.deal_price,
        first_offer=first_offer,
        turns=jnp.sum(state.kinds[:, BUYER] != NONE, dtype=jnp.int32),
        mutual=scenario.budget > scenario.cost,
        gains=jnp.maximum(scenario.budget - scenario.cost, 0) / scenario.price.astype(jnp.float32),
        interventions=state.interventions,
        ratio=bought if role == BUYER else sold,
        other_ratio=sold if role == BUYER else bought,
        # A seller cannot fail: regulation sees to its mistakes.
        failed=is_penalized(state.end) & (role == BUYER),
        first_ratio=jnp.where(first_offer == NONE, 0, first_offer) / scenario.budget.astype(jnp.float32),
        high_asks=_high_asks(state),
        acts=state.acts[:, BUYER],
    )
    return result.replace(reward=REWARDS[require_known("game.reward", params.reward, REWARDS)](result))


def _high_asks(state: GameState) -> Array:
    """int32: the seller's offers above the list price or above its own last one, as far as they were played."""
    high, cap = jnp.int32(0), state.scenario.price
    for turn, ask in enumerate(offers_made(state, SELLER)):
        # An illegal move that ended the game was said in the last turn, but not played.
        played = (ask != NONE) & ~((state.end == End.SELLER_ILLEGAL) & (turn == state.turn))
        high += played & (ask > jnp.minimum(cap, state.scenario.price))
        cap = jnp.where(played, ask, cap)
    return high


def metrics(outcomes: Outcome) -> dict[str, tuple[Array, Array]]:
    """Metrics of a batch of the buyer's outcomes (leading axis): (sum, weight) float32 pairs that add up over batches.

    A name ending in /mi or /ci covers only products of mutual or conflicting interest; its weight, like those of the
    means over deals, may be 0. `efficiency` is the share of all gains from trade that deals realize. `penalty` is the
    rate of the buyer's own failures. With the paper's reward and an enforced floor,
    reward = deal_rate * bargained_ratio - penalty.
    """
    every = jnp.ones_like(outcomes.mutual)
    deal = outcomes.end == End.DEAL
    opened = outcomes.first_offer != NONE
    argued = {kind: jnp.sum(outcomes.acts >> kind & 1, axis=-1) for kind in Argument}

    def mean(value: Array, among: Array = every) -> tuple[Array, Array]:
        return jnp.sum(jnp.where(among, value, 0), dtype=jnp.float32), jnp.sum(among, dtype=jnp.float32)

    def split(name: str, event: Array) -> dict[str, tuple[Array, Array]]:
        mutual = outcomes.mutual
        return {name: mean(event), f"{name}/mi": mean(event, mutual), f"{name}/ci": mean(event, ~mutual)}

    return {
        "reward": mean(outcomes.reward),
        **split("deal_rate", deal),
        "efficiency": (jnp.sum(jnp.where(deal, outcomes.gains, 0)), jnp.sum(outcomes.gains, dtype=jnp.float32)),
        "bargained_ratio": mean(outcomes.ratio, deal),
        "first_offer_ratio": mean(outcomes.first_ratio, opened),
        "no_first_offer": mean(~opened),
        **split("overshoot", outcomes.end == End.OVERSHOOT),
        **split("buyer_quit", outcomes.end == End.BUYER_QUIT),
        **split("seller_quit", outcomes.end == End.SELLER_QUIT),
        "turn_limit": mean(outcomes.end == End.TURN_LIMIT),
        "seller_illegal": mean(outcomes.end == End.SELLER_ILLEGAL),
        "format_error": mean(jnp.isin(outcomes.end, jnp.array(FORMAT_ERRORS))),
        **{f"format_error/{end.name.lower()}": mean(outcomes.end == end) for end in FORMAT_ERRORS},
        "penalty": mean(is_penalized(outcomes.end)),
        "turns_to_deal": mean(outcomes.turns, deal),
        "interventions": mean(outcomes.interventions),
        "high_asks": mean(outcomes.high_asks),
        "arguments": mean(sum(argued.values())),
        **{f"arguments/{kind.name.lower()}": mean(count) for kind, count in argued.items()},
    }

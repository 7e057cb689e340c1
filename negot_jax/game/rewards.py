"""The verifiable reward (arXiv 2604.09855) and the metrics of finished episodes, by code alone."""

from jax import Array
import jax.numpy as jnp

from negot_jax.game.history import last_offer, offers_made
from negot_jax.game.types import BUYER, NONE, SELLER, End, GameState, Outcome, Scenario

FORMAT_ERRORS = (End.MISSING, End.UNREADABLE, End.CUT, End.DEAL_WITHOUT_OFFER, End.DEAL_MISMATCH)


def is_penalised(end: Array) -> Array:
    """bool: the ends that are the buyer's own failure, overshoot and format errors."""
    return jnp.isin(end, jnp.array([End.OVERSHOOT, *FORMAT_ERRORS]))


def surplus_ratio(end: Array, deal_price: Array, scenario: Scenario) -> Array:
    """float32: (B - P) / scale on a deal, else 0. Not clipped."""
    return jnp.where(end == End.DEAL, scenario.budget - deal_price, 0) / scenario.scale.astype(jnp.float32)


def buyer_reward(end: Array, deal_price: Array, scenario: Scenario) -> Array:
    """float32: clip((B - P) / scale, -1, 1) on a deal, -1 on overshoot or the buyer's format error, else 0."""
    return jnp.where(is_penalised(end), -1.0, jnp.clip(surplus_ratio(end, deal_price, scenario), -1.0, 1.0))


def seller_reward(end: Array, deal_price: Array, scenario: Scenario) -> Array:
    """float32: the seller's share, clip((P - C) / scale, -1, 1) on a deal, else 0."""
    profit = jnp.where(end == End.DEAL, deal_price - scenario.cost, 0)
    return jnp.clip(profit / scenario.scale.astype(jnp.float32), -1.0, 1.0)


def rewards(state: GameState) -> Array:
    """float32[2]: what the state's end pays the buyer and the seller; 0 while the game goes on."""
    ended = (state.end, state.deal_price, state.scenario)
    return jnp.stack([buyer_reward(*ended), seller_reward(*ended)])


def outcome(state: GameState) -> Outcome:
    """What the episode came to (or has come to so far)."""
    scenario = state.scenario
    first_offer = offers_made(state, BUYER)[0]
    return Outcome(
        end=state.end,
        reward=buyer_reward(state.end, state.deal_price, scenario),
        deal_price=state.deal_price,
        first_offer=first_offer,
        turns=jnp.sum(state.kinds[:, BUYER] != NONE, dtype=jnp.int32),
        mutual=scenario.budget > scenario.cost,
        interventions=state.interventions,
        ratio=surplus_ratio(state.end, state.deal_price, scenario),
        first_ratio=jnp.where(first_offer == NONE, 0, first_offer) / scenario.budget.astype(jnp.float32),
        high_asks=_high_asks(state),
    )


def _high_asks(state: GameState) -> Array:
    """int32: the seller's offers above the list price or above its own last one."""
    asks_T = offers_made(state, SELLER)
    lasts_T = jnp.stack([last_offer(asks_T, turn) for turn in range(asks_T.shape[0])])
    caps_T = jnp.where(lasts_T == NONE, state.scenario.price, jnp.minimum(lasts_T, state.scenario.price))
    return jnp.sum(asks_T > caps_T, dtype=jnp.int32)


def metrics(outcomes: Outcome) -> dict[str, tuple[Array, Array]]:
    """The episode metrics of a batch (leading axis), as (sum, weight) float32 pairs that add up over batches.

    A name ending in /mi or /ci counts among products of mutual or conflicting interest only; its weight, like those
    of the means over deals, may be 0. `penalty` is the mass of reward -1: where the floor is enforced,
    reward = deal_rate * bargained_ratio - penalty.
    """
    every = jnp.ones_like(outcomes.mutual)
    deal = outcomes.end == End.DEAL
    opened = outcomes.first_offer != NONE

    def mean(value: Array, among: Array = every) -> tuple[Array, Array]:
        return jnp.sum(jnp.where(among, value, 0), dtype=jnp.float32), jnp.sum(among, dtype=jnp.float32)

    def split(name: str, event: Array) -> dict[str, tuple[Array, Array]]:
        mutual = outcomes.mutual
        return {name: mean(event), f"{name}/mi": mean(event, mutual), f"{name}/ci": mean(event, ~mutual)}

    return {
        "reward": mean(outcomes.reward),
        **split("deal_rate", deal),
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
        "penalty": mean(is_penalised(outcomes.end)),
        "turns_to_deal": mean(outcomes.turns, deal),
        "interventions": mean(outcomes.interventions),
        "high_asks": mean(outcomes.high_asks),
    }

"""Whole episodes of one scripted policy against another."""

import functools

import jax
from jax import Array

from negot_jax.game import rewards, sellers
from negot_jax.game.bargaining import observe, reset_to, step
from negot_jax.game.buyers import Buyer
from negot_jax.game.types import BUYER, GameParams, GameState, Outcome, Scenario


def episode(key: Array, buyer: Buyer, seller: sellers.Seller, scenario: Scenario, params: GameParams) -> GameState:
    """Plays one scenario to its end and returns the final state. `key` is the buyer's; the seller has its own."""

    def turn(state: GameState, key: Array) -> tuple[GameState, None]:
        key_act, key_buyer, key_seller = jax.random.split(key, 3)
        action = buyer.act(key_act, observe(state, BUYER), params.turns)
        _, state, *_ = step(key_buyer, state, action, params)
        _, state, *_ = step(key_seller, state, sellers.respond(seller, state, params), params)
        return state, None

    _, state = reset_to(scenario, params)
    return jax.lax.scan(turn, state, jax.random.split(key, params.turns))[0]


@functools.partial(jax.jit, static_argnames=("buyer", "seller"))
def play(
    key: Array, buyer: Buyer, seller: sellers.Seller, scenarios: Scenario, params: GameParams
) -> tuple[GameState, Outcome]:
    """Plays a batch of scenarios (leading axis) and returns final states and the buyer's outcomes, batched likewise.

    The seller's randomness is in `scenarios`, so two buyers that play the same scenarios meet the same sellers.
    """
    keys = jax.random.split(key, scenarios.product.shape[0])
    states = jax.vmap(lambda key, scenario: episode(key, buyer, seller, scenario, params))(keys, scenarios)
    return states, jax.vmap(rewards.outcome, (0, None))(states, params)

"""Products and scenarios to play with, one message at a time.

Stepping from Python shares one compiled `step` between all tests, where every `play` compiles a program of its own.
"""

import functools

import jax
import jax.numpy as jnp

from negot_jax.game import bargaining, sellers
from negot_jax.game.types import NONE, Action, GameParams, GameState, Kind, Products, Scenario


def make_products(price, budget, cost) -> Products:
    columns = (jnp.asarray(column, jnp.int32) for column in (price, budget, cost, jnp.maximum(abs(budget - cost), 100)))
    return Products(*columns)


@jax.jit
def each_product(products: Products, key: jax.Array) -> Scenario:
    """One scenario of every product."""
    rows = jnp.arange(products.price.shape[0])
    return jax.vmap(bargaining.scenario, (None, 0, 0))(products, rows, jax.random.split(key, rows.shape[0]))


reset = jax.jit(jax.vmap(bargaining.reset_to, (0, None)))


@functools.cache
def jitted_step(batch: bool = True):
    return jax.jit(jax.vmap(bargaining.step, (None, 0, 0, None)) if batch else bargaining.step)


@functools.partial(jax.jit, static_argnames="seller")
def respond(seller, states: GameState, params: GameParams) -> Action:
    return jax.vmap(lambda state: sellers.respond(seller, state, params))(states)


def actions(kinds, prices=NONE) -> Action:
    """A batch of actions from arrays of kinds and of prices, or one price for all."""
    kinds = jnp.asarray(kinds, jnp.int32)
    prices = jnp.broadcast_to(jnp.asarray(prices, jnp.int32), kinds.shape)
    return Action(kind=kinds, price=prices, acts=jnp.zeros_like(kinds))


def rejects(states: GameState) -> Action:
    """A batch of buyers that only listen."""
    return actions(jnp.full_like(states.turn, Kind.REJECT))


def stepwise(buyer, seller, scenarios: Scenario, params: GameParams) -> GameState:
    """The final states of a batch; `buyer` maps states to actions."""
    _, states = reset(scenarios, params)
    for _ in range(params.turns):
        _, states, *_ = jitted_step()(jax.random.key(0), states, buyer(states), params)
        _, states, *_ = jitted_step()(jax.random.key(0), states, respond(seller, states, params), params)
    return states

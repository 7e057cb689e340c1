"""Whole episodes of one scripted policy against another."""

from collections.abc import Callable
import dataclasses
import functools

import jax
from jax import Array
import jax.numpy as jnp

from negot_jax.game import rewards, sellers
from negot_jax.game.bargaining import observe, reset_to, step
from negot_jax.game.buyers import Buyer
from negot_jax.game.types import BUYER, SELLER, Action, End, GameParams, GameState, Observation, Outcome, Scenario

# Where a state has its batch axis between messages. Turn and player have none: all games that go on share them. The
# batch comes last in the history, and the two offers are arrays of their own. So a CPU vectorizes over the batch, and a
# message is written in place.
_CARRIED = GameState(0, None, None, offers=0, kinds=2, prices=2, acts=2, end=0, deal_price=0, interventions=0)


def episodes(keys_B: Array, buyer: Buyer, seller: sellers.Seller, scenarios: Scenario, params: GameParams) -> GameState:
    """The final states of a batch of scenarios (leading axis); `keys_B` are the buyers', the sellers have their own."""

    offer = lambda key, state: buyer.act(jax.random.split(key, 3)[0], observe(state, BUYER), params.turns)
    answer = lambda key, state: sellers.respond(seller, state, params)

    def turn(states: GameState, now: tuple[Array, Array]) -> tuple[GameState, None]:
        for player, act in ((BUYER, offer), (SELLER, answer)):
            states = _message(states, *now, player, act, params)
        return states, None

    final = _CARRIED.replace(turn=0, player=0)
    states = jax.vmap(lambda scenario: _unstacked(reset_to(scenario, params)[1]), out_axes=final)(scenarios)
    keys_TxB = jax.vmap(lambda key: jax.random.split(key, params.turns), out_axes=1)(keys_B)
    states, _ = jax.lax.scan(turn, states, (jnp.arange(params.turns), keys_TxB))
    return jax.vmap(_stacked, (final,))(states)


@functools.partial(jax.jit, static_argnames=("buyers", "seller"))
def play_each(
    key: Array, buyers: tuple[Buyer, ...], seller: sellers.Seller, scenarios: Scenario, params: GameParams
) -> tuple[GameState, Outcome]:
    """Plays the same scenarios (leading axis) with each buyer: final states and outcomes, [buyers, scenarios].

    The seller's randomness is in `scenarios`, so the buyers meet the same sellers. One program plays them all: the
    rules are compiled once.
    """
    keys_B = jax.random.split(key, scenarios.product.shape[0])

    def with_buyer(which: Array) -> tuple[GameState, Outcome]:
        states = episodes(keys_B, _OneOf(buyers, which), seller, scenarios, params)
        return states, jax.vmap(rewards.outcome, (0, None))(states, params)

    return jax.lax.map(with_buyer, jnp.arange(len(buyers)))


def play(
    key: Array, buyer: Buyer, seller: sellers.Seller, scenarios: Scenario, params: GameParams
) -> tuple[GameState, Outcome]:
    """`play_each` of one buyer: final states and outcomes, [scenarios]."""
    return jax.tree.map(lambda x: x[0], play_each(key, (buyer,), seller, scenarios, params))


@dataclasses.dataclass(frozen=True, eq=False)
class _OneOf:
    """One of several buyers. which: its number, int32, an array."""

    buyers: tuple[Buyer, ...]
    which: Array

    def act(self, key: Array, obs: Observation, turns: int) -> Action:
        moves = [lambda key, obs, buyer=buyer: buyer.act(key, obs, turns) for buyer in self.buyers]
        return jax.lax.switch(self.which, moves, key, obs)


def _message(
    states: GameState, turn: Array, keys_B: Array, player: int, act: Callable[..., Action], params: GameParams
) -> GameState:
    """The states, as carried, after one message of `player` in every game that goes on."""

    def speak(key: Array, state: GameState) -> tuple[GameState, Action]:
        state = _stacked(state)
        _, after, _, _, info = step(key, state, act(key, state), params)
        return _unstacked(after), info["action"]

    now = states.replace(turn=turn, player=jnp.int32(player))
    after, said = jax.vmap(speak, (0, _CARRIED))(keys_B, now)
    over = states.end != End.ONGOING
    return after.replace(
        turn=jnp.where(over, states.turn, after.turn),
        player=jnp.where(over, states.player, after.player),
        kinds=states.kinds.at[turn, player].set(said.kind),
        prices=states.prices.at[turn, player].set(said.price),
        acts=states.acts.at[turn, player].set(jnp.where(over, 0, said.acts)),
    )


def _stacked(state: GameState) -> GameState:
    return state.replace(offers=jnp.stack(state.offers))


def _unstacked(state: GameState) -> GameState:
    return state.replace(offers=tuple(state.offers))

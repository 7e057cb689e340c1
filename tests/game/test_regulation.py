"""Regulation: floor and format hold whatever the seller says, and it never costs the buyer."""

import functools

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import pytest

from negot_jax.game import bargaining, rewards
from negot_jax.game.history import last_offer, offers_made
from negot_jax.game.regulation import read, regulate
from negot_jax.game.types import BUYER, NONE, SELLER, Action, End, GameParams, Kind
from tests.game.scenarios import make_products

TURNS = 4
cents = st.integers(0, 300)
messages = st.lists(
    st.tuples(st.sampled_from([0, 0, 0, 1, 2, 2, 3, 4, 5, 6]), cents), min_size=2 * TURNS, max_size=2 * TURNS
)


@functools.cache
def runner(mode: str):
    """Plays the messages, keeping the buyer to offers and deals within its budget: every (before, action, after)."""

    @jax.jit
    def run(price, budget, cost, kinds_M, prices_M):
        params = GameParams(make_products(price[None], budget[None], cost[None]), turns=TURNS, regulation=mode)

        def message(state, said):
            kind, price = said
            buyers_turn = state.player == BUYER
            ask = state.offers[SELLER]
            deals = (kind == Kind.DEAL) & (ask != NONE) & (ask <= budget)
            own = Action(
                kind=jnp.where(deals, Kind.DEAL, Kind.OFFER),
                price=jnp.where(deals, ask, jnp.minimum(price, budget)),
                acts=jnp.int32(0),
            )
            sellers = Action(kind=kind, price=price, acts=jnp.int32(7))
            action = jax.tree.map(lambda b, s: jnp.where(buyers_turn, b, s), own, sellers)
            played, intervened = regulate(read(action), state, params)
            twice = regulate(played, state, params)
            _, after, reward, _, info = bargaining.step(jax.random.key(0), state, action, params)
            return after, (state, played, intervened, twice, after, reward, info)

        _, state = bargaining.reset_to(bargaining.scenario(params.products, 0, jax.random.key(price)), params)
        return jax.lax.scan(message, state, (kinds_M, prices_M))

    return run


def play(mode, price, budget, cost, said):
    kinds, prices = jnp.array(said, jnp.int32).T
    final, transitions = runner(mode)(*(jnp.int32(x) for x in (price, budget, cost)), kinds, prices)
    steps = [jax.tree.map(lambda x: x[i], jax.device_get(_plain(transitions))) for i in range(2 * TURNS)]  # noqa: B023
    return final, steps


def _plain(transitions):
    before, *middle, after, reward, info = transitions
    return (before.replace(scenario=None), *middle, after.replace(scenario=None), reward, info)


@pytest.mark.parametrize("mode", ["repair", "end", "none"])
@settings(max_examples=50)
@given(price=st.integers(1, 300), budget=cents, cost=cents, said=messages)
def test_the_seller_keeps_its_floor_and_never_costs_the_buyer(mode, price, budget, cost, said):
    """A buyer that keeps to the rules and its budget loses nothing by what a seller says."""
    final, steps = play(mode, price, budget, cost, said)
    assert final.end != End.DEAL or final.deal_price <= budget
    assert final.end not in rewards.FORMAT_ERRORS and final.end != End.OVERSHOOT
    assert final.end != End.DEAL or mode == "none" or final.deal_price >= cost
    assert final.end != End.SELLER_ILLEGAL or mode == "end"
    for before, *_, after, _, _ in steps:
        if before.player == SELLER and after.kinds[before.turn, SELLER] != Kind.REJECT:
            assert after.offers[BUYER] == before.offers[BUYER]  # The buyer's offer stays standing.


@settings(max_examples=50)
@given(price=st.integers(1, 300), budget=cents, cost=cents, said=messages)
def test_replacement(price, budget, cost, said):
    """Above cost, never above the last ask (one cent above a last ask at cost), and legal: idempotent."""
    _, steps = play("repair", price, budget, cost, said)
    for before, played, intervened, (again, intervened_again), *_, info in steps:
        assert not intervened_again and again == played
        assert info["intervened"] == (intervened and before.end == End.ONGOING)
        if info["intervened"]:
            assert before.player == SELLER and played.kind == Kind.OFFER and played.acts == 0
            assert played.price > cost
            last = last_offer(offers_made(before, SELLER), TURNS)
            assert last == NONE or played.price <= max(last, cost + 1)


def test_replacement_is_linear_to_a_hidden_margin():
    """A silent seller: from P0, in equal steps, to a margin of 2 to 25 % that differs between scenarios."""
    params = GameParams(make_products(*(jnp.array([x]) for x in (100_000, 80_000, 40_000))))
    silent = Action(kind=jnp.int32(Kind.MISSING), price=jnp.int32(NONE), acts=jnp.int32(0))
    offer = Action(kind=jnp.int32(Kind.OFFER), price=jnp.int32(1), acts=jnp.int32(0))

    @jax.jit
    @jax.vmap
    def asks(key):
        def turn(state, _):
            for action in (offer, silent):
                _, state, *_ = bargaining.step(key, state, action, params)
            return state, None

        _, state = bargaining.reset_to(bargaining.scenario(params.products, 0, key), params)
        return offers_made(jax.lax.scan(turn, state, length=params.turns)[0], SELLER)

    asks_BxT = asks(jax.random.split(jax.random.key(0), 200))
    assert (asks_BxT[:, 0] == 100_000).all()
    steps = jnp.diff(asks_BxT, axis=1)
    assert (jnp.abs(steps - steps[:, :1]) <= 1).all()
    margins = asks_BxT[:, -1] / 40_000 - 1
    assert margins.min() < 0.04 and margins.max() > 0.23 and 0.02 <= margins.min() and margins.max() <= 0.25001

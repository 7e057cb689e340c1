"""Scripted buyers: schedules to the cent, published rewards, the tuned schedule."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from negot_jax.game import buyers, sellers, specs
from negot_jax.game.bargaining import observe, reset_to, scenario
from negot_jax.game.history import offers_made
from negot_jax.game.money import BP, part, part_up
from negot_jax.game.play import play
from negot_jax.game.types import BUYER, NONE, SELLER, GameParams, Kind
from tests.game.scenarios import each_product, make_products, reset, stepwise


@pytest.fixture(scope="module")
def dear():
    """One product that nobody sells: P0 = C = $125.03, B $100.03."""
    return make_products(*(np.array([x]) for x in (12_503, 10_003, 12_503)))


@pytest.mark.parametrize(
    "spec, offers",
    [
        ("linear", [4_001, 5_201, 6_401, 7_602, 8_802, 10_003]),
        ("linear(start=0.45, end=0.95)", [4_501, 5_501, 6_501, 7_502, 8_502, 9_502]),
        ("linear(tick=100)", [4_000, 5_200, 6_400, 7_600, 8_800, 10_000]),
        ("constant(share=0.7)", [7_002] * 6),
        ("ladder(shares=(0.3, 0.7))", [3_000] + [7_002] * 5),
        ("concession(beta=1, k=0.4)", [4_001, 5_201, 6_401, 7_602, 8_802, 10_003]),
        ("concession(beta=0.5, k=0.5)", [5_001, 5_201, 5_801, 6_802, 8_202, 10_003]),
        ("tit_for_tat(start=0.4, noise=0)", [4_001] * 6),
    ],
)
def test_offers_of_a_schedule(spec, offers, dear):
    buyer, params = buyers.make(spec), GameParams(dear)
    _, state = reset_to(scenario(dear, 0, jax.random.key(0)), params)
    for turn, offer in enumerate(offers):
        said = buyer.act(jax.random.key(1), observe(state.replace(turn=jnp.int32(turn)), BUYER), params.turns)
        assert (said.kind, said.price) == (Kind.OFFER, offer)


def test_takes_an_ask_that_is_no_dearer_than_its_own_offer(dear):
    params = GameParams(dear)
    _, state = reset_to(scenario(dear, 0, jax.random.key(0)), params)
    for ask, kind in ((4_001, Kind.DEAL), (4_002, Kind.OFFER)):
        obs = observe(state.replace(offers=state.offers.at[SELLER].set(ask)), BUYER)
        said = buyers.Linear().act(jax.random.key(0), obs, params.turns)
        assert (said.kind, said.price) == (kind, 4_001)


def test_tit_for_tat_returns_the_sellers_concession(products):
    """Against a seller that comes down in equal steps it goes up by the same; `play` equals stepping."""
    scenarios, params = each_product(products, jax.random.key(0)), GameParams(products)
    buyer, seller = buyers.TitForTat(0.1, 0.0), sellers.make("linear")
    states, _ = play(jax.random.key(1), buyer, seller, scenarios, params)
    act = jax.jit(jax.vmap(lambda state: buyer.act(state.scenario.key, observe(state, BUYER), params.turns)))
    stepped = stepwise(act, seller, scenarios, params)
    for x, y in zip(*(jax.tree.leaves(final.replace(scenario=None)) for final in (states, stepped)), strict=True):
        np.testing.assert_array_equal(x, y)
    offers_BxT = np.asarray(jax.vmap(lambda state: offers_made(state, BUYER))(states))
    asks_BxT = np.asarray(jax.vmap(lambda state: offers_made(state, SELLER))(states))
    seen = (offers_BxT[:, 3] > 0) & (offers_BxT[:, 3] < products.budget)
    assert seen.sum() > 10
    ups, downs = offers_BxT[:, 3] - offers_BxT[:, 2], asks_BxT[:, 1] - asks_BxT[:, 2]
    np.testing.assert_array_equal(ups[seen], downs[seen])


def test_tit_for_tat_pays_for_no_ask_that_was_raised_and_taken_back(dear):
    """Asks of 110, 60, 800, 70 and 50 $ of a list price of $125.03: concessions of 15.03, 50, 0, 0 and 10 $."""
    params = GameParams(dear)
    _, state = reset_to(scenario(dear, 0, jax.random.key(0)), params)
    raised = []
    for turn, ask in enumerate([11_000, 6_000, 80_000, 7_000, 5_000], start=1):
        kinds = state.kinds.at[turn - 1].set(Kind.OFFER)
        prices = state.prices.at[turn - 1].set(jnp.array([100, ask]))
        state = state.replace(turn=jnp.int32(turn), kinds=kinds, prices=prices)
        said = buyers.TitForTat(0.1, 0.0).act(jax.random.key(1), observe(state, BUYER), params.turns)
        raised.append(int(said.price) - 100)
    assert raised == [1_503, 5_000, 0, 0, 1_000]


@pytest.mark.parametrize("name", buyers.BUYERS)
def test_never_above_the_budget_nor_out_of_form(name, products):
    """Whatever was said before: an offer within the budget, or a deal at an ask that stands and is within it."""
    params = GameParams(products)
    _, states = reset(each_product(products, jax.random.key(2)), params)
    rng = np.random.default_rng(0)
    said = (np.arange(6)[:, None] < 4) & (rng.random((64, 6, 2)) < 0.8)
    prices = np.where(said, rng.integers(0, 2 * np.asarray(products.price)[:, None, None], said.shape), NONE)
    states = states.replace(
        turn=jnp.full(64, 4),
        kinds=jnp.where(said, Kind.OFFER, Kind.REJECT),
        prices=jnp.asarray(prices, jnp.int32),
        offers=jnp.asarray(prices[:, 3], jnp.int32),
    )
    act = jax.vmap(lambda key, state: buyers.BUYERS[name].act(key, observe(state, BUYER), params.turns))
    action = jax.jit(act)(jax.random.split(jax.random.key(0), 64), states)
    deal = np.asarray(action.kind) == Kind.DEAL
    assert 0 < deal.sum() < 64 and (action.kind[~deal] == Kind.OFFER).all()
    assert ((action.price >= 0) & (action.price <= products.budget)).all()
    np.testing.assert_array_equal(action.price[deal], prices[deal, 3, SELLER])


def test_make():
    assert buyers.make("linear(start=0.5, end=1.0)", tick=100) == buyers.Linear(0.5, 1.0, 100)
    for spec, message in {
        "liner": "did you mean 'linear'?",
        "linear(start=1.2)": "Linear.start=1.2: must be a share of the budget",
        "constant(tick=0)": "Constant.tick=0: must be from 1 cent",
        "ladder(shares=())": "Ladder.shares=(): must be one or more shares of the budget",
        "ladder(shares=(0.5, 2.0))": "Ladder.shares=(0.5, 2.0): must be one or more shares",
        "linear(start=1/2)": "1 / 2 is not a literal",
        "ladder(shares=0.5)": "ladder.shares=0.5: must have the type of its default, (0.7,)",
    }.items():
        with pytest.raises(ValueError) as error:
            buyers.make(spec)
        assert message in str(error.value)


def test_a_spec_with_one_field_set():
    for spec, expected in {
        "linear": "linear(tick=5)",
        "linear()": "linear(tick=5)",
        "linear(tick = 100, start=0.5)": "linear(start=0.5, tick=5)",
    }.items():
        assert specs.with_field(spec, "tick", 5) == expected and buyers.make(expected).tick == 5


def test_a_policy_may_have_a_field_that_is_true_or_false():
    @dataclasses.dataclass(frozen=True)
    class Halver:
        polite: bool = False
        rounds: int = 2

    assert specs.make({"halver": Halver()}, "halver(polite=True, rounds=3)") == Halver(True, 3)
    for spec in ("halver(polite=1)", "halver(rounds=True)"):
        with pytest.raises(ValueError, match="must have the type of its default"):
            specs.make({"halver": Halver()}, spec)


def test_parts_are_exact_up_to_the_largest_price():
    rng = np.random.default_rng(0)
    amounts = np.concatenate([[0, 1, 9_999, 10_000, 999_999_999], rng.integers(-(10**9), 10**9, 2_000)])
    shares = np.concatenate([[0, 1, BP, BP - 1, 2 * BP], rng.integers(0, 2 * BP, 2_000)])
    got = (f(jnp.asarray(amounts, jnp.int32), jnp.asarray(shares, jnp.int32)) for f in (part, part_up))
    for exact, result in zip((amounts * shares // BP, -(-amounts * shares // BP)), got, strict=True):
        np.testing.assert_array_equal(result, exact)

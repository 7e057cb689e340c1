"""Scripted sellers: published numbers, legality, hidden types shared by a group."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from negot_jax.game import buyers, concession, sellers
from negot_jax.game.bargaining import observe, reset_to, scenario
from negot_jax.game.history import offers_made
from negot_jax.game.rewards import outcome
from negot_jax.game.types import BUYER, NONE, SELLER, End, GameParams, Kind, Stream
from tests.game.scenarios import actions, each_product, jitted_step, rejects, reset, respond, stepwise

DRAWS = 8
STOCHASTIC = ("neutral", "begging", "insulting", "unyielding")


def answer(seller, state, params):
    """The seller's move in one state, in a batch of the size that all tests share."""
    states = jax.tree.map(lambda x: jnp.broadcast_to(x, (64, *x.shape)), state)
    return jax.tree.map(lambda x: x[0], respond(seller, states, params))


def play_all(buyer, seller, many, params):
    """The final states of every batch in `many`, joined."""
    batches = [jax.tree.map(lambda x: x[i], many) for i in range(DRAWS)]  # noqa: B023
    finals = [stepwise(buyer, seller, batch, params).replace(scenario=None) for batch in batches]
    return jax.tree.map(lambda *x: jnp.concatenate(x), *finals).replace(scenario=jax.tree.map(jnp.ravel, many))


def heard(products, turn, offers, seller_asks=(), index=1):
    """A state of product `index` in which the seller is to answer offers[0 .. turn]."""
    params = GameParams(products)
    _, state = reset_to(scenario(products, index, jax.random.key(8)), params)
    kinds, prices = state.kinds, state.prices
    for role, said in ((BUYER, offers), (SELLER, seller_asks)):
        for t, price in enumerate(said):
            kinds = kinds.at[t, role].set(Kind.REJECT if price is None else Kind.OFFER)
            prices = prices.at[t, role].set(NONE if price is None else price)
    standing = [NONE if not said or said[-1] is None else said[-1] for said in (offers, seller_asks)]
    state = state.replace(turn=jnp.int32(turn), player=jnp.int32(SELLER), kinds=kinds, prices=prices)
    return state.replace(offers=jnp.array(standing, jnp.int32)), params


@pytest.mark.parametrize(
    "time, beta, expected", [(0.5, 0.2, 0.1281), (0.5, 1, 0.55), (0.5, 5, 0.8835), (0.2, 5, 0.7523)]
)
def test_alpha_equals_the_published_numbers(time, beta, expected):
    assert concession.alpha(jnp.float32(time), beta, k=0.1) == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize("beta", [0.2, 1.0, 5.0])
def test_time_dependent_asks(beta, products):
    """From the list price to the cost along alpha, to the cent that a basis point is worth."""
    row = [int(getattr(products, name)[1]) for name in ("price", "cost")]
    for turn in range(6):
        state, params = heard(products, turn, [1] * (turn + 1))
        said = answer(sellers.TimeDependent(beta), state, params)
        expected = row[1] + (1 - (turn / 5) ** (1 / beta)) * (row[0] - row[1])
        assert said.kind == Kind.OFFER and abs(int(said.price) - expected) <= 1 + row[0] / 10_000


@pytest.mark.parametrize("name", ["floor", "boulware", "linear", "conceder"])
def test_accepts_from_its_own_ask_on(name, products):
    """An offer at the next ask (the cost, for the myopic seller) is taken, a cent less not."""
    seller = sellers.SELLERS[name]
    ask = int(answer(seller, *heard(products, 3, [1] * 4)).price) if name != "floor" else int(products.cost[1])
    taken = answer(seller, *heard(products, 3, [1, 1, 1, ask]))
    assert (taken.kind, taken.price) == (Kind.DEAL, ask)
    assert answer(seller, *heard(products, 3, [1, 1, 1, ask - 1])).kind == Kind.OFFER


@pytest.mark.parametrize("name", sellers.SELLERS)
def test_a_buyer_that_never_offers_is_asked(name, products):
    said = answer(sellers.SELLERS[name], *heard(products, 2, [None] * 3))
    assert said.kind == Kind.OFFER and said.price > products.cost[1]


@pytest.fixture(scope="module")
def many(products):
    """Scenarios [DRAWS, products]."""
    return jax.vmap(each_product, (None, 0))(products, jax.random.split(jax.random.key(9), DRAWS))


@pytest.fixture(scope="module", params=[1, 100])
def asks(request, products, many):
    """(tick, the six asks int[B, T] of the neutral seller to a buyer that only listens)."""
    seller = sellers.make("neutral", tick=request.param)
    states = play_all(rejects, seller, many, GameParams(products))
    assert (states.end == End.TURN_LIMIT).all() and (states.interventions == 0).all()
    return request.param, np.asarray(jax.vmap(lambda state: offers_made(state, SELLER))(states))


def test_stochastic_asks_fall_stay_above_the_floor_and_on_the_tick(asks, many):
    tick, asks_BxT = asks
    cost, price = (np.ravel(x)[:, None] for x in (many.cost, many.price))
    assert (asks_BxT > cost * 1.0199).all() and (np.diff(asks_BxT) <= 0).all()
    assert (asks_BxT <= np.maximum(price, np.ceil(cost * 1.25) + 1)).all()
    caps = np.concatenate([np.maximum(price, asks_BxT[:, :1]), asks_BxT[:, :-1]], axis=1)
    assert ((asks_BxT % tick == 0) | (asks_BxT == caps)).all()


def test_asks_are_worth_reading_but_noisy(many, asks):
    """Between draws of one product, an ask in the middle tells something of a late one, and not all."""
    shares = asks[1].reshape(DRAWS, 64, 6) / np.asarray(many.price)[..., None]
    middle, late = np.moveaxis(shares - shares.mean(axis=0), 2, 0)[[2, 4]]
    assert 0.2 < np.corrcoef(middle.ravel(), late.ravel())[0, 1] < 0.9


def test_reciprocity_answers_a_raise(products):
    """The same seller, with the same noise, asks less after a raise, by its hidden share of it."""
    seller = sellers.make("neutral")
    price = int(products.price[1])
    (state, params), (raised, _) = (heard(products, 2, [None, price // 2, price // 2 + up]) for up in (0, price // 50))
    hidden = seller.draw_type(jax.random.fold_in(state.scenario.key, Stream.TYPE), state.scenario)
    asks = [int(answer(seller, heard_state, params).price) for heard_state in (state, raised)]
    assert hidden.reciprocity > 0 and asks[0] - asks[1] == price // 50 * int(hidden.reciprocity) // 10_000


def test_insults_drive_it_away(products, many):
    """QUIT about as often as walk * (1 - offer / (insult P0)), and never at an offer that is no insult."""
    params = GameParams(products)
    seller = sellers.make("insulting")
    for share, expected in {0.0: seller.walk, 0.25: seller.walk / 2, 0.5: 0.0}.items():
        kinds = []
        for draw in range(DRAWS):
            _, states = reset(jax.tree.map(lambda x: x[draw], many), params)  # noqa: B023
            opening = actions(jnp.full_like(states.turn, Kind.OFFER), (products.price * share).astype(int))
            _, states, *_ = jitted_step()(jax.random.key(0), states, opening, params)
            kinds.append(np.asarray(respond(seller, states, params).kind))
        kinds = np.concatenate(kinds)
        assert (kinds[kinds != Kind.DEAL] == Kind.QUIT).mean() == pytest.approx(expected, abs=0.08)


def test_types_and_noise_are_the_scenarios(products):
    """A group's members meet one seller whatever they offer; another draw meets another."""
    seller = sellers.make("neutral")
    (state, params), (silent, _) = heard(products, 2, [None, None, 100]), heard(products, 2, [None] * 3)
    other = silent.replace(scenario=silent.scenario.replace(key=jax.random.key(99)))
    asked = [int(answer(seller, heard_state, params).price) for heard_state in (state, silent, other)]
    assert asked[0] == asked[1] != asked[2]


def test_personas_differ_as_their_names_say(products, many):
    """One schedule earns most from the begging seller, least from the unyielding; the insulting one quits most."""
    params = GameParams(products)
    buyer = jax.jit(jax.vmap(lambda s: buyers.Linear(0.3, 0.9).act(s.scenario.key, observe(s, BUYER), params.turns)))
    judge = jax.vmap(outcome, (0, None))
    played = {name: judge(play_all(buyer, sellers.make(name), many, params), params) for name in STOCHASTIC}
    reward = {name: float(outcomes.reward.mean()) for name, outcomes in played.items()}
    quits = {name: float((outcomes.end == End.SELLER_QUIT).mean()) for name, outcomes in played.items()}
    assert reward["begging"] > reward["neutral"] > reward["unyielding"]
    assert max(quits, key=quits.get) == "insulting" and min(quits, key=quits.get) == "begging"


def test_make():
    assert sellers.make("neutral", tick=100) == sellers.make("neutral(tick=100)") == sellers.Stochastic(tick=100)
    assert hash(sellers.make("neutral")) == hash(sellers.Stochastic())
    for spec, message in {
        "natural": "policy 'natural' is unknown; did you mean 'neutral'?",
        "floor(margins=0.1)": "field of floor 'margins' is unknown; did you mean 'margin'?",
        "floor(0.1)": "fields are given by name",
        "floor(": "cannot be read",
        "linear(tick=100, tick=200)": "each field is given once, by its name",
        "linear(**{'tick': 3})": "each field is given once, by its name",
        "linear(tick=2147483648)": "linear.tick=2147483648: must be a number of at most",
        "neutral(noise=3000000000)": "neutral.noise=3000000000: must be a number of at most",
        "persuadable(offense=1e999)": "persuadable.offense=inf: must be a number of at most",
        "neutral(beta=(1e-50, 1.0))": "beta=(1e-50, 1.0): must be 1e-6 <= low <= high",
        "linear(beta=0)": "TimeDependent.beta=0: must be above 0",
    }.items():
        with pytest.raises(ValueError) as error:
            sellers.make(spec)
        assert message in str(error.value)

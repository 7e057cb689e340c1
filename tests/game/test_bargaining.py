"""The game: contract, parity with the plain reference, ends on the right step."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from negot_jax.game import bargaining, regulation, sellers
from negot_jax.game.types import BUYER, NONE, SELLER, Action, End, GameParams, Kind
from tests.game.reference import Game
from tests.game.scenarios import actions, each_product, jitted_step, make_products, reset, respond


def action(kind: Kind, price: int = NONE) -> Action:
    return actions(kind, price)


def arrays(tree) -> list[np.ndarray]:
    """The leaves as numpy, PRNG keys as their data."""
    is_key = lambda x: jnp.issubdtype(x.dtype, jax.dtypes.prng_key)  # noqa: E731
    return [np.asarray(jax.random.key_data(x) if is_key(x) else x) for x in jax.tree.leaves(tree)]


def play_out(params: GameParams, *actions: Action):
    """Steps through the actions from product 0: every (obs, state, reward, done, info)."""
    _, state = bargaining.reset_to(bargaining.scenario(params.products, 0, jax.random.key(0)), params)
    transitions = []
    for said in actions:
        transitions.append(jitted_step(batch=False)(jax.random.key(1), state, said, params))
        state = transitions[-1][1]
    return transitions


@pytest.fixture(scope="module")
def hundred() -> GameParams:
    """One product: P0 $100, B $80, C $40."""
    return GameParams(make_products(np.array([10_000]), np.array([8_000]), np.array([4_000])))


OFFER, REJECT, DEAL, QUIT = (functools.partial(action, kind) for kind in list(Kind)[:4])


@pytest.mark.parametrize("regulation_mode", regulation.MODES)
def test_random_episodes_equal_the_plain_reference(regulation_mode):
    episodes, turns = 4_000, 6
    rng = np.random.default_rng(list(regulation.MODES).index(regulation_mode))
    # Prices of a few cents, so that offers meet, match and miss by one; one episode in ten near the largest price.
    price = rng.integers(3, 40, episodes)
    cost = rng.integers(0, price + 1)
    shift = np.where(rng.random(episodes) < 0.1, 999_999_900, 0)
    price, cost = price + shift, cost + shift
    budget = rng.integers(2, 40, episodes) + shift
    products = make_products(price, budget, cost).replace(scale=jnp.asarray(rng.integers(5, 60, episodes), jnp.int32))
    params = GameParams(products, turns=turns, regulation=regulation_mode)
    scenarios = each_product(products, jax.random.key(0))
    kinds = rng.choice([*Kind, 9], (2 * turns, episodes), p=[0.5, 0.14, 0.25, 0.02, 0.02, 0.02, 0.03, 0.02])
    prices = rng.integers(0, 42, kinds.shape) + shift
    wild = rng.random(kinds.shape) < 0.04
    prices = np.where(wild, rng.choice([-(2**31), -2, NONE, 0, 10**9, 2**31 - 1], kinds.shape), prices)
    said = actions(kinds, prices)

    @jax.jit
    def run(scenarios, said, params):
        def message(state, said):
            step = jax.vmap(bargaining.step, (None, 0, 0, None))
            _, state, reward, done, info = step(jax.random.key(0), state, said, params)
            return state, (reward, done, info, state)

        _, states = jax.vmap(bargaining.reset_to, (0, None))(scenarios, params)
        return jax.lax.scan(message, states, said)[1]

    rewards, dones, infos, states = run(scenarios, said, params)
    rewards, dones, intervened = np.asarray(rewards), np.asarray(dones), np.asarray(infos["intervened"])
    states = jax.tree.map(np.asarray, states.replace(scenario=None))
    margins = np.asarray(jax.vmap(regulation.margin_bp)(scenarios.key))
    scales = np.asarray(products.scale)

    seen = set()
    for i in range(episodes):
        row = (int(x[i]) for x in (price, budget, cost, scales, margins))
        game = Game(*row, turns=turns, regulation=regulation_mode)
        for j in range(2 * turns):
            kind = int(kinds[j, i])
            before = game.interventions
            expected = game.say("UNREADABLE" if kind == 9 else Kind(kind).name, int(prices[j, i]))
            assert tuple(rewards[j, i]) == tuple(np.float32(expected)), (i, j)
            assert dones[j, i] == (game.end != "ONGOING"), (i, j)
            assert intervened[j, i] == (game.interventions > before), (i, j)
            assert states.end[j, i] == End[game.end], (i, j)
        none = {None: NONE}
        assert states.deal_price[-1, i] == none.get(game.deal_price, game.deal_price)
        assert states.interventions[-1, i] == game.interventions
        offers = [game.standing[role] for role in ("buyer", "seller")]
        assert list(states.offers[-1, i]) == [none.get(offer, offer) for offer in offers]
        log = np.full((2, turns, 2), NONE)
        for turn, role, kind, money in game.log:
            log[:, turn, int(role == "seller")] = Kind[kind], none.get(money, money)
        np.testing.assert_array_equal(states.kinds[-1, i], log[0])
        np.testing.assert_array_equal(states.prices[-1, i], log[1])
        seen.add(game.end)
    possible = {end.name for end in End} - {"ONGOING"} - ({"SELLER_ILLEGAL"} if regulation_mode != "end" else set())
    assert seen == possible  # Every way to end was met.


@pytest.mark.parametrize(
    "name",
    [
        name if name in ("floor", "linear", "insulting", "persuadable") else pytest.param(name, marks=pytest.mark.slow)
        for name in sellers.SELLERS
    ],
)
def test_contract(name, products):
    """pgx's contract over every seller: constant types, done on the ending step only, absorbing, no reward after."""
    params = GameParams(products)
    obs, state = reset(each_product(products, jax.random.key(3)), params)
    rng = np.random.default_rng(3)
    for message in range(2 * params.turns + 2):
        if message % 2 == BUYER:
            kinds = rng.choice([Kind.OFFER] * 9 + [Kind.REJECT, Kind.DEAL, Kind.QUIT, Kind.CUT], 64)
            said = actions(kinds, rng.integers(0, products.budget))
        else:
            said = respond(sellers.SELLERS[name], state, params)
        before, last_obs = state, obs
        obs, state, reward, done, info = jitted_step()(jax.random.key(1), before, said, params)

        for old, new in zip(arrays((last_obs, before)), arrays((obs, state)), strict=True):
            assert (new.shape, new.dtype) == (old.shape, old.dtype)
        assert (reward.shape, reward.dtype, done.shape, done.dtype) == ((64, 2), jnp.float32, (64,), bool)
        np.testing.assert_array_equal(done, state.end != End.ONGOING)
        over = before.end != End.ONGOING
        for old, new in zip(arrays(before), arrays(state), strict=True):
            np.testing.assert_array_equal(old[over], new[over])
        assert not reward[over].any() and (info["action"].kind[over] == NONE).all()
        assert not info["intervened"].any()  # A scripted seller is legal by itself.
        assert done.all() == (message >= 2 * params.turns - 1)  # The longest game ends with the last message.


def test_time_limit_and_natural_end(hundred):
    """The limit falls on the seller's sixth message; a deal there is a deal."""
    held = [OFFER(3_000), OFFER(9_000)] * 6
    ends = [bool(done) for *_, done, _ in play_out(hundred, *held)]
    assert ends == [False] * 11 + [True]
    assert play_out(hundred, *held)[-1][1].end == End.TURN_LIMIT

    *_, (_, state, reward, done, _) = play_out(hundred, *held[:10], OFFER(6_000), DEAL(6_000))
    assert done and state.end == End.DEAL and state.deal_price == 6_000
    np.testing.assert_allclose(reward, [0.5, 0.5])

    *_, (_, state, reward, done, _) = play_out(hundred, *held[:10], OFFER(6_000), QUIT())
    assert done and state.end == End.SELLER_QUIT and not reward.any()


def test_a_deal_closes_at_the_standing_price(hundred):
    *_, (_, state, reward, _, info) = play_out(hundred, OFFER(3_000), OFFER(8_000), DEAL(8_001))
    assert state.end == End.DEAL and state.deal_price == 8_000  # The written 80.01 would have been overshoot.
    assert info["action"].price == 8_000 and reward[BUYER] == 0
    *_, (_, state, *_) = play_out(hundred, OFFER(3_000), OFFER(8_001), DEAL(8_000))
    assert state.end == End.OVERSHOOT
    *_, (_, state, *_) = play_out(hundred, OFFER(3_000), OFFER(9_000), DEAL(9_002))
    assert state.end == End.DEAL_MISMATCH  # Legality is asked before the budget.
    *_, (_, state, *_) = play_out(hundred, DEAL(0))
    assert state.end == End.DEAL_WITHOUT_OFFER  # "No offer" is not a price one cent below zero.


def test_standing_offers(hundred):
    *_, (_, state, *_) = play_out(hundred, OFFER(3_000), OFFER(9_000), REJECT(), OFFER(8_500))
    assert list(state.offers) == [3_000, 8_500]  # Only the other side's offer falls; both can stand.
    *_, (_, state, *_) = play_out(hundred, OFFER(3_000), REJECT(), DEAL(9_000))
    assert state.end == End.DEAL_WITHOUT_OFFER


def test_observation_is_the_next_players_and_private(hundred):
    (after_buyer, *_), (after_seller, *_) = play_out(hundred, OFFER(3_000), OFFER(9_000))
    assert (after_buyer.role, after_buyer.private) == (SELLER, 4_000)
    assert (after_seller.role, after_seller.private) == (BUYER, 8_000)


def test_vmap_equals_loop_and_jit_equals_no_jit(products):
    params = GameParams(products)
    _, states = jax.vmap(bargaining.reset, (0, None))(jax.random.split(jax.random.key(5), 6), params)
    said = actions([Kind.OFFER, Kind.DEAL, Kind.OFFER, Kind.UNREADABLE, Kind.REJECT, Kind.QUIT], 400)
    for _ in range(2):  # The buyer's message, then the seller's.
        batch = jitted_step()(jax.random.key(1), states, said, params)
        no_jit = jax.vmap(bargaining.step, (None, 0, 0, None))(jax.random.key(1), states, said, params)
        rows = [jax.tree.map(lambda x: x[i], (states, said)) for i in range(6)]  # noqa: B023
        loop = [jitted_step(batch=False)(jax.random.key(1), *row, params) for row in rows]
        for other in (no_jit, jax.tree.map(lambda *x: jnp.stack(x), *loop)):
            for x, y in zip(arrays(batch), arrays(other), strict=True):
                np.testing.assert_array_equal(x, y)
        states = batch[1]


def test_draw_is_uniform_and_deterministic(products):
    keys = jax.random.split(jax.random.key(6), 6_400)
    drawn = jax.jit(jax.vmap(bargaining.draw, (0, None)))(keys, products)
    counts = np.bincount(np.asarray(drawn.product), minlength=64)
    assert counts.min() > 60 and counts.max() < 145  # 100 expected, four to five deviations.
    np.testing.assert_array_equal(drawn.cost, products.cost[drawn.product])
    again = bargaining.draw(keys[0], products)
    assert again.product == drawn.product[0] and again.key == drawn.key[0]


def test_unknown_regulation_is_refused(products):
    params = GameParams(products, regulation="repare")
    _, state = bargaining.reset(jax.random.key(0), params)
    with pytest.raises(ValueError, match="'repare' is unknown; use one of repair, end, none"):
        bargaining.step(jax.random.key(0), state, OFFER(1), params)

"""The persuadable seller: its equations in plain Python, its hints, the control, and buyers that argue."""

import collections
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from negot_jax.game import buyers, sellers
from negot_jax.game.bargaining import observe
from negot_jax.game.persuasion import MOVING
from negot_jax.game.types import BUYER, NONE, SELLER, Argument, GameParams, Kind
from tests.game.scenarios import each_product, reset, respond

TURN = 4


@pytest.fixture(scope="module")
def states(products):
    """64 games in which the seller is to answer turn 4, after a random history of arguments."""
    params = GameParams(products)
    _, states = reset(each_product(products, jax.random.key(3)), params)
    rng = np.random.default_rng(0)
    spoken_TxA = (np.arange(6) <= TURN)[:, None] & (rng.random((64, 6, len(Argument))) < 0.2)
    acts = np.zeros((64, 6, 2), np.int32)
    acts[..., BUYER] = (spoken_TxA << np.arange(len(Argument))).sum(-1)
    turn, seller = jnp.full(64, TURN), jnp.full(64, SELLER)
    return states.replace(turn=turn, player=seller, acts=jnp.asarray(acts)), params


def _with(states, acts_T):
    """The same games after one history of the buyer's arguments."""
    acts = np.zeros((64, 6, 2), np.int32)
    acts[:, : np.shape(acts_T)[-1], BUYER] = acts_T
    return states.replace(acts=jnp.asarray(acts))


@functools.partial(jax.jit, static_argnums=0)
def _types(seller, states):
    return jax.vmap(functools.partial(sellers.hidden_type, seller))(states.scenario)


@functools.partial(jax.jit, static_argnums=0)
def _stances(seller, states):
    observed = jax.vmap(functools.partial(observe, role=SELLER))(states)
    return jax.vmap(seller.stance)(_types(seller, states), observed)


def _persuaded(seller, weights, acts_T) -> float:
    """s_t, from its equations."""
    heard, level = collections.Counter(), 0.0
    for turn, acts in enumerate(acts_T[: TURN + 1]):
        kinds = [kind for kind in Argument if acts >> kind & 1]
        moving = [kind for kind in kinds if kind in MOVING]
        level += sum(weights[kind] * seller.fade ** heard[kind] for kind in moving) / max(len(moving), 1)
        level -= seller.offense * (Argument.INSULT in kinds) + seller.bluff * (Argument.THREAT in kinds and turn < TURN)
        heard.update(kinds)
    return min(max(level, 0.0), 1.0), heard


@pytest.mark.parametrize("name", ["persuadable", "skeptical"])
def test_floor_and_patience_follow_the_equations(name, states):
    seller, (states, _) = sellers.make(name), states
    hidden = jax.tree.map(np.asarray, _types(seller, states))
    floors, walks = map(np.asarray, _stances(seller, states))
    levels = []
    for i in range(64):
        level, heard = _persuaded(seller, hidden.weights_A[i], np.asarray(states.acts)[i, :, BUYER].tolist())
        expected = hidden.floor[i] + (1 - level) * (hidden.wish[i] - hidden.floor[i])
        assert abs(floors[i] - expected) < 3 + expected / 5_000
        assert walks[i] == pytest.approx(seller.walk * seller.calm ** heard[Argument.COURTESY])
        levels.append(level)
    assert min(levels) == 0 and sum(level > 0.1 for level in levels) > 5
    moved = hidden.weights_A[:, list(MOVING)]
    assert (np.sort(moved)[:, [0, -2, -1]] == np.float32([seller.weights[i] for i in (3, 1, 0)])).all()
    assert (hidden.weights_A[:, [Argument.COURTESY, Argument.INSULT]] == 0).all()


def test_what_moves_it_is_drawn_with_the_odds_of_its_kind(states):
    """Over many scenarios; other odds are another prior."""
    states, _ = states
    keys = jax.vmap(jax.random.key)(jnp.arange(4_000))
    scenario = jax.tree.map(lambda x: x[0], states.scenario)
    for pull in ((3.0, 1.0, 1.0, 2.0, 2.0, 1.0, 1.0, 1.0), (1.0,) * 7 + (9.0,)):
        seller = sellers.make("persuadable", pull=pull)
        drawn = jax.jit(jax.vmap(seller.draw_type, (0, None)))(keys, scenario)
        first = np.asarray(drawn.weights_A).argmax(axis=1)
        shares = [(first == kind).mean() for kind in MOVING]
        np.testing.assert_allclose(shares, np.array(pull) / sum(pull), atol=0.03)


def test_its_words_say_what_moved_it_or_what_would(states):
    (states, params), seller = states, sellers.make("persuadable", candor=1.0)
    ranked = np.argsort(-np.asarray(_types(seller, states).weights_A)[:, list(MOVING)], axis=1)
    first, second, last = (np.array(MOVING)[ranked[:, rank]] for rank in (0, 1, -1))
    said = lambda seller, acts_T: np.asarray(respond(seller, _with(states, acts_T), params).acts)
    silent = np.zeros((64, TURN), np.int32)
    after = lambda *acts: np.stack([*silent.T[: TURN + 1 - len(acts)], *acts], axis=1)
    np.testing.assert_array_equal(said(seller, after(1 << first)), 1 << first)
    np.testing.assert_array_equal(said(seller, after(1 << last)), 1 << first)
    np.testing.assert_array_equal(said(seller, after(1 << first, 0 * first)), 1 << second)
    closed = sellers.make("persuadable", candor=0.0)
    assert (said(closed, after(1 << last)) == 0).all() and (said(closed, after(1 << second)) == 1 << second).all()
    # Nothing that was not said has moved it, though it would weigh more than what was.
    stubborn = sellers.make("persuadable", candor=0.0, weights=(0.55, 0.35, -0.05, -0.1))
    assert (said(stubborn, after(1 << last)) == 0).all() and (said(stubborn, silent) == 0).all()
    feigned = said(sellers.make("persuadable", feign=1.0), after(1 << first))
    assert len(set(feigned.tolist())) == len(MOVING) and (feigned == 1 << first).mean() < 0.5


def test_words_change_nothing_for_the_control(states):
    states, params = states
    silent = _with(states, [0])
    for name, same in {"unmoved": True, "persuadable": False, "neutral": True}.items():
        seller = sellers.make(name)
        one, other = respond(seller, states, params), respond(seller, silent, params)
        assert bool((one.price == other.price).all() & (one.kind == other.kind).all()) == same, name


def test_an_insult_and_an_empty_threat_cost_and_courtesy_calms(states):
    states, seller = states[0], sellers.make("persuadable")
    loyal, insult, threat = (1 << kind for kind in (Argument.LOYALTY, Argument.INSULT, Argument.THREAT))
    floor = lambda acts_T: np.asarray(_stances(seller, _with(states, acts_T))[0]).astype(int)
    plain, insulted, bluffed = floor([loyal] * 5), floor([loyal, insult, *[loyal] * 3]), floor([threat] * 5)
    assert (insulted >= plain).all() and (insulted > plain).any()
    assert (bluffed >= floor([0] * 4 + [threat])).all() and (bluffed > floor([0] * 4 + [threat])).any()


def test_its_fields_are_checked_and_its_type_is_told(states):
    for spec, message in {
        "persuadable(wish=(0.9, 0.2))": "wish=.*0 <= low <= high <= 1",
        "persuadable(pull=(0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0))": "pull=.*8 above 0",
        "persuadable(candor=1.5)": "candor=1.5: must be in \\[0, 1\\]",
        "persuadable(bluff=-1.0)": "bluff=-1.0: must be at least 0",
    }.items():
        with pytest.raises(ValueError, match=message):
            sellers.make(spec)
    seller = sellers.make("persuadable")
    told = seller.describe(jax.tree.map(lambda x: x[0], _types(seller, states[0])))
    assert told["wish"].startswith("$") and "+0.55" in told["moved by"] and "courtesy" not in told["moved by"]


def test_a_buyer_argues_by_its_script(states):
    states, params = states
    observation = jax.vmap(functools.partial(observe, role=BUYER))(states)
    hint = 1 << Argument.FAIRNESS
    observation = observation.replace(acts=observation.acts.at[:, 1, SELLER].set(hint))

    @functools.partial(jax.jit, static_argnums=0)
    def act(buyer, keys, observation):
        return jax.vmap(lambda key, obs: buyer.act(key, obs, params.turns))(keys, observation)

    def said(spec, turn):
        keys = jax.random.split(jax.random.key(turn), 64)
        return act(buyers.make(spec), keys, observation.replace(turn=jnp.full(64, turn)))

    spec = "arguing(buyer=linear(start=0.5, end=0.5), script='courtesy nothing hinted')"
    for turn, expected in enumerate([1 << Argument.COURTESY, 0, hint, hint]):
        action = said(spec, turn)
        assert (action.acts == expected).all() and (action.kind == Kind.OFFER).all()
        np.testing.assert_array_equal(action.price, said("linear(start=0.5, end=0.5)", turn).price)
    drawn = np.concatenate([said("arguing(script=random)", turn).acts for turn in range(6)])
    assert set(drawn.tolist()) == {0, *(1 << kind for kind in Argument)}
    with pytest.raises(ValueError, match="script='flatery': must be words among .*flattery"):
        buyers.make("arguing(script=flatery)")
    with pytest.raises(ValueError, match="policy 'liner' is unknown"):
        buyers.make("arguing(buyer=liner)")
    assert (observation.offers == NONE).all()

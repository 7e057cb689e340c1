"""Self-play: who learns when, from whom, and what becomes a past opponent."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from negot_jax.game.types import BUYER, SELLER
from negot_jax.models.sampling import SamplingConfig
from negot_jax.rl import self_play
from negot_jax.rl.self_play import SELLERS, Pool, SelfPlay, SelfPlayConfig
from negot_jax.rl.train_step import Frozen, FrozenModel, train_step


def _learners(world, **settings) -> SelfPlay:
    other = FrozenModel(world.program.model, SamplingConfig(temperature=0.7), shared=False)
    programs = (dataclasses.replace(world.program, opponent=other), world.seller_program(other))
    return SelfPlay(programs, SelfPlayConfig(**settings))


def _state(world, learners: SelfPlay):
    return learners.init_state(jax.random.key(5), tuple(jax.tree.map(jnp.copy, world.weights) for _ in range(2)))


def _differ(one, other) -> bool:
    return any(jax.tree.leaves(jax.tree.map(lambda a, b: bool((a != b).any()), one, other)))


@pytest.fixture(scope="module")
def tables(world):
    return world.two_sided("constrained", message_tokens=32)


@pytest.fixture(scope="module")
def together(world, tables):
    """Both learn for two iterations, always against the latest; each state, and the metrics."""
    learners = _learners(world, pool=2, every=2, latest=1.0)
    state, history = _state(world, learners), []
    for iteration in range(2):
        before = jax.device_get(state.replace(learners=tuple(own.replace(key=None) for own in state.learners)))
        state, metrics, _ = learners.step(iteration, state, tables)
        history.append((before, jax.device_get(metrics)))
    return state, history


def test_both_learn_as_each_would_against_the_other_frozen(world, tables, together):
    """One step together is the two programs' own steps, each against the other side as it was before."""
    learners = _learners(world, pool=2, every=2, latest=1.0)
    expected = _state(world, learners)
    frozen = Frozen(opponent=world.weights)
    (_, found), names = together[1][0], ("reward", "loss", "grad_norm")
    for role, program in enumerate(learners.programs):
        _, metrics, _ = train_step(program, expected.learners[role], tables, frozen)
        for name in names:
            own = found[(SELLERS if role == SELLER else "") + name]
            np.testing.assert_allclose(own, jax.device_get(metrics[name]), rtol=1e-4, atol=1e-6)
    buyer, seller = (own.weights for own in together[0].learners)
    assert _differ(buyer, world.weights) and _differ(seller, world.weights) and _differ(buyer, seller)


def test_the_pool_takes_in_what_has_learned_when_it_is_due(world, together):
    state, history = together
    for role in (BUYER, SELLER):
        early, late = history[1][0].pools[role], state.pools[role]
        assert early.count == 1 and late.count == 2
        assert not _differ(jax.tree.map(lambda x: x[0], late.weights), world.weights)
        assert not _differ(jax.tree.map(lambda x: x[1], late.weights), state.learners[role].weights)


@pytest.mark.slow
def test_in_turns_one_side_learns_and_the_other_stays(world, tables):
    learners = _learners(world, pool=1, alternate=2)
    due = [learners.settings.learning(iteration) for iteration in range(5)]
    assert due == [(BUYER,)] * 2 + [(SELLER,)] * 2 + [(BUYER,)]
    state, metrics, _ = learners.step(2, _state(world, learners), tables)
    assert [int(own.iteration) for own in state.learners] == [0, 1]
    assert _differ(state.learners[SELLER].opt_state, learners.programs[SELLER].make_optimizer().init(world.weights))
    assert not _differ(state.learners[BUYER].weights, world.weights)
    assert all(name.startswith(SELLERS) for name in metrics)
    state = dataclasses.replace(learners, settings=SelfPlayConfig(every=1, alternate=2)).step(2, state, tables)[0]
    assert [int(pool.count) for pool in state.pools] == [1, 2]  # The buyer, who waits, is not added again.


def _pool(strengths, count) -> Pool:
    return Pool({"x": jnp.arange(len(strengths), dtype=jnp.float32)}, jnp.array(strengths), jnp.int32(count))


@pytest.mark.parametrize(
    "settings, shares",
    [
        (dict(latest=0.0), [0, 1 / 3, 1 / 3, 1 / 3, 0]),
        (dict(latest=1.0), [1, 0, 0, 0, 0]),
        (dict(latest=0.5, draw="strength"), [1 / 2, *(0.5 * np.exp([0, 1, 2]) / np.exp([0, 1, 2]).sum()), 0]),
    ],
)
def test_opponents_are_drawn_as_asked(settings, shares):
    """Of four places three are filled; strengths .1 apart are odds of e."""
    pool, latest = _pool([0.0, 0.1, 0.2, 5.0], 3), {"x": jnp.float32(-1)}
    draw = jax.vmap(lambda key: self_play._draw(SelfPlayConfig(**settings), key, latest, pool))
    drawn, places = draw(jax.random.split(jax.random.key(0), 4000))
    np.testing.assert_array_equal(drawn["x"], places)
    np.testing.assert_allclose(np.bincount(np.asarray(places) + 1, minlength=5) / 4000, shares, atol=0.03)


def test_what_earned_little_makes_a_strong_opponent_and_the_oldest_gives_way():
    pool = self_play._remember(_pool([0.0, 0.0], 2), jnp.int32(1), (jnp.float32(-6), jnp.float32(10)))
    np.testing.assert_allclose(pool.strengths_S, [0, 0.3 * 0.6], rtol=1e-6)
    np.testing.assert_array_equal(self_play._remember(pool, jnp.int32(-1), (1.0, 1.0)).strengths_S, pool.strengths_S)
    added = self_play._add(pool, {"x": jnp.float32(9)}, jnp.bool(True))
    np.testing.assert_array_equal(added.weights["x"], [9, 1])
    assert added.count == 3 and added.strengths_S[0] == added.strengths_S[1] > 0  # As hard as the hardest.
    first = self_play._add(_pool([0.0, 0.0], 0), {"x": jnp.float32(9)}, jnp.bool(True))
    assert first.strengths_S.tolist() == [0, 0]
    kept = self_play._add(pool, {"x": jnp.float32(9)}, jnp.bool(False))
    np.testing.assert_array_equal(kept.weights["x"], [0, 1])


@pytest.mark.parametrize("field, value", [("pool", 0), ("every", 0), ("alternate", -1), ("latest", 1.5)])
def test_settings_out_of_range_are_refused(field, value):
    with pytest.raises(ValueError, match=f"self_play.{field}={value}"):
        SelfPlayConfig(**{field: value})

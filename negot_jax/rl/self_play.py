"""Self-play: a buyer and a seller learn from each other, and from each other's past (Heinrich & Silver 2016)."""

import dataclasses
import functools
from typing import Literal

from flax import struct
import jax
import jax.numpy as jnp

from negot_jax.config import field, require, require_least
from negot_jax.game.types import BUYER, SELLER
from negot_jax.models import sharding
from negot_jax.models.transformer import Weights
from negot_jax.rl.losses import Metrics
from negot_jax.rl.rollout import Trajectory
from negot_jax.rl.tables import Tables
from negot_jax.rl.train_step import NOTHING_FROZEN, Frozen, Program, train_step
from negot_jax.rl.updates import TrainState

SELLERS = "seller/"  # Begins the names of the seller's metrics; the buyer's stand as they are.
_SPREAD = 0.1  # Of reward: past opponents are drawn by exp(strength / spread).
_MEMORY = 0.7  # Of the running mean that is an opponent's strength.


@dataclasses.dataclass(frozen=True)
class SelfPlayConfig:
    """Whom each side meets, where both learn (learner.role='both')."""

    pool: int = field(8, "past opponents of each side that are kept; a new one replaces the oldest")
    every: int = field(10, "iterations of a side's learning between additions to its pool")
    latest: float = field(0.5, "probability that a side meets the other one as it is now")
    draw: Literal["uniform", "strength"] = field(
        "uniform", "how a past opponent is drawn: uniformly, or favoring those against which less was earned recently"
    )
    alternate: int = field(0, "iterations before the learning side switches; 0: both sides learn in every iteration")

    def __post_init__(self):
        require_least("self_play", self, 1, "pool every")
        require_least("self_play", self, 0, "alternate")
        require("self_play", self, "latest", lambda value: 0 <= value <= 1, "must be a probability, in [0, 1].")

    def learning(self, iteration: int) -> tuple[int, ...]:
        """The roles that learn in an iteration."""
        return (iteration // self.alternate % 2,) if self.alternate else (BUYER, SELLER)


@struct.dataclass
class Pool:
    """Past selves of one side, S of them, kept on the device.

    weights: what is trained, stacked [S, ...]. strengths_S: float32, minus what was earned against each, a running
    mean; a new one begins with the largest. count: int32, how many were ever added.
    """

    weights: Weights
    strengths_S: jax.Array
    count: jax.Array


@struct.dataclass
class SelfPlayState:
    """What an iteration changes. learners, pools: of the buyer and of the seller."""

    learners: tuple[TrainState, TrainState]
    pools: tuple[Pool, Pool]

    @property
    def weights(self) -> tuple[Weights, Weights]:
        return tuple(learner.weights for learner in self.learners)


@dataclasses.dataclass(frozen=True)
class SelfPlay:
    """Everything static about self-play. programs: the buyer's and the seller's, each with the other as opponent."""

    programs: tuple[Program, Program]
    settings: SelfPlayConfig

    def init_state(self, key: jax.Array, weights: tuple[Weights, Weights]) -> SelfPlayState:
        """The state before the first update, from all weights of both sides, which are the first of their pasts."""
        keys = [jax.random.fold_in(key, role) for role in (BUYER, SELLER)]
        learners = tuple(program.init_state(*own) for program, *own in zip(self.programs, keys, weights, strict=True))
        size = self.settings.pool
        stacked = jax.tree.map(lambda x: jnp.repeat(x[None], size, axis=0), [own.weights for own in learners])
        return SelfPlayState(learners, tuple(Pool(own, jnp.zeros(size), jnp.ones((), jnp.int32)) for own in stacked))

    def step(
        self, iteration: int, state: SelfPlayState, tables: Tables, frozen: Frozen = NOTHING_FROZEN
    ) -> tuple[SelfPlayState, Metrics, Trajectory]:
        """One iteration of those who learn in it, each against the other side as it was before.

        Returns the next state; the metrics, the seller's under `SELLERS`; and a sample of what was played, the buyer's
        if it learns.
        """
        return _step(self, self.settings.learning(iteration), state, tables, frozen)


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=2)
def _step(
    self_play: SelfPlay, learning: tuple[int, ...], state: SelfPlayState, tables: Tables, frozen: Frozen
) -> tuple[SelfPlayState, Metrics, Trajectory]:
    settings = self_play.settings
    learners, pools, metrics, samples = list(state.learners), list(state.pools), {}, []
    for role in learning:
        other, own = 1 - role, state.learners[role]
        key = jax.random.fold_in(jax.random.fold_in(own.key, own.iteration), 7)
        opponent, place = _draw(settings, key, state.learners[other].weights, state.pools[other])
        met = frozen.replace(opponent=opponent)
        learners[role], found, sample = train_step(self_play.programs[role], own, tables, met)
        pools[other] = _remember(pools[other], place, found["reward"])
        metrics |= {(SELLERS if role == SELLER else "") + name: pair for name, pair in found.items()}
        samples.append(sample)
    for role in learning:
        due = learners[role].iteration % settings.every == 0
        pools[role] = _add(pools[role], learners[role].weights, due)
    return sharding.constrain(SelfPlayState(tuple(learners), tuple(pools))), sharding.replicate(metrics), samples[0]


def _draw(settings: SelfPlayConfig, key: jax.Array, latest: Weights, pool: Pool) -> tuple[Weights, jax.Array]:
    """An opponent, and its place in the pool; -1 for the latest."""
    key_latest, key_place = jax.random.split(key)
    known = jnp.arange(pool.strengths_S.size) < pool.count
    logits = pool.strengths_S / _SPREAD if settings.draw == "strength" else jnp.zeros_like(pool.strengths_S)
    place = jax.random.categorical(key_place, jnp.where(known, logits, -jnp.inf))
    now = jax.random.bernoulli(key_latest, settings.latest)
    drawn = jax.tree.map(lambda own, past: jnp.where(now, own, past[place]), latest, pool.weights)
    return drawn, jnp.where(now, -1, place)


def _remember(pool: Pool, place: jax.Array, reward: tuple[jax.Array, jax.Array]) -> Pool:
    """The pool with what was earned against the opponent of a place: (sum, weight)."""
    earned = reward[0] / reward[1]
    strengths_S = _MEMORY * pool.strengths_S - (1 - _MEMORY) * earned
    met_S = jnp.arange(pool.strengths_S.size) == place
    return pool.replace(strengths_S=jnp.where(met_S, strengths_S, pool.strengths_S))


def _add(pool: Pool, weights: Weights, due: jax.Array) -> Pool:
    """The pool with new weights in place of the oldest, where that is due."""
    size = pool.strengths_S.size
    here_S = due & (jnp.arange(size) == pool.count % size)
    put = lambda past, new: jnp.where(here_S.reshape(-1, *(1,) * new.ndim), new, past)
    hardest = jnp.max(pool.strengths_S, where=jnp.arange(size) < pool.count, initial=-jnp.inf)
    strengths_S = jnp.where(here_S, jnp.where(pool.count > 0, hardest, 0.0), pool.strengths_S)
    return Pool(jax.tree.map(put, pool.weights, weights), strengths_S, pool.count + due)

"""Scripted buyers, which are also the baselines that every trained buyer is held against.

All of them take a standing ask that is no dearer than the offer they would otherwise make, and never go above the
budget B. Shares are shares of B; `tick`, in cents, rounds offers down.
"""

import dataclasses
import functools
from typing import Any

from flax import struct
import jax
from jax import Array
import jax.numpy as jnp

from negot_jax.game import concession, registry, rewards
from negot_jax.game.bargaining import scenario
from negot_jax.game.history import last_offer, offers_made
from negot_jax.game.money import BP, basis_points, part, uniform_bp
from negot_jax.game.play import Buyer, episode
from negot_jax.game.sellers import Seller
from negot_jax.game.types import BUYER, NONE, SELLER, Action, GameParams, Kind, Observation, Products

PERCENT = BP // 100  # Basis points.


def _propose(obs: Observation, price: Array, tick: int) -> Action:
    """OFFER at `price`, rounded down to a tick, or DEAL at a standing ask no dearer than that."""
    price = jnp.clip(price, 0, obs.private) // tick * tick
    ask = obs.offers[SELLER]
    accepts = (ask != NONE) & (ask <= price)
    return Action(
        kind=jnp.where(accepts, Kind.DEAL, Kind.OFFER).astype(jnp.int32),
        price=jnp.where(accepts, ask, price).astype(jnp.int32),
        acts=jnp.int32(0),
    )


def _require_share(policy: Any, *fields: str) -> None:
    for field in fields:
        registry.require(policy, field, 0 <= getattr(policy, field) <= 1, "a share of the budget, in [0, 1]")


def _require_tick(policy: Any) -> None:
    registry.require(policy, "tick", policy.tick >= 1, "at least 1 cent")


@struct.dataclass
class _Ramp:
    """A linear schedule as data, to vmap a grid of them: int32 basis points of B in the first and the last turn."""

    start: Array
    end: Array
    tick: int = struct.field(pytree_node=False, default=1)

    def act(self, key: Array, obs: Observation, turns: int) -> Action:
        del key
        bp = self.start + (self.end - self.start) * obs.turn // max(turns - 1, 1)
        return _propose(obs, part(obs.private, bp), self.tick)


@dataclasses.dataclass(frozen=True)
class Constant:
    """Offers the same share of B in every turn."""

    share: float = 0.5
    tick: int = 1

    def __post_init__(self):
        _require_share(self, "share")
        _require_tick(self)

    def act(self, key: Array, obs: Observation, turns: int) -> Action:
        return Linear(self.share, self.share, self.tick).act(key, obs, turns)


@dataclasses.dataclass(frozen=True)
class Linear:
    """Offers rising linearly from `start` in the first turn to `end` in the last (to the basis point below)."""

    start: float = 0.4
    end: float = 1.0
    tick: int = 1

    def __post_init__(self):
        _require_share(self, "start", "end")
        _require_tick(self)

    def act(self, key: Array, obs: Observation, turns: int) -> Action:
        return _Ramp(basis_points(self.start), basis_points(self.end), self.tick).act(key, obs, turns)


@dataclasses.dataclass(frozen=True)
class Concession:
    """Faratin's time-dependent tactic: the share k + (end - k) (t / (T - 1))^(1 / beta) of B, from k to `end`.

    `noise` adds to each share a number of its own, uniform in [-noise, noise].
    """

    beta: float = 0.5
    k: float = 0.4
    end: float = 1.0
    noise: float = 0.0
    tick: int = 1

    def __post_init__(self):
        registry.require(self, "beta", self.beta > 0, "above 0")
        _require_share(self, "k", "end", "noise")
        _require_tick(self)

    def act(self, key: Array, obs: Observation, turns: int) -> Action:
        conceded = concession.alpha(concession.progress(obs.turn, turns), self.beta)
        share = self.k + (self.end - self.k) * conceded + jax.random.uniform(key, (), float, -self.noise, self.noise)
        return _propose(obs, part(obs.private, basis_points(jnp.maximum(share, 0.0))), self.tick)


@dataclasses.dataclass(frozen=True)
class TitForTat:
    """Faratin's random absolute tit-for-tat: opens with `start`, then raises by what the seller last came down.

    The seller's first ask counts as a concession from the list price. A uniform step of up to `noise` of B is added;
    the offer never falls.
    """

    start: float = 0.4
    noise: float = 0.02
    tick: int = 1

    def __post_init__(self):
        _require_share(self, "start", "noise")
        _require_tick(self)

    def act(self, key: Array, obs: Observation, turns: int) -> Action:
        asks_T = offers_made(obs, SELLER)
        ask, before = last_offer(asks_T, obs.turn), last_offer(asks_T, obs.turn - 1)
        came_down = jnp.where(ask == NONE, 0, jnp.where(before == NONE, obs.price, before) - ask)
        step = part(obs.private, uniform_bp(jax.random.uniform(key), 0, basis_points(self.noise)))
        own = last_offer(offers_made(obs, BUYER), obs.turn)
        opening = part(obs.private, basis_points(self.start))
        return _propose(obs, jnp.where(own == NONE, opening, own + jnp.maximum(came_down, 0) + step), self.tick)


BUYERS: dict[str, Buyer] = {
    "constant": Constant(),
    "linear": Linear(),
    "concession": Concession(),
    "tit_for_tat": TitForTat(),
}


def make(spec: str, **overrides: Any) -> Buyer:
    """A buyer of `BUYERS` by name: `make("linear(start=0.5, end=1.0)", tick=100)`. See `registry.make`."""
    return registry.make(BUYERS, spec, **overrides)


@functools.partial(jax.jit, static_argnames=("seller", "draws", "tick"))
def linear_rewards(
    seller: Seller,
    starts_S: Array,
    ends_S: Array,
    products: Products,
    params: GameParams,
    key: Array,
    *,
    draws: int = 1,
    tick: int = 1,
) -> Array:
    """The mean reward of each linear schedule over `draws` episodes of every product, by playing them, float32[S].

    `starts_S` and `ends_S` are int32 basis points of B. Every schedule meets the same sellers, drawn from `key`.
    """
    key_buyer, key_seller = jax.random.split(key)
    rows = jnp.tile(jnp.arange(products.price.shape[0]), draws)
    scenarios = jax.vmap(scenario, (None, 0, 0))(products, rows, jax.random.split(key_seller, rows.shape[0]))

    def mean_reward(schedule: tuple[Array, Array]) -> Array:
        buyer = _Ramp(*schedule, tick)
        states = jax.vmap(lambda scenario: episode(key_buyer, buyer, seller, scenario, params))(scenarios)
        return jnp.mean(jax.vmap(rewards.outcome)(states).reward)

    return jax.lax.map(mean_reward, (starts_S, ends_S), batch_size=16)


def tune_linear(
    seller: Seller, products: Products, params: GameParams, key: Array, *, draws: int = 1, tick: int = 1
) -> tuple[Linear, float]:
    """The best rising linear schedule, to 1 % of B, by playing them; see `linear_rewards`.

    The whole grid of 5 % is played, then every schedule of the 1 % grid within 5 % of the best one: a fifteenth of the
    games of the whole 1 % grid, and the mean reward is smooth enough in both ends for it.

    Returns:
      the schedule, and its mean reward on these very episodes (optimistic where the seller is noisy: it was chosen on
      them).
    """

    def best(starts: Array, ends: Array) -> tuple[int, int, float]:
        means = linear_rewards(seller, starts * PERCENT, ends * PERCENT, products, params, key, draws=draws, tick=tick)
        top = int(jnp.argmax(means))
        return int(starts[top]), int(ends[top]), float(means[top])

    coarse, fine = jnp.arange(0, 101, 5), jnp.arange(-5, 6)
    starts, ends = (coarse[index] for index in jnp.triu_indices(coarse.size))
    start, end, _ = best(starts, ends)
    # Beyond the grid or falling, a neighbour is played as the nearest schedule on it: the shapes stay the same.
    starts = jnp.clip(jnp.repeat(start + fine, fine.size), 0, 100)
    ends = jnp.clip(jnp.tile(end + fine, fine.size), starts, 100)
    start, end, reward = best(starts, ends)
    return Linear(start / 100, end / 100, tick), reward

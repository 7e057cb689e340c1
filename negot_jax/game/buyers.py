"""Scripted buyers, which are also the baselines for every trained buyer.

All of them take a standing ask at or below the offer they would otherwise make, and never exceed the budget B. Shares
are shares of B; `tick`, in cents, rounds offers down. To add one, write a class with `act` and an entry in `BUYERS`.
"""

import dataclasses
from typing import Any, Protocol

from flax import struct
import jax
from jax import Array
import jax.numpy as jnp

from negot_jax.game import concession, specs
from negot_jax.game.history import last_hint, last_offer, offers_made
from negot_jax.game.money import basis_points, part, uniform_bp
from negot_jax.game.seller import deal_or
from negot_jax.game.types import BUYER, NONE, SELLER, Action, Argument, Observation


class Buyer(Protocol):
    """A scripted buyer: a frozen, hashable dataclass of numbers, static under jit."""

    def act(self, key: Array, obs: Observation, turns: int) -> Action:
        """The buyer's next message. `key`: this turn's randomness. `turns`: the turn limit."""


def propose(price: Array, obs: Observation) -> Action:
    """OFFER at `price`, int32 cents, or DEAL at a standing ask that is no higher."""
    ask = obs.offers[SELLER]
    return deal_or((ask != NONE) & (ask <= price), ask, price)


def _offer(obs: Observation, price: Array, tick: int) -> Action:
    """Proposes `price`, clipped to the budget and rounded down to a tick."""
    return propose(jnp.clip(price, 0, obs.private) // tick * tick, obs)


def _check(policy: Any, *shares: str) -> None:
    for field in shares:
        specs.require(policy, field, 0 <= getattr(policy, field) <= 1, "a share of the budget, in [0, 1]")
    specs.require_tick(policy)


@struct.dataclass
class Ramp:
    """A `Linear` schedule as data, so that many can be vmapped: int32 basis points of B in the first and last turn."""

    start: Array
    end: Array
    tick: int = struct.field(pytree_node=False, default=1)

    def act(self, key: Array, obs: Observation, turns: int) -> Action:
        del key
        bp = self.start + (self.end - self.start) * obs.turn // max(turns - 1, 1)
        return _offer(obs, part(obs.private, bp), self.tick)


@dataclasses.dataclass(frozen=True)
class Constant:
    """Offers the same share of B in every turn."""

    share: float = 0.5
    tick: int = 1

    def __post_init__(self):
        _check(self, "share")

    def act(self, key: Array, obs: Observation, turns: int) -> Action:
        return Linear(self.share, self.share, self.tick).act(key, obs, turns)


@dataclasses.dataclass(frozen=True)
class Linear:
    """Offers rising linearly from `start` in the first turn to `end` in the last (rounded down to basis points)."""

    start: float = 0.4
    end: float = 1.0
    tick: int = 1

    def __post_init__(self):
        _check(self, "start", "end")

    def act(self, key: Array, obs: Observation, turns: int) -> Action:
        return Ramp(basis_points(self.start), basis_points(self.end), self.tick).act(key, obs, turns)


@dataclasses.dataclass(frozen=True)
class Ladder:
    """Offers these shares of B, turn by turn; the last one stands for all later turns."""

    shares: tuple[float, ...] = (0.7,)
    tick: int = 1

    def __post_init__(self):
        allowed = bool(self.shares) and all(0 <= share <= 1 for share in self.shares)
        specs.require(self, "shares", allowed, "one or more shares of the budget, in [0, 1]")
        specs.require_tick(self)

    def act(self, key: Array, obs: Observation, turns: int) -> Action:
        del key, turns
        steps = jnp.array([basis_points(share) for share in self.shares])
        return _offer(obs, part(obs.private, steps[jnp.minimum(obs.turn, len(steps) - 1)]), self.tick)


@dataclasses.dataclass(frozen=True)
class Concession:
    """Faratin's time-dependent tactic: the share k + (end - k) (t / (T - 1))^(1 / beta) of B, from k to `end`.

    Every share gets independent noise, uniform in [-noise, noise].
    """

    beta: float = 0.5
    k: float = 0.4
    end: float = 1.0
    noise: float = 0.0
    tick: int = 1

    def __post_init__(self):
        specs.require(self, "beta", self.beta > 0, "above 0")
        _check(self, "k", "end", "noise")

    def act(self, key: Array, obs: Observation, turns: int) -> Action:
        conceded = concession.alpha(concession.progress(obs.turn, turns), self.beta)
        share = self.k + (self.end - self.k) * conceded + jax.random.uniform(key, (), float, -self.noise, self.noise)
        return _offer(obs, part(obs.private, basis_points(jnp.maximum(share, 0.0))), self.tick)


@dataclasses.dataclass(frozen=True)
class TitForTat:
    """Faratin's random absolute tit-for-tat: opens at `start`, then raises by the seller's last concession.

    A concession is what the seller's lowest ask has come down by, at first from the list price: an ask that is raised
    and taken back is none, or a seller would be paid for asking ten times the price and then less. A uniform step of up
    to `noise` of B is added; the offer never falls.
    """

    start: float = 0.4
    noise: float = 0.02
    tick: int = 1

    def __post_init__(self):
        _check(self, "start", "noise")

    def act(self, key: Array, obs: Observation, turns: int) -> Action:
        asks_T = offers_made(obs, SELLER)

        def lowest(before: Array) -> Array:
            """The lowest ask of the turns before one; the list price if none was lower."""
            low = obs.price
            for turn, ask in enumerate(asks_T):
                low = jnp.where((ask != NONE) & (turn < before), jnp.minimum(low, ask), low)
            return low

        came_down = lowest(obs.turn - 1) - lowest(obs.turn)
        step = part(obs.private, uniform_bp(jax.random.uniform(key), 0, basis_points(self.noise)))
        own = last_offer(offers_made(obs, BUYER), obs.turn)
        opening = part(obs.private, basis_points(self.start))
        return _offer(obs, jnp.where(own == NONE, opening, own + came_down + step), self.tick)


BUYERS: dict[str, Buyer] = {"constant": Constant(), "linear": Linear(), "ladder": Ladder()}
BUYERS |= {"concession": Concession(), "tit_for_tat": TitForTat()}


def make(spec: str, **overrides: Any) -> Buyer:
    """A buyer of `BUYERS` by spec: `make("linear(start=0.5, end=1.0)", tick=100)`. See `specs.make`."""
    return specs.make(BUYERS, spec, **overrides)


_ANY, _HINTED, _NOTHING = "random", "hinted", "nothing"


@dataclasses.dataclass(frozen=True)
class Arguing:
    """Offers what another buyer does, and argues.

    buyer: the other's spec. script: a word for each turn, the last of which stands for all later turns: the kind of
    `Argument` to use; `hinted`, the one that the seller's words hinted at last, none before any; `random`, any kind or
    none, all equally likely; `nothing`. Of two words, `hinted/defect`, the second is for before any hint.
    """

    buyer: str = "linear"
    script: str = _ANY

    def __post_init__(self):
        make(self.buyer)
        known = {_ANY, _HINTED, _NOTHING, *(kind.name.lower() for kind in Argument)}
        words = {word for words in self.script.split() for word in words.split("/", 1)}
        specs.require(self, "script", bool(words) and words <= known, f"words among {', '.join(sorted(known))}")

    def act(self, key: Array, obs: Observation, turns: int) -> Action:
        key_words, key_price = jax.random.split(key)
        drawn = jax.random.randint(key_words, (), 0, len(Argument) + 1)
        hinted = last_hint(obs)
        said = {kind.name.lower(): jnp.int32(1 << kind) for kind in Argument}
        said |= {_NOTHING: jnp.int32(0), _HINTED: hinted, _ANY: jnp.where(drawn < len(Argument), 1 << drawn, 0)}

        def spoken(word: str) -> Array:
            after, _, before = word.partition("/")
            return jnp.where(hinted > 0, said[after], said[before or after])

        words = self.script.split()
        by_turn = jnp.stack([spoken(words[min(turn, len(words) - 1)]) for turn in range(turns)])
        return make(self.buyer).act(key_price, obs, turns).replace(acts=by_turn[obs.turn])


BUYERS["arguing"] = Arguing()  # Last: it makes its buyer from `BUYERS`.

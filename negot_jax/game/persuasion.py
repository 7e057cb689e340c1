"""A scripted seller that words move: what it takes depends on the arguments it has heard."""

import dataclasses

from flax import struct
import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from negot_jax.game import specs
from negot_jax.game.money import basis_points, dollars, part_up, uniform_bp
from negot_jax.game.seller import Stochastic, StochasticType
from negot_jax.game.types import BUYER, Action, Argument, Observation, Scenario

# What may move a seller. (Courtesy calms it, an insult offends it, whoever it is.)
MOVING = tuple(kind for kind in Argument if kind not in (Argument.COURTESY, Argument.INSULT))
_MOVES_A = np.isin(np.arange(len(Argument)), MOVING)


@struct.dataclass
class PersuadableType(StochasticType):
    """wish: int32 cents, the floor before any argument. weights_A: float32[kinds of `Argument`], what moves it."""

    wish: Array
    weights_A: Array


@dataclasses.dataclass(frozen=True)
class Persuadable(Stochastic):
    """A `Stochastic` seller whose floor comes down as it is persuaded, and whose words hint at what persuades it.

    Hidden, besides the type of a `Stochastic` with floor F:  u ~ U{wish} in basis points,
    W = F + ceil(u max(P0 - F, 0));  a ranking of the kinds in `MOVING`, drawn one after another with odds `pull`
    (Plackett-Luce). The first weighs weights[0], the second weights[1], the last weights[3], any other weights[2].

    With A_t the kinds in `MOVING` that the buyer's message of turn t uses, and n_kt the number of its earlier messages
    that used kind k,

        v_kt  = weight_k fade^n_kt                                        what kind k is worth: less every time
        m_t   = sum of v_kt over A_t, divided by |A_t|                    many at once dilute one another
        s_t   = clip(m_0 + ... + m_t - offense I_t - bluff L_t, 0, 1)     how far it is persuaded
        F_t   = F + ceil((1 - s_t) (W - F)),   walk_t = walk calm^(C_t)

    where I_t and C_t count the messages so far with an insult and with courtesy, and L_t those before this one with a
    threat to leave: that this one came proves them empty. F_t and walk_t take the places of F and `walk` in the
    equations of `Stochastic`.

    Its message has at most one act, which its words express. If a kind of A_t was worth more than weights[2], it is the
    one worth most: what moved it. Otherwise it is, with probability `candor`, the kind that would be worth most if used
    next. In place of either, with probability `feign`, it is any kind in `MOVING`.
    """

    margin: tuple[float, float] = (0.02, 0.1)
    beta: tuple[float, float] = (0.6, 2.0)
    reciprocity: tuple[float, float] = (0.0, 0.3)
    noise: float = 0.02
    walk: float = 0.2
    wish: tuple[float, float] = (0.3, 0.7)
    weights: tuple[float, float, float, float] = (0.55, 0.35, 0.05, -0.1)
    pull: tuple[float, ...] = (3.0, 1.0, 1.0, 2.0, 2.0, 1.0, 1.0, 1.0)
    fade: float = 0.4
    offense: float = 0.25
    bluff: float = 0.2
    calm: float = 0.5
    candor: float = 0.7
    feign: float = 0.0
    hears = True

    def __post_init__(self):
        super().__post_init__()
        specs.require(self, "wish", 0 <= self.wish[0] <= self.wish[1] <= 1, "0 <= low <= high <= 1")
        specs.require(self, "weights", len(self.weights) == 4, "four: of the first, second, other and last kinds")
        specs.require(self, "pull", len(self.pull) == len(MOVING) and min(self.pull) > 0, f"{len(MOVING)} above 0")
        for field in ("fade", "calm", "candor", "feign"):
            specs.require(self, field, 0 <= getattr(self, field) <= 1, "in [0, 1]")
        for field in ("offense", "bluff"):
            specs.require(self, field, getattr(self, field) >= 0, "at least 0")

    def describe(self, hidden: PersuadableType) -> dict[str, str]:
        moved = [f"{kind.name.lower()} {weight:+.2g}" for kind, weight in zip(Argument, hidden.weights_A, strict=True)]
        moved_by = ", ".join(moved[kind] for kind in MOVING)
        return super().describe(hidden) | {"wish": dollars(hidden.wish), "moved by": moved_by}

    def draw_type(self, key: Array, scenario: Scenario) -> PersuadableType:
        key_type, key_wish, key_rank = jax.random.split(key, 3)
        drawn = super().draw_type(key_type, scenario)
        share = uniform_bp(jax.random.uniform(key_wish), *basis_points(jnp.array(self.wish)))
        # A ranking by Gumbel noise is one by odds, without replacement (Yellott 1977).
        scores = jnp.log(jnp.array(self.pull)) + jax.random.gumbel(key_rank, (len(MOVING),))
        rank = jnp.sum(scores[:, None] < scores, axis=1)
        first, second, other, last = self.weights
        weights = jnp.select([rank == 0, rank == 1, rank == len(MOVING) - 1], [first, second, last], other)
        wish = drawn.floor + part_up(jnp.maximum(scenario.price - drawn.floor, 0), share)
        weights_A = jnp.zeros(len(Argument)).at[jnp.array(MOVING)].set(weights)
        return PersuadableType(**vars(drawn), wish=wish, weights_A=weights_A)

    def stance(self, hidden: PersuadableType, obs: Observation) -> tuple[Array, Array]:
        said_TxA = _kinds(obs.acts[:, BUYER])
        worth_T = _worth(said_TxA, hidden.weights_A, self.fade).sum(axis=1)
        moved_T = worth_T / jnp.maximum((said_TxA & _MOVES_A).sum(axis=1), 1)
        insults, threats, courtesies = (said_TxA[:, k] for k in (Argument.INSULT, Argument.THREAT, Argument.COURTESY))
        empty = threats & (jnp.arange(threats.size) < obs.turn)
        persuaded = jnp.clip(moved_T.sum() - self.offense * insults.sum() - self.bluff * empty.sum(), 0, 1)
        floor = hidden.floor + part_up(hidden.wish - hidden.floor, basis_points(1 - persuaded))
        return floor, self.walk * self.calm ** courtesies.sum()

    def act(self, key: Array, hidden: PersuadableType, obs: Observation, turns: int) -> Action:
        return super().act(key, hidden, obs, turns).replace(acts=self._hint(key, hidden, obs))

    def _hint(self, key: Array, hidden: PersuadableType, obs: Observation) -> Array:
        """The act of its message, int32, 0 for none."""
        key = jax.random.fold_in(key, 2)  # `Stochastic.act` uses 0 and 1.
        u_candor, u_feign, u_kind = jax.random.uniform(key, (3,))
        said_TxA = _kinds(obs.acts[:, BUYER])
        worth_A = _worth(said_TxA, hidden.weights_A, self.fade)[obs.turn]
        worth_A = jnp.where(said_TxA[obs.turn] & _MOVES_A, worth_A, -jnp.inf)
        moved_by = jnp.argmax(worth_A)
        moving = jnp.array(MOVING)
        next_A = hidden.weights_A * self.fade ** said_TxA.sum(0)
        would = jnp.argmax(jnp.where(_MOVES_A, next_A, -jnp.inf))
        feigned = moving[(u_kind * len(MOVING)).astype(jnp.int32)]
        moved = worth_A[moved_by] > jnp.float32(self.weights[2])
        kind = jnp.where(u_feign < self.feign, feigned, jnp.where(moved, moved_by, would))
        speaks = moved | (u_candor < self.candor) | (u_feign < self.feign)
        return jnp.where(speaks, 1 << kind, 0).astype(jnp.int32)


def _kinds(acts_T: Array) -> Array:
    """bool[T, A], from bits."""
    return (acts_T[:, None] >> jnp.arange(len(Argument)) & 1).astype(bool)


def _worth(said_TxA: Array, weights_A: Array, fade: float) -> Array:
    """v_kt of the kinds that were used, 0 for the others, float32[T, A]."""
    earlier_TxA = jnp.cumsum(said_TxA, axis=0) - said_TxA
    return jnp.where(said_TxA, weights_A * fade**earlier_TxA, 0.0)

"""A good buyer against a noisy seller: dynamic programming with a regressed continuation value.

The belief over `belief.Types` is exact on its grid, but too large to tabulate values over. So, as Longstaff and
Schwartz (2001) price options, the value of continuing after a refusal is regressed, turn by turn from the last one
back, on a few features of randomly drawn histories:

    V_t(h) = max_o  sum over types of P(type | h) P(takes o | type) u(o, type)
                    + discount P(refuses o | h) (1 - P(walks away | o)) C_t(h, o),

with C_t(h, o) ~ E[V_{t+1}(h') | h, o refused]. Everything but C_t is computed from the belief; in the last turn, which
has no C, the offer is optimal. The buyer that maximizes the right-hand side can be played, and what it earns is a lower
bound of the optimum.
"""

import dataclasses
import functools

import jax
from jax import Array
import jax.numpy as jnp
from jax.scipy.stats import norm

from negot_jax.game.types import NONE, Action, Observation
from negot_jax.solvers import belief
from negot_jax.solvers.belief import History, Types
from negot_jax.solvers.problem import Problem

# Among offers whose values are within this share of the best, about the fit's error, the buyer makes the lowest.
INDIFFERENCE = 0.005
_BATCH = 256  # Histories at once.


def _look(types: Types, turn: Array, history: History, offer: Array) -> tuple[Array, Array, Array]:
    """Judges one offer by the belief: expected payoff float32, P(refused) float32, features float32[D]."""
    left_KxR = history.belief * belief.refuses(types, turn, history, offer)
    next_turn = jnp.minimum(turn + 1, types.turns - 1)
    # One matrix product makes both sums over R, so the probabilities are computed once.
    left_K, conceded_K = (left_KxR @ jnp.stack([jnp.ones(left_KxR.shape[1]), types.conceded_TxR[next_turn]], axis=1)).T
    payoff = types.worth_JxK[jnp.searchsorted(types.prices_J, offer)] @ (jnp.sum(history.belief, axis=1) - left_K)
    refused = jnp.sum(left_K)
    share = 1 / jnp.maximum(refused, 1e-9)
    left_K = left_K * share
    # What the best single offer would earn if the seller went no lower: most of the value of continuing.
    sold_J = types.covered(types.worth_JxK) @ left_K
    mean = types.floor_K @ left_K
    deviation = jnp.sqrt(jnp.maximum(jnp.square(types.floor_K - mean) @ left_K, 0))
    # The mean of `belief.target` without a raise.
    ask = types.price - (types.price - types.floor_K) @ conceded_K * share
    seen = jnp.stack([mean, deviation, ask, history.cap, offer]) / types.price
    return payoff, refused, _quadratic(jnp.append(seen, jnp.max(sold_J)))


def _quadratic(x: Array) -> Array:
    """1, the features, and their pairwise products."""
    x = jnp.append(x, 1.0)
    rows, columns = jnp.triu_indices(x.size)
    return x[rows] * x[columns]


def _best(types: Types, weights_TxD: Array, turn: Array, history: History) -> tuple[Array, Array]:
    """V_t, and the offer (cents, 0 for none) that attains it."""

    def value(offer: Array) -> Array:
        payoff, refused, features = _look(types, turn, history, offer)
        going_on = jnp.maximum(features @ weights_TxD[turn], 0)
        total = payoff + types.discount * refused * belief.stays(types, offer) * going_on
        # An offer above the cap would overpay; no offer at all is possible only before the first one.
        possible = (offer <= jnp.ceil(history.cap / types.tick) * types.tick) & ((offer > 0) | (history.last == 0))
        return jnp.where(possible, total, -jnp.inf)

    value_J = jax.lax.map(value, types.prices_J)
    best = jnp.max(value_J)
    return best, types.prices_J[jnp.argmax(value_J >= best - INDIFFERENCE * jnp.abs(best))]


def _refuse(key: Array, types: Types, turn: Array, history: History, offer: Array) -> History:
    """The history one turn later: `offer` was refused, by a type and with an ask drawn from the belief."""
    key_type, key_ask = jax.random.split(key)
    left_KxR = history.belief * belief.refuses(types, turn, history, offer)
    chosen = jax.random.categorical(key_type, jnp.log(left_KxR.ravel() + 1e-30))
    k, r = jnp.unravel_index(chosen, left_KxR.shape)
    aim = belief.target(types, turn, belief.raised(history, offer))[k, r]
    # The noise is drawn conditional on an ask above the offer, unless the floor alone guarantees that.
    tick = types.tick
    above = jnp.where(types.floor_K[k] > offer, -jnp.inf, (offer // tick * tick - aim) / types.spread)
    u = jax.random.uniform(key_ask, minval=norm.cdf(above), maxval=1.0)
    drawn = aim + types.spread * norm.ppf(jnp.clip(u, 1e-6, 1 - 1e-6))
    ask = jnp.minimum(jnp.ceil(jnp.maximum(drawn, types.floor_K[k]) / tick) * tick, history.cap)
    return belief.hear(types, turn, history, offer, ask)


def _explore(key: Array, types: Types, history: History) -> Array:
    """An exploratory offer: mostly a raise, small ones more often, and sometimes anything."""
    key_raise, key_any, key_which = jax.random.split(key, 3)
    most = jnp.minimum(history.cap, types.prices_J[-1])
    up = history.last + (most - history.last) * jax.random.uniform(key_raise) ** 3
    offer = jnp.where(
        (history.last > 0) & (jax.random.uniform(key_which) < 0.8), up, most * jax.random.uniform(key_any)
    )
    index = jnp.searchsorted(types.prices_J, offer, side="right") - 1
    return types.prices_J[jnp.clip(index, 1, None)]


@functools.partial(jax.jit, static_argnames="samples")
def fit(key: Array, types: Types, samples: int) -> Array:
    """The regression: the weights of C_t, float32[T, D] (0 for the last turn)."""

    def trajectory(key: Array) -> tuple[History, Array]:
        """The history before each turn's offer, [T], and the features of continuing after it, [T, D]."""

        def turn(history: History, now: tuple[Array, Array]):
            turn, key = now
            key_offer, key_refuse = jax.random.split(key)
            offer = _explore(key_offer, types, history)
            _, _, features = _look(types, turn, history, offer)
            return _refuse(key_refuse, types, turn, history, offer), (history, features)

        now = (jnp.arange(types.turns), jax.random.split(key, types.turns))
        return jax.lax.scan(turn, belief.start(types), now)[1]

    histories, features = jax.lax.map(trajectory, jax.random.split(key, samples), batch_size=_BATCH)

    def earlier(weights: Array, turn: Array) -> tuple[Array, None]:
        """Adds the weights of the turn before `turn`."""
        reached = jax.tree.map(lambda x: x[:, turn], histories)
        values = jax.lax.map(lambda history: _best(types, weights, turn, history)[0], reached, batch_size=_BATCH)
        return weights.at[turn - 1].set(_ridge(features[:, turn - 1], values)), None

    weights = jnp.zeros((types.turns, features.shape[-1]))
    return jax.lax.scan(earlier, weights, jnp.arange(1, types.turns), reverse=True)[0]


def _ridge(x_NxD: Array, y_N: Array) -> Array:
    """Least squares, with the shrinkage that float32 needs."""
    scale = jnp.sqrt(jnp.mean(jnp.square(x_NxD), axis=0)) + 1e-9
    x = x_NxD / scale
    gram = x.T @ x / len(x) + 1e-5 * jnp.eye(x.shape[1])
    return jnp.linalg.solve(gram, x.T @ y_N / len(x)) / scale


@dataclasses.dataclass(frozen=True, eq=False)
class ReadingBuyer:
    """Updates its belief with every ask and makes the offer with the highest fitted value.

    Hashed by identity, so that it can be static under jit.
    """

    types: Types
    weights: Array

    def act(self, key: Array, obs: Observation, turns: int) -> Action:
        del key
        if turns != self.types.turns:
            raise ValueError(f"a buyer solved for {self.types.turns} turns cannot play {turns}: solve for {turns}")
        _, offer = _best(self.types, self.weights, obs.turn, self.recall(obs))
        return self.types.unit.propose_or_wait(offer.astype(jnp.int32), obs)

    def recall(self, obs: Observation) -> History:
        """The history, in prices of the market."""
        own_T, asks_T = self.types.unit.recall(obs)

        def hear(turn: Array, history: History) -> History:
            offer = jnp.maximum(own_T[turn], 0).astype(jnp.float32)
            ask = jnp.where(asks_T[turn] == NONE, history.cap, asks_T[turn].astype(jnp.float32))
            after = belief.hear(self.types, turn, history, offer, ask)
            return jax.tree.map(lambda new, old: jnp.where(turn < obs.turn, new, old), after, history)

        return jax.lax.fori_loop(0, self.types.turns, hear, belief.start(self.types))


def solve(key: Array, problem: Problem, step: int, *, samples: int = 4_096) -> ReadingBuyer:
    """A good buyer against a stochastic seller.

    Args:
      problem: its seller is a `Stochastic`, its products have one list price and budget.
      step: of the grid of floors and offers, cents. samples: histories in the regression.
    Raises:
      ValueError: see `belief.price_grid`.
    """
    types = belief.make_types(problem, step)
    return ReadingBuyer(types, fit(key, types, samples))

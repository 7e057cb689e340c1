"""Upper bounds of the optimum against a stochastic seller: the value of buyers who know more than the game reveals.

The clairvoyant knows cost and type. It waits for the last turn and offers the floor.

The second buyer is told the reciprocity w and, before its first offer, the asks of turns 0 .. T - 3 before bounds,
rounding and the answer to raises,

    y_t = F + (1 - alpha_t) (P0 - F) + e_t,    e_t ~ N(0, noise^2).

It is not told the floor, beta, or anything about the last two turns. What y reveals does not depend on the offers, so
all that remains in the early turns is to press the ask: after a raise from the buyer's lowest offer l to just under
the ask that the raise provokes, the ask is (y_t + w l) / (1 + w). Let z be the lowest ask obtained this way. If the
floor is above z, the seller asks exactly the floor, and the buyer, who sees that this is more than y allows, buys at
it. Otherwise it closes at z or continues with it, and the last two turns are solved exactly: the belief over floor and
beta, one more offer, every ask that may follow, and the last offer.

Extra information can only help, so the value bounds the optimum from above, up to the sampling of y and the grids.
"""

import functools

import jax
from jax import Array
import jax.numpy as jnp
import numpy as np

from negot_jax.game.money import BP
from negot_jax.solvers import belief
from negot_jax.solvers.belief import History, Types
from negot_jax.solvers.problem import Problem
from negot_jax.solvers.utilities import of_each

# The lowest offer, as a share of the insult threshold; the risk of a walk is charged. The first is next to nothing: a
# seller that hardly walks away is pressed the more, but an offer of 0 is none.
LOWEST = (1e-4, 0.25, 0.5, 0.75, 1.0)


def clairvoyant(problem: Problem) -> float:
    """The mean utility of buying at the floor if it is within the budget: exact at discount 1, otherwise a bound."""
    low, high = (round(share * BP) for share in problem.seller.margin)
    cost_Nx1 = np.asarray(problem.products.cost, np.int64)[:, None]
    floor_NxM = np.maximum(cost_Nx1 - -cost_Nx1 * np.arange(low, high + 1) // BP, cost_Nx1 + 1)
    worth_NxM = of_each(problem.utility, jnp.asarray(floor_NxM), problem.products)
    return float(jnp.mean(jnp.where(floor_NxM <= np.asarray(problem.products.budget)[:, None], worth_NxM, 0)))


def told_asks(key: Array, problem: Problem, step: int, *, samples: int = 256) -> tuple[float, float]:
    """The mean utility of the buyer who is told the early asks in advance, and its standard error.

    Args:
      step: of the grid of floors, offers and asks, cents.
      samples: draws of y, with floors at as many quantiles of the prior.
    """
    types = belief.make_types(problem, step, betas=8, reciprocities=1)
    value_S = _told(key, types, jnp.array(problem.seller.reciprocity), samples) * jnp.sum(types.prior_K)
    # Neighboring quantiles differ by little but their noise.
    error = jnp.sqrt(jnp.mean(jnp.square(value_S[::2] - value_S[1::2])) / 2 / samples)
    return float(jnp.mean(value_S)), float(error)


@functools.partial(jax.jit, static_argnames="samples")
def _told(key: Array, types: Types, reciprocity: Array, samples: int) -> Array:
    """float32[samples]: the value for each drawn y, given that the floor is within the budget."""
    turns, prices_J = types.turns, types.prices_J
    covered_JxK = types.covered(types.worth_JxK)
    if turns == 1:
        return jnp.full(samples, jnp.max(covered_JxK @ jnp.sum(belief.prior(types), axis=1)))
    # A deal at the floor itself, which lies anywhere in its cell: at the cell's lower price, to be on the safe side.
    at_floor_K = jnp.diagonal(types.worth_JxK)
    at_floor_JxK = types.covered(at_floor_K)
    asks_A = jnp.arange(0, types.price + types.tick, types.tick, jnp.float32)
    penultimate = turns - 2
    early = jnp.arange(penultimate)
    aim_TxKxR = jax.vmap(lambda turn: belief.target(types, turn, 0.0))(early)

    def last_two(types: Types, history: History) -> Array:
        """The value from the last but one turn on. The belief leaves out floors above the cap."""

        def offered(offer: Array) -> Array:
            sold_K = jnp.sum(history.belief * (1 - belief.refuses(types, penultimate, history, offer)), axis=1)
            payoff = types.worth_JxK[jnp.searchsorted(prices_J, offer)] @ sold_K
            # Summed over R at once, so that no array holds A x K x R numbers.
            more = lambda ask: history.belief * belief.asks_more(types, penultimate, history, offer, ask)
            more_AxK = jnp.sum(jax.vmap(more)(asks_A), axis=2)
            heard_AxK = jnp.where(asks_A[:-1, None] >= offer, more_AxK[:-1] - more_AxK[1:], 0)
            going_on = jnp.sum(jnp.max(covered_JxK @ heard_AxK.T, axis=0))
            value = payoff + types.discount * belief.stays(types, offer) * going_on
            return jnp.where(offer <= history.cap, value, 0)

        return jnp.max(jax.lax.map(offered, prices_J[::2]))  # Flat around its maximum: every other price will do.

    def sample(key: Array, quantile: Array) -> Array:
        key_beta, key_noise, key_reciprocity = jax.random.split(key, 3)
        k = jnp.searchsorted(jnp.cumsum(types.prior_K / jnp.sum(types.prior_K)), quantile)
        r = jax.random.randint(key_beta, (), 0, types.reciprocity_R.size)
        w = jax.random.uniform(key_reciprocity, minval=reciprocity[0], maxval=reciprocity[1])
        known = types.replace(reciprocity_R=jnp.full_like(types.reciprocity_R, w))
        y_T = aim_TxKxR[:, k, r] + types.spread * jax.random.normal(key_noise, early.shape)
        misses_TxKxR = (y_T[:, None, None] - aim_TxKxR) / types.spread
        logits_KxR = jnp.log(belief.prior(types) + 1e-30) - 0.5 * jnp.sum(jnp.square(misses_TxKxR), axis=0)
        belief_KxR = jax.nn.softmax(logits_KxR, axis=(0, 1))
        belief_K = jnp.sum(belief_KxR, axis=1)
        deal_J, floors_J = covered_JxK @ belief_K, at_floor_JxK @ belief_K

        def pressed(last: Array) -> Array:
            pressed_T = jnp.where(early > 0, jnp.minimum(y_T, (y_T + w * last) / (1 + w)), y_T)
            z = jnp.min(pressed_T, initial=types.price)
            cap = jnp.ceil(jnp.maximum(z, 1) / types.tick) * types.tick
            at_floor = floors_J[-1] - jnp.interp(cap, prices_J, floors_J)
            left_KxR = jnp.where(types.top_K[:, None] <= cap, belief_KxR, 0)
            going_on = types.discount**penultimate * last_two(known, History(left_KxR, cap, last))
            value = at_floor + jnp.maximum(jnp.interp(cap, prices_J, deal_J), going_on)
            return belief.stays(types, last) * value

        # Before the second turn there is no offer to raise.
        lows = jnp.array(LOWEST if turns > 2 else (0.0,)) * (types.insult * types.price)
        return jnp.max(jax.lax.map(pressed, lows))

    keys = jax.random.split(key, samples)
    quantiles = (jnp.arange(samples) + 0.5) / samples
    return jax.lax.map(lambda drawn: sample(*drawn), (keys, quantiles), batch_size=8)

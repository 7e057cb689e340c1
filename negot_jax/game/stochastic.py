"""The scripted seller to train against: a hidden type, and noisy asks."""

import dataclasses

from flax import struct
import jax
from jax import Array
import jax.numpy as jnp
from numpy.typing import ArrayLike

from negot_jax.game import concession, specs
from negot_jax.game.history import last_offer, offers_made
from negot_jax.game.money import BP, basis_points, dollars, highest_floor, part, uniform_bp
from negot_jax.game.seller import Seller, action, least, quote
from negot_jax.game.types import BUYER, MAX_PRICE, NONE, Action, Kind, Observation, Scenario


@struct.dataclass
class StochasticType:
    """floor: int32 cents, F. beta: float32. reciprocity: int32 basis points, w."""

    floor: Array
    beta: Array
    reciprocity: Array


@dataclasses.dataclass(frozen=True)
class Stochastic(Seller):
    """The seller to train against: a hidden type, and asks noisy enough to be worth reading.

    Hidden, drawn once per episode:  m ~ U{margin} in basis points, F = max(ceil(C (1 + m)), C + 1);  log beta ~ U[log
    of `beta`];  w ~ U{reciprocity} in basis points. With P = max(P0, F), o_t the offer in the buyer's message of turn
    t = 0 .. T - 1 and o' its latest one before that, in cents:

        alpha_t  = k + (1 - k) (t / (T - 1))^(1 / beta)
        raise_t  = max(o_t - o', 0), or 0 where either is missing
        x_t      = F + ceil((1 - alpha_t) (P - F)) - floor(w raise_t) + floor(e_t P0),    e_t ~ N(0, noise^2)
        ask_t    = min(tick * ceil(clip(x_t, F, cap_t) / tick), cap_t)

    where cap_t is its own last ask (at first P), and alpha_t and e_t are rounded to the nearest basis point. With s the
    buyer's standing offer, it

        takes s           if s >= ask_t, or t = T - 1 and s >= F;
        else walks away   with probability walk * max(1 - s / (insult P0), 0);
        else              asks ask_t.

    With no standing offer it neither takes nor walks. e_t and the walk are independent across turns.
    """

    margin: tuple[float, float] = (0.02, 0.25)
    beta: tuple[float, float] = (0.4, 2.0)
    reciprocity: tuple[float, float] = (0.0, 0.5)
    k: float = 0.05
    noise: float = 0.03
    insult: float = 0.35
    walk: float = 0.3
    tick: int = 1

    def __post_init__(self):
        specs.require(self, "margin", 0 <= self.margin[0] <= self.margin[1], "0 <= low <= high")
        specs.require(self, "beta", 0 < self.beta[0] <= self.beta[1], "0 < low <= high")
        specs.require(self, "reciprocity", 0 <= self.reciprocity[0] <= self.reciprocity[1], "0 <= low <= high")
        specs.require(self, "k", 0 <= self.k <= 1, "in [0, 1]")
        specs.require(self, "noise", self.noise >= 0, "at least 0")
        specs.require(self, "insult", self.insult > 0, "above 0 (walk=0 makes a seller that never walks away)")
        specs.require(self, "walk", 0 <= self.walk <= 1, "in [0, 1]")
        specs.require_tick(self)

    def highest_price(self, prices: ArrayLike, costs: ArrayLike) -> int:
        return highest_floor(prices, costs, self.margin[1])

    def describe(self, hidden: StochasticType) -> dict[str, str]:
        return {
            "floor": dollars(hidden.floor),
            "beta": f"{hidden.beta:.3g}",
            "reciprocity": f"{hidden.reciprocity / BP:.3g}",
        }

    def draw_type(self, key: Array, scenario: Scenario) -> StochasticType:
        u_margin, u_beta, u_reciprocity = jax.random.uniform(key, (3,))
        floor = least(scenario.cost, uniform_bp(u_margin, *basis_points(jnp.array(self.margin))))
        low, high = jnp.log(jnp.array(self.beta))
        return StochasticType(
            floor=jnp.clip(floor, scenario.cost + 1, MAX_PRICE),
            beta=jnp.exp(low + u_beta * (high - low)),
            reciprocity=uniform_bp(u_reciprocity, *basis_points(jnp.array(self.reciprocity))),
        )

    def stance(self, hidden: StochasticType, obs: Observation) -> tuple[Array, Array | float]:
        """F and `walk`, which a subclass may let depend on what was said."""
        del obs
        return hidden.floor, self.walk

    def act(self, key: Array, hidden: StochasticType, obs: Observation, turns: int) -> Action:
        key_noise, key_walk = jax.random.split(key)
        floor, walk = self.stance(hidden, obs)

        alpha = concession.alpha(concession.progress(obs.turn, turns), hidden.beta, self.k)
        target = concession.ask(jnp.maximum(obs.price, floor), floor, alpha)
        answer = part(_last_raise(obs), hidden.reciprocity)
        noise = part(obs.price, basis_points(self.noise * jax.random.normal(key_noise)))
        ask = quote(target - answer + noise, floor, obs, self.tick)

        offer = obs.offers[BUYER]
        stands = offer != NONE
        accepts = stands & ((offer >= ask) | ((obs.turn == turns - 1) & (offer >= floor)))
        walk = walk * (1 - offer / (self.insult * obs.price.astype(jnp.float32)))
        walks = stands & ~accepts & (jax.random.uniform(key_walk) < walk)
        kind = jnp.where(walks, Kind.QUIT, jnp.where(accepts, Kind.DEAL, Kind.OFFER))
        return action(kind, jnp.where(walks, NONE, jnp.where(accepts, offer, ask)))


def _last_raise(obs: Observation) -> Array:
    """int32 cents: how much the buyer's offer in this turn's message exceeds its latest one before, at least 0."""
    offers_T = offers_made(obs, BUYER)
    now, before = offers_T[obs.turn], last_offer(offers_T, obs.turn)
    return jnp.where((now != NONE) & (before != NONE), jnp.maximum(now - before, 0), 0)
